"""What the README shows works as it stands there."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from fusion_bench.config import TrainingConfig
from fusion_bench.data.batches import to_device
from fusion_bench.fusion import registry
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.training.step import make_functions
from tests.tasks import BATCH, CONFIG, jit, make_dataset, make_inputs, make_task

DATASET = make_dataset()
README = (Path(__file__).parent.parent / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_operator_of_the_readme_is_a_strategy_that_learns(monkeypatch):
    monkeypatch.setattr(registry.REGISTRY, "known", registry.REGISTRY.registered())
    (snippet,) = [text for text in SNIPPETS if "@register" in text]
    exec(snippet, {"__name__": "readme"})
    task = make_task("image", "text", "audio")
    spec = registry.StrategySpec("product", {"out_features": 8})
    functions = make_functions(spec, DATASET.task, CONFIG, TrainingConfig(batch_size=32, learning_rate=0.01), 130)

    @jit
    def losses(seed, data, order, steps):
        state, first = functions.train(functions.init(seed), data, order, seed, steps)
        return first, functions.train(state, data, order, seed, steps)[1]

    order = jnp.asarray(DATASET.splits["train"])
    first, last = losses(jnp.int32(0), to_device(DATASET), order, jnp.int32(4))
    assert last < first
    module = spec.build(Blueprint(task, CONFIG, jax.random.key(0)))
    assert module(make_inputs(task)).logits.shape == (BATCH, task.num_classes)


def test_the_layer_of_the_readme_is_called():
    (snippet,) = [text for text in SNIPPETS if "import LowRank" in text]
    namespace: dict = {}
    exec(snippet, namespace)
    assert namespace["joint"].shape == (8, 128)


def test_the_study_of_the_readme_gives_a_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (snippet,) = [text for text in SNIPPETS if "fusion_bench.run" in text]
    namespace: dict = {}
    exec(snippet, namespace)
    assert {"image-only", "concat", "tensor:width=8"} <= set(namespace["frame"]["strategy"])
    assert (tmp_path / "runs/default/table.csv").exists()
    (snippet,) = [text for text in SNIPPETS if "load_run" in text]
    exec(snippet, namespace)
    assert namespace["logits"].shape == (2, 10)
    assert set(namespace["names"]) <= set(namespace["loaded"].class_names)


@pytest.mark.parametrize("target", ["bench", "test"])
def test_make_has_the_commands(target):
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    assert f"make {target}" in README
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)
