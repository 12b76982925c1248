"""What the README shows works as it stands there."""

import re
from pathlib import Path

import jax
import pytest

from fusion_bench.config import ModelConfig
from fusion_bench.fusion import registry
from fusion_bench.fusion.blueprint import Blueprint
from tests.tasks import make_inputs, make_task

TASK = make_task("image", "text", "audio")
README = (Path(__file__).parent.parent / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_operator_of_the_readme_is_a_strategy(monkeypatch):
    registry.strategies()  # imports what the package registers, before the copy
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    (snippet,) = [text for text in SNIPPETS if "@register" in text]
    namespace: dict = {"__name__": "readme"}
    exec(snippet, namespace)
    (spec,) = registry.parse_strategies("product:width=8", TASK)
    module = spec.build(Blueprint(TASK, ModelConfig(), jax.random.key(0)))
    assert module(make_inputs(TASK)).logits.shape[-1] == TASK.num_classes
    assert spec.options == {"width": 8}


def test_the_study_of_the_readme_gives_a_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (snippet,) = [text for text in SNIPPETS if "fusion_bench.run" in text]
    namespace: dict = {}
    exec(snippet, namespace)
    assert {"image-only", "concat"} <= set(namespace["frame"]["strategy"])
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
