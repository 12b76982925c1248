"""Examples of a dataset: images with their captions."""

import textwrap
from collections.abc import Sequence

from fusion_bench.report.plots.marks import Axis, Image, Panel, Picture
from fusion_bench.store.examples import Example


def picture(examples: Sequence[Example], dataset: str) -> Picture:
    """Returns images in a grid, each with its class, the target if that is another, and the caption."""
    panels = {}
    for number, example in enumerate(examples):
        target = "" if example.name == example.target else f"Target: {example.target}.\n"
        text = target + textwrap.fill(f"“{example.caption}”", 32)
        panels[f"{number + 1}. {example.name}"] = Panel([Image(example.image, text)], Axis(), Axis())
    caption = f"Test examples of {dataset}: the class of each image and its caption."
    return Picture("examples", "Examples", caption, panels, size=(1.38, 1.85), columns=5, has_key=False)
