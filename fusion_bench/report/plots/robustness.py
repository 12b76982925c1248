"""Accuracy under corruptions, with dropped words and with missing modalities, as curves."""

import numpy as np

from fusion_bench.families import FAMILIES
from fusion_bench.report.findings import Findings
from fusion_bench.report.palette import PALE
from fusion_bench.report.plots.marks import DASHES, Axis, Line, Mark, Panel, Picture, curve
from fusion_bench.report.text import INTERVAL


def picture(found: Findings) -> Picture | None:
    """Returns a panel for each corruption, one for dropped words, and one for each modality that may be missing."""
    panels = {}
    corruptions = dict.fromkeys(match[1] for match in found.diagnosed(r"accuracy_(.+)_[1-5]"))
    for name in corruptions:
        values = {0.0: "accuracy_clean"} | {float(s): f"accuracy_{name}_{s}" for s in range(1, 6)}
        panels[f"image: {name.replace('_', ' ')}"] = _panel(found, values, Axis("severity", (-0.1, 5.1)))
    rates = {float(m[1]): m[0] for m in found.diagnosed(r"accuracy_words_dropped_([\d.]+)")}
    if rates:
        axis = Axis("fraction of the words that are dropped", (-0.02, 1.02))
        ceilings = {rate: name.replace("accuracy", "ceiling") for rate, name in rates.items()}
        panels["text: dropped words"] = _panel(found, {0.0: "accuracy_clean"} | rates, axis, ceilings)
    for match in found.diagnosed(r"accuracy_without_([^_]+)"):
        axis = Axis("fraction of examples without it", (-0.02, 1.02))
        panels[f"{match[1]} missing"] = _panel(found, {0.0: "test_accuracy", 1.0: match[0]}, axis)
    panels = {name: panel for name, panel in panels.items() if panel.marks}
    if not panels:
        return None
    return Picture(
        "robustness", "What the strategies bear",
        f"Mean accuracy of the best strategy of each family on validation over {found.seeds_text(found.leaders)}; "
        f"bands: {INTERVAL}. The severities are those of CIFAR-10-C. With examples that lack a modality independently, "
        "the expected accuracy is exactly on the line. Grey: the exact ceiling of what is left of the text.",
        panels, chooser="disturbance", size=(3.45, 2.2),
    )  # fmt: skip


def _panel(found: Findings, values: dict[float, str], x: Axis, ceilings: dict[float, str] | None = None) -> Panel:
    """Returns a curve of each leading strategy through the values at some places."""
    marks: list[Mark] = []
    names, dashes = list(found.measured["strategy"]), dict.fromkeys(FAMILIES, 0)
    known = {place: found.values(name) for place, name in values.items() if found.diagnosed(name)}
    known = {place: value for place, value in known.items() if not np.isnan(value[0]).all()}
    for strategy in found.leaders:
        row = names.index(strategy)
        points = [(place, 100 * mean[row], 100 * width[row]) for place, (mean, width) in sorted(known.items())]
        points = [point for point in points if not np.isnan(point[1])]
        if len(points) < 2:
            continue
        family = found.families[strategy]
        hover = [f"{strategy}\n{place:g}: {mean:.2f} ± {width:.2f} %" for place, mean, width in points]
        look = {"dash": DASHES[dashes[family] % len(DASHES)], "family": family, "hover": hover, "width": 1.2}
        dashes[family] += 1
        places, mean, width = np.array(points).T
        marks += curve(places, mean, width, strategy, FAMILIES[family].colour, **look)
    lines = {
        place: 100 * np.nanmax(v)
        for place, name in (ceilings or {}).items()
        if not np.isnan(v := found.values(name)[0]).all()
    }
    if lines and marks:
        places = sorted(lines)
        marks.append(Line(places, [lines[place] for place in places], "ceiling: text only", PALE, "dot", 1.0))
    return Panel(marks, x, Axis("accuracy, %", (0.0, 101.0)))
