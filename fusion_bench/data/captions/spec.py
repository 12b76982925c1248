"""Names of caption channels: presets, options, and the file of a speaker.

half                         a preset
half:named=0.2:wrong=0.1     with other options
default:speaker=FILE         the class that a caption speaks of is what people said, see speaker.py
human:FILE                   the same; further options may follow
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion_bench import errors, files
from fusion_bench.data.captions import formats

HUMAN = "human"
"""Name of the channel of a speaker: `default` but for what it is about."""
HUMAN_SUMMARY = "default captions about what people called each image, from FILE"
_OPTIONS = ("named", "grouped", "partition", "wrong", "shift", "speaker")
_SPEAKER = re.compile(rf"(?P<before>{HUMAN}:|[^/]*?:speaker=)(?P<file>.*?)(?P<after>(:\w+=.*)?)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class ChannelSpec:
    """The parameters of a channel.

    Attributes:
      name: as in `fusion-bench list`.
      named: probability that the informative word is a noun of the class.
      grouped: probability that it is the word of the class's group.
      partition: which of the lexicon's partitions gives the groups; None if `grouped` is 0.
      wrong: probability that the word is about another class.
      shift: probability that the target is shifted by a uniform k, which the text states.
      summary: what the channel isolates.
      speaker: path of the file that says which class a person named for each image, which the word is about; None for a
        class that is drawn. See speaker.py.

    Raises:
      UserError: a probability is outside 0..1, named + grouped exceeds 1, grouped > 0 without a partition, or wrong > 0
        with a speaker.
    """

    name: str
    named: float = 0.0
    grouped: float = 0.0
    partition: str | None = None
    wrong: float = 0.0
    shift: float = 0.0
    summary: str = ""
    speaker: str | None = None

    def __post_init__(self) -> None:
        for field in ("named", "grouped", "wrong", "shift"):
            if not 0 <= (value := getattr(self, field)) <= 1:
                raise errors.UserError(f"channel {self.name!r}: {field} is {value}, not in 0..1")
        if self.named + self.grouped > 1 + 1e-12:  # .7 + .3 may exceed 1 by a rounding
            raise errors.UserError(f"channel {self.name!r}: named + grouped is {self.named + self.grouped}, above 1")
        if self.grouped and self.partition is None:
            raise errors.UserError(f"channel {self.name!r}: grouped > 0 needs the name of a partition")
        if self.speaker is not None and self.wrong:
            raise errors.UserError(
                f"channel {self.name!r}: wrong is {self.wrong} beside a speaker, whose errors are counted"
            )


PRESETS: Mapping[str, ChannelSpec] = {
    spec.name: spec
    for spec in (  # name, named, grouped, partition, wrong, shift, summary
        ChannelSpec("default", 0.4, 0.3, "coarse", 0.1, 0.0, "both modalities help, neither suffices"),
        ChannelSpec("clean", 1.0, 0.0, None, 0.0, 0.0, "text always names the class (a control)"),
        ChannelSpec("neutral", 0.0, 0.0, None, 0.0, 0.0, "text says nothing (a control: fusion must not hurt)"),
        ChannelSpec("half", 0.5, 0.0, None, 0.0, 0.0, "text names the class in half of the captions"),
        ChannelSpec("noisy", 1.0, 0.0, None, 0.4, 0.0, "text that is often wrong"),
        ChannelSpec("coarse", 0.0, 1.0, "coarse", 0.0, 0.0, "text repeats what images make easy"),
        ChannelSpec("contrast", 0.0, 1.0, "contrast", 0.0, 0.0, "as many bits as coarse, about what images make hard"),
        ChannelSpec("pairs", 0.0, 1.0, "pairs", 0.0, 0.0, "text leaves the choice within a hard pair to the image"),
        ChannelSpec(
            "synergy", 0.0, 0.0, None, 0.0, 1.0, "each modality alone is at chance; only an interaction decides"
        ),
        ChannelSpec("mixed", 0.4, 0.3, "coarse", 0.1, 0.3, "default captions, three in ten of which shift the target"),
    )
}


def parse_spec(name: str) -> ChannelSpec:
    """Returns the parameters of a channel by its name.

    Raises:
      UserError: there is no such preset or option, or a value is not of its type.
    """
    preset, _, rest = name.partition(":")
    assignments = re.split(r":(?=\w+=)", rest) if rest else []
    if preset == HUMAN:
        assignments[:1] = [f"speaker={''.join(assignments[:1])}"]
    elif preset not in PRESETS:
        raise errors.unknown_name("caption channel", preset, (*PRESETS, HUMAN))
    changes: dict[str, Any] = {}
    for assignment in assignments:
        field, _, value = assignment.partition("=")
        if field not in _OPTIONS:
            raise errors.unknown_name(f"option of the channel {preset}", field, _OPTIONS)
        try:
            changes[field] = value if field in ("partition", "speaker") else float(value)
        except ValueError:
            raise errors.UserError(f"{field} of the channel {preset} is a probability, not {value!r}") from None
    if len(changes) < len(assignments):
        raise errors.UserError(f"channel {recorded_name(name)!r}: an option is given twice; once is right")
    if "speaker" in changes:
        if not changes["speaker"]:
            raise errors.UserError(f"the channel {name!r} needs a file of what people said, such as {HUMAN}:FILE.csv")
        changes = {"wrong": 0.0} | changes
    return dataclasses.replace(PRESETS["default" if preset == HUMAN else preset], name=recorded_name(name), **changes)


def is_caption_file(name: str) -> bool:
    """Returns whether `name` means a file of captions rather than a caption channel, which may have settings."""
    if _SPEAKER.fullmatch(name):
        return False
    return formats.ending(Path(name)) is not None or (":" not in name and Path(name).suffix != "")


def recorded_name(name: str) -> str:
    """Returns the name of captions without the folder of a file, be it of captions or of a speaker."""
    if found := _SPEAKER.fullmatch(name):
        return found["before"] + files.recorded_name(found["file"]) + found["after"]
    return files.recorded_name(name)


def placed_name(recorded: str, place: str) -> str:
    """Returns a recorded name of captions with the path of its file, if `place` is that path or a name that has it."""
    if recorded_name(place) == recorded:
        return place
    found = _SPEAKER.fullmatch(recorded)
    if found and files.recorded_name(place) == found["file"]:
        return found["before"] + place + found["after"]
    return recorded
