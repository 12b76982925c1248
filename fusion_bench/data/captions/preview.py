"""A caption channel at a glance: its figures and some captions. What `fusion-bench captions NAME` prints."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from fusion_bench.data.captions.channel import Channel, make_channel, sample, write_captions

_STREAM = 0x94E7  # Keeps these draws apart from the channel's, which have the same seed.


@dataclasses.dataclass(frozen=True)
class Example:
    """One caption, and what it was drawn from."""

    caption: str
    class_name: str
    word: str
    shift: int
    target_name: str


@dataclasses.dataclass(frozen=True)
class Preview:
    """A channel, which has the figures, and captions drawn from it."""

    channel: Channel
    examples: tuple[Example, ...]


def preview(name: str, class_names: Sequence[str], count: int = 10, seed: int = 0) -> Preview:
    """Returns a preset channel over the given classes and `count` captions of uniformly drawn classes.

    Raises:
      UserError: there is no preset of that name.
    """
    channel = make_channel(name, class_names)
    classes = np.random.Generator(np.random.PCG64([seed, _STREAM])).integers(channel.num_classes, size=count)
    drawn = sample(channel, classes, seed)
    texts = write_captions(channel, drawn, seed)
    examples = tuple(
        Example(
            caption=texts[i],
            class_name=class_names[int(classes[i])],
            word=channel.words[int(drawn.words[i])],
            shift=int(drawn.shifts[i]),
            target_name=class_names[int(drawn.targets[i])],
        )
        for i in range(count)
    )
    return Preview(channel, examples)
