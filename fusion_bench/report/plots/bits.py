"""Bits of information: what the data hold, and what each strategy's predictions use."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from fusion_bench.report.findings import Findings
from fusion_bench.report.palette import BLUE, GREEN, ORANGE, PALE
from fusion_bench.report.plots.marks import Axis, Bars, Panel, Picture

OF_DATA = {"bits_data": "data: a perfect image model", "bits_image_model": "data: this image model"}
"""The first bars, by the beginning of their values' names."""
USED = "bits_used"


def picture(found: Findings) -> Picture | None:
    """Returns stacked bars: the parts of the information in the data, and of that in each strategy's predictions."""
    rows = found.measured
    rows = rows.loc[~np.isnan(found.values(f"{USED}_redundant", rows)[0])].reset_index(drop=True)
    if rows.empty:
        return None
    parts = [match[1] for match in found.diagnosed(f"{USED}_(redundant|unique_.+|synergistic)")]
    data = {name: label for name, label in OF_DATA.items() if found.diagnosed(f"{name}_redundant")}
    names = [*data.values(), *rows["strategy"]]
    values = {
        part: np.array(
            [*(_first(found, f"{name}_{part}", rows) for name in data), *found.values(f"{USED}_{part}", rows)[0]]
        )
        for part in parts
    }
    panel = stacked(names, values)
    return Picture(
        "bits", "Bits in the data and bits used",
        "Partial information decomposition (Bertschinger et al. 2014): above, of what image and caption tell of the "
        "target; below, of what they tell of each strategy's predictions. Mean over "
        f"{found.seeds_text(rows['strategy'])}.",
        {panel.x.label: panel}, size=(3.9, 1.0 + 0.155 * len(names)), height=170 + 20 * len(names),
    )  # fmt: skip


def stacked(names: Sequence[str], values: Mapping[str, Float[np.ndarray, " row"]]) -> Panel:
    """Returns lying bars, one a name, of the parts "redundant", "unique_MODALITY" and "synergistic", in bits."""
    colours = iter((BLUE, ORANGE))
    marks, base = [], np.zeros(len(names))
    for part in sorted(values, key=lambda part: ("redundant", "unique", "synergistic").index(part.partition("_")[0])):
        kind, _, modality = part.partition("_")
        label, shade = {
            "redundant": ("redundant: either tells", (PALE, 0.8)),
            "unique": (f"unique: {modality} alone tells", (next(colours) if kind == "unique" else PALE, 0.9)),
            "synergistic": ("synergistic: both together tell", (GREEN, 0.9)),
        }[kind]
        hover = [f"{name}\n{label}: {bit:.3f} bits" for name, bit in zip(names, values[part], strict=True)]
        bits = np.nan_to_num(values[part])
        marks.append(Bars(np.arange(len(names)), bits, 0.75, shade, label, hover=hover, base=base, is_lying=True))
        base = base + bits
    x = Axis("bits", (0.0, 1.03 * float(base.max()) or 1.0))
    return Panel(marks, x, Axis(names=tuple(names)))


def _first(found: Findings, name: str, rows: pd.DataFrame) -> float:
    """Returns a value of the data, the same for all strategies up to the seeds that they have: its mean over rows."""
    values = found.values(name, rows)[0]
    return float(np.nanmean(values)) if (~np.isnan(values)).any() else np.nan
