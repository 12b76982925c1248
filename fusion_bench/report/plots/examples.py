"""Examples of a dataset: images with their captions."""

import textwrap
from collections.abc import Sequence

from fusion_bench.report.plots.marks import Axis, Image, Panel, Picture
from fusion_bench.store.examples import Example


def picture(examples: Sequence[Example], dataset: str) -> Picture:
    """Returns images in a grid, each with its class, the target if that is another, and the caption."""
    panels = {}
    for number, example in enumerate(examples):
        heading = example.name if example.name == example.target else f"{example.name}, target {example.target}"
        text = textwrap.fill(f"{number + 1}: {example.caption}", 30)
        panels[f"{heading}\n{text}"] = Panel([Image(example.image)], Axis(), Axis())
    caption = f"Test examples of {dataset}: the class of each image and its caption."
    return Picture("examples", "Examples", caption, panels, size=(1.38, 1.75), columns=5, has_key=False)
