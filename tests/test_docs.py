"""Snippets and commands of the README and of docs/ work as they stand there."""

import importlib.util
import re
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import tyro

from fusion_bench import cli
from fusion_bench.cli import main
from fusion_bench.config import TrainingConfig
from fusion_bench.data.batches import to_device
from fusion_bench.fusion import registry
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.training.step import make_functions
from tests.experiments.loading import EXPERIMENTS, load
from tests.tasks import BATCH, CONFIG, jit, make_dataset, make_inputs, make_task

DATASET = make_dataset()
ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {path.name: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
SNIPPETS = [snippet for text in PAGES.values() for snippet in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
COMMANDS = [
    pytest.param(line, id=f"{name}: {line}")
    for name, text in PAGES.items()
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    for line in re.findall(r"^\$ (.*?)(?: +#.*)?$", block, re.MULTILINE)
]


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


def test_every_snippet_is_run_here():
    """But the one that starts processes of a cluster, which tests/training/test_mesh.py does."""
    run = ("@register", "import LowRank", "fusion_bench.run", "load_run")
    assert [text for text in SNIPPETS if not any(word in text for word in run)] == [
        text for text in SNIPPETS if "jax.distributed.initialize" in text
    ]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_understood(line, monkeypatch):
    program, *arguments = shlex.split(line)
    match program:
        case "fusion-bench":
            commands = {name: (form, lambda command, console: 0) for name, (form, _) in cli._COMMANDS.items()}
            monkeypatch.setattr(cli, "_COMMANDS", commands)
            with pytest.raises(SystemExit) as exit_:
                main(arguments)
            assert exit_.value.code == 0
        case "make":
            assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        case "python":
            script, *options = arguments
            assert (ROOT / script).parent == EXPERIMENTS / "ablations"
            tyro.cli(load("sweep").Scale, default=load(Path(script).stem).SWEEP.scale, args=options)
        case "pip":
            assert "fusion-bench-jax[ray]" in arguments
        case _:
            pytest.fail(f"{program} is not known")


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    """Within the repository, and from a page of docs/ to one of the site."""
    folder = ROOT if name == "README.md" else ROOT / "docs"
    prose = re.sub(r"```.*?```", "", PAGES[name], flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\(([^)#:]+)(?:#([^)]*))?\)", prose):
        assert (folder / target).exists(), target
        headings = re.findall(r"^#+ (.*)$", (folder / target).read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [heading.lower().replace(" ", "-") for heading in headings]


def test_formulas_are_set():
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    pytest.importorskip("markdown", reason="the packages of make docs are not installed")
    spec.loader.exec_module(hooks)
    text = "e_{i-1} ⊙ ∏_m F_m^r h_1ᵀ, out_features"
    assert hooks.set_formulas(text) == (
        "e<sub>i-1</sub> ⊙ ∏<sub>m</sub> F<sub>m</sub><sup>r</sup> h<sub>1</sub>ᵀ, out_features"
    )


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 120


def test_experiments_are_listed():
    scripts = {str(path.relative_to(EXPERIMENTS)) for path in EXPERIMENTS.rglob("*.py")}
    neighbours = {"ablations/sweep.py", "ablations/pictures.py", "speed/pytorch_networks.py", "speed/pytorch_study.py"}
    assert set(re.findall(r"^\| `(.+\.py)` \|", PAGES["experiments.md"], re.MULTILINE)) == scripts - neighbours
