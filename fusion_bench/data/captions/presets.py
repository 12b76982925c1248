"""Parameters of caption channels: the presets, and how one is read from text."""

import dataclasses
from collections.abc import Mapping

from fusion_bench import errors


@dataclasses.dataclass(frozen=True)
class ChannelSpec:
    """The parameters of a channel.

    Attributes:
      name: as in `fusion-bench list`.
      named: probability that the informative word is a noun of the class.
      grouped: probability that it is the word of the class's group.
      partition: which of the lexicon's partitions gives the groups; None if `grouped` is 0.
      wrong: probability that the word is about another class.
      shift: probability that the target is shifted by a uniform k, which the text tells.
      summary: what the channel isolates.

    Raises:
      UserError: a probability is outside 0..1, named + grouped exceeds 1, or grouped > 0 without a partition.
    """

    name: str
    named: float = 0.0
    grouped: float = 0.0
    partition: str | None = None
    wrong: float = 0.0
    shift: float = 0.0
    summary: str = ""

    def __post_init__(self) -> None:
        for field in ("named", "grouped", "wrong", "shift"):
            if not 0 <= getattr(self, field) <= 1:
                raise errors.UserError(f"channel {self.name!r}: {field} is {getattr(self, field)}, not in 0..1")
        if self.named + self.grouped > 1 + 1e-12:  # .7 + .3 may exceed 1 by a rounding
            raise errors.UserError(f"channel {self.name!r}: named + grouped is {self.named + self.grouped}, above 1")
        if self.grouped and self.partition is None:
            raise errors.UserError(f"channel {self.name!r}: grouped > 0 needs the name of a partition")


_SPECS = (  # name, named, grouped, partition, wrong, shift, what it isolates
    ChannelSpec("default", 0.4, 0.3, "coarse", 0.1, 0.0, "both modalities help, neither suffices"),
    ChannelSpec("clean", 1.0, 0.0, None, 0.0, 0.0, "the leak itself: text alone is 100 % (a control)"),
    ChannelSpec("neutral", 0.0, 0.0, None, 0.0, 0.0, "text says nothing (a control: fusion must not hurt)"),
    ChannelSpec("half", 0.5, 0.0, None, 0.0, 0.0, "unique information, on or off"),
    ChannelSpec("noisy", 1.0, 0.0, None, 0.4, 0.0, "text that is often wrong"),
    ChannelSpec("coarse", 0.0, 1.0, "coarse", 0.0, 0.0, "text repeats what images make easy"),
    ChannelSpec("contrast", 0.0, 1.0, "contrast", 0.0, 0.0, "the bits of coarse, on what images make hard"),
    ChannelSpec("pairs", 0.0, 1.0, "pairs", 0.0, 0.0, "text leaves exactly the hard choice to the image"),
    ChannelSpec("synergy", 0.0, 0.0, None, 0.0, 1.0, "alone each is at chance; only an interaction decides"),
    ChannelSpec("mixed", 0.4, 0.3, "coarse", 0.1, 0.3, "everything at once"),
)

PRESETS: Mapping[str, ChannelSpec] = {spec.name: spec for spec in _SPECS}
_SETTINGS = ("named", "grouped", "partition", "wrong", "shift")


def parse_channel(text: str) -> ChannelSpec:
    """Reads a preset's name with what is to differ from it: "synergy:shift=0.5".

    Raises:
      UserError: there is no preset of that name, or a setting is none of a channel's.
    """
    name, *settings = text.split(":")
    if name not in PRESETS:
        raise errors.unknown_name("caption channel", name, PRESETS)
    changes: dict[str, float | str] = {}
    for setting in settings:
        field, _, value = setting.partition("=")
        if field not in _SETTINGS:
            raise errors.unknown_name(f"setting of the channel {name}", field, _SETTINGS)
        try:
            changes[field] = value if field == "partition" else float(value)
        except ValueError:
            raise errors.UserError(f"{field} of the channel {name} is a probability, not {value!r}") from None
    return dataclasses.replace(PRESETS[name], name=text, **changes) if changes else PRESETS[name]
