"""Similarity of encoders between strategies: centred kernel alignment, as a heat map."""

import numpy as np

from fusion_bench.report.findings import Findings
from fusion_bench.report.palette import BLUE
from fusion_bench.report.plots.marks import Axis, HeatMap, Panel, Picture


def picture(found: Findings) -> Picture | None:
    """Returns a panel for each modality: strategies by strategies."""
    rows, panels = list(found.measured["strategy"]), {}
    for modality in dict.fromkeys(match[1] for match in found.diagnosed(r"cka_([^_]+)_with_.+")):
        columns = {m[2]: found.values(m[0])[0] for m in found.diagnosed(f"cka_({modality})_with_(.+)") if m[2] in rows}
        shown = [row for row, name in enumerate(rows) if name in columns]
        names = tuple(rows[row] for row in shown)
        if len(names) < 2:
            continue
        cells = np.array([[columns[other][row] for other in names] for row in shown])
        np.fill_diagonal(cells, found.values(f"cka_{modality}_seeds")[0][shown])
        panels[modality] = _panel(cells, names)
    if not panels:
        return None
    side = 1.5 + 0.24 * max(len(panel.y.names) for panel in panels.values())
    return Picture(
        "similarity", "Similarity of encoders",
        "Linear centred kernel alignment of a modality's features on test examples, unbiased estimator (Song et al. "
        f"2012), mean over {found.seeds_text(rows)}, between strategies of one seed; on the diagonal between seeds.",
        panels, chooser="modality", size=(side, side), height=int(260 + 24 * len(rows)), has_key=False, is_wide=True,
    )  # fmt: skip


def _panel(cells: np.ndarray, names: tuple[str, ...]) -> Panel:
    texts = [["" if np.isnan(cell) else f"{100 * cell:.0f}" for cell in row] for row in cells]
    hover = [
        [f"{name}, {other}\nCKA {cell:.3f}" for other, cell in zip(names, row, strict=True)]
        for name, row in zip(names, cells, strict=True)
    ]
    scale = [(0.0, (BLUE, 0.0)), (1.0, (BLUE, 0.9))]
    return Panel([HeatMap(cells, scale, (0.0, 1.0), texts, hover)], Axis(names=names), Axis(names=names))
