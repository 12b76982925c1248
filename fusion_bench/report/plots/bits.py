"""Bits of information: what the data hold, and what each strategy's predictions use."""

import numpy as np
import pandas as pd

from fusion_bench.report.findings import Findings
from fusion_bench.report.palette import BLUE, GREEN, ORANGE, PALE, Shade
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
    unique = [match[1] for match in found.diagnosed(f"{USED}_unique_(.+)")]
    shades: dict[str, tuple[str, Shade]] = {"redundant": ("redundant: either tells", (PALE, 0.8))}
    for name, colour in zip(unique, (BLUE, ORANGE), strict=False):
        shades[f"unique_{name}"] = f"unique: {name} alone tells", (colour, 0.9)
    shades["synergistic"] = "synergistic: both together tell", (GREEN, 0.9)
    data = {name: label for name, label in OF_DATA.items() if found.diagnosed(f"{name}_redundant")}
    names = [*data.values(), *rows["strategy"]]
    marks, base = [], np.zeros(len(names))
    for part, (label, shade) in shades.items():
        bits = np.array(
            [*(_first(found, f"{name}_{part}", rows) for name in data), *found.values(f"{USED}_{part}", rows)[0]]
        )
        hover = [f"{name}\n{label}: {bit:.3f} bits" for name, bit in zip(names, bits, strict=True)]
        bits = np.nan_to_num(bits)
        marks.append(Bars(np.arange(len(names)), bits, 0.75, shade, label, hover=hover, base=base, is_lying=True))
        base = base + bits
    x, y = Axis("bits about the target", (0.0, 1.03 * float(base.max()))), Axis(names=tuple(names))
    return Picture(
        "bits", "Bits in the data and bits used",
        "Partial information decomposition (Bertschinger et al. 2014): above, of what image and caption tell of the "
        "target; below, of what they tell of each strategy's predictions. Mean over "
        f"{found.seeds_text(rows['strategy'])}.",
        {x.label: Panel(marks, x, y)}, size=(3.9, 1.0 + 0.155 * len(names)), height=170 + 20 * len(names),
    )  # fmt: skip


def _first(found: Findings, name: str, rows: pd.DataFrame) -> float:
    """Returns a value of the data, the same for all strategies up to the seeds that they have: its mean over rows."""
    values = found.values(name, rows)[0]
    return float(np.nanmean(values)) if (~np.isnan(values)).any() else np.nan
