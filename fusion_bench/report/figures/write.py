"""Writes the figures of a setting."""

import re
from collections.abc import Callable
from pathlib import Path

from fusion_bench.report.figures import accuracy, calibration, confusion, cost, curves, roc, significance
from fusion_bench.report.figures.canvas import STYLE, save
from fusion_bench.report.findings import Findings

FIGURES: dict[str, Callable] = {
    "accuracy": accuracy.draw,
    "cost": cost.draw,
    "curves": curves.draw,
    "calibration": calibration.draw,
    "significance": significance.draw,
    "roc": roc.draw,
}
"""Each returns a figure, or None where the runs have nothing to show."""


def write_figures(found: Findings, folder: Path) -> list[Path]:
    """Writes every figure as FOLDER/NAME.svg and .png, and returns the paths without an ending.

    Raises:
      OSError: the folder cannot be written to.
    """
    import matplotlib

    written = []
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]  # its keys are checked when it is entered
        for name, draw in FIGURES.items():
            figure = draw(found)
            if figure is not None:
                written.append(folder / name)
                save(figure, written[-1])
        for strategy in found.diagnoses:
            written.append(folder / "confusion" / _file_name(strategy))
            save(confusion.draw(found, strategy), written[-1])
    return written


def _file_name(strategy: str) -> str:
    """Returns a strategy's label as a file is called: "tensor:width=8" as "tensor-width-8"."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", strategy).strip("-")
