"""Examples on the page: test images with their captions, and the predictions of some strategies."""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.special import softmax

from fusion_bench.families import MULTIMODAL
from fusion_bench.report.findings import Findings
from fusion_bench.store.examples import Example

SHOWN = 10


def gallery(found: Findings) -> str:
    """Returns the stored examples as HTML: the first ones, and confident errors of the best multimodal strategy."""
    strategies = [name for name in found.leaders if name in found.tests]
    rows = found.measured.loc[found.measured["family"].isin(MULTIMODAL) & found.measured["strategy"].isin(strategies)]
    if not found.examples or rows.empty:
        return ""
    best = str(rows.loc[rows["test_accuracy_mean"].idxmax(), "strategy"])
    probabilities = {name: softmax(found.tests[name][0][0].astype(np.float64), axis=1) for name in strategies}
    labels = found.tests[best][0][1]
    examples = [example for example in found.examples if example.position < len(labels)]
    wrong = [e for e in examples if probabilities[best][e.position].argmax() != labels[e.position]]
    wrong.sort(key=lambda example: -probabilities[best][example.position].max())

    def cards(examples: Sequence[Example]) -> str:
        drawn = (_card(example, int(labels[example.position]), probabilities, found) for example in examples)
        return f'<ul class="cards">{"".join(drawn)}</ul>'

    text = f"<h4>Test examples of each class in turn</h4>{cards(examples[:SHOWN])}"
    if wrong:
        text += f"<h4>Most confident errors of {html.escape(best)}</h4>{cards(wrong[:SHOWN])}"
    note = "Below each image: class, caption, and the prediction of the best strategy of each family (first seed)."
    return f'<div class="examples"><h3>Examples</h3><p>{note}</p>{text}</div>'


def _card(example: Example, label: int, probabilities: dict[str, np.ndarray], found: Findings) -> str:
    target = "" if example.name == example.target else f", target {example.target}"
    answers = ""
    for name, of_strategy in probabilities.items():
        given = of_strategy[example.position]
        answer = int(given.argmax())
        mark, said = ("✓", "right") if answer == label else ("✗", "wrong")
        text = f"{name}: {found.class_names[answer]}, {100 * given[answer]:.0f}\u00a0%"
        answers += f'<li class="{said}"><span aria-label="{said}">{mark}</span> {html.escape(text)}</li>'
    return (
        f'<li><img src="{_data_address(example.image)}" alt="{html.escape(example.name)}">'
        f"<strong>{html.escape(example.name + target)}</strong><q>{html.escape(example.caption)}</q>"
        f"<ul>{answers}</ul></li>"
    )


def _data_address(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
