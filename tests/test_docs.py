"""Snippets and commands of the README and of docs/ work as they stand there."""

import importlib.util
import pickle
import re
import shlex
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import tyro
from PIL import Image

from fusion_bench import cli
from fusion_bench.cli import main
from fusion_bench.config import DataConfig, TrainingConfig
from fusion_bench.data.batches import to_device
from fusion_bench.data.load import load_dataset
from fusion_bench.errors import UserError
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


def recipe(word, files):
    """Runs the recipe of docs/data.md with a word in it, and returns the dataset of the file that it writes."""
    (snippet,) = [text for text in SNIPPETS if word in text]
    exec(snippet, {})
    return load_dataset(DataConfig(files))


def test_a_dataset_from_numpy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = recipe("mine.npz", "mine.npz")
    assert {name: spec.kind for name, spec in dataset.task.modalities.items()} == {"image": "grid", "sensor": "vector"}
    assert dataset.num_classes == 3


def test_a_dataset_from_a_folder_of_images_with_captions_from_pandas(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for index in range(60):
        folder = tmp_path / "photos" / ("cat", "dog")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (index, 0, 0)).save(folder / f"{index + 1}.png")
    dataset = recipe("photos.npz", "photos.npz")
    assert dataset.class_names == ("cat", "dog")
    assert dataset.task.images == ("image",)
    (snippet,) = [text for text in SNIPPETS if "captions.csv" in text]
    exec(snippet, {})  # writes two captions
    with pytest.raises(UserError, match="58 ids missing"):
        load_dataset(DataConfig("photos.npz", captions="captions.csv"))
    names = [f"{('cat', 'dog')[index % 2]}/{index + 1}.png" for index in range(60)]
    pd.DataFrame({"id": names, "caption": [f"number {name}" for name in names]}).to_csv("captions.csv", index=False)
    captioned = load_dataset(DataConfig("photos.npz", captions="captions.csv"))
    assert captioned.captions is not None
    assert captioned.captions.texts[0] == "number cat/1.png"


def test_a_dataset_from_hugging_face(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"image": Image.new("L", (9, 9), i), "caption": f"word{i % 4}", "label": i % 2} for i in range(40)]
    stub = types.ModuleType("datasets")
    monkeypatch.setattr(stub, "load_from_disk", lambda folder: {"train": rows, "test": rows[:10]}, raising=False)
    monkeypatch.setitem(sys.modules, "datasets", stub)
    dataset = recipe("load_from_disk", "pairs.npz")
    assert sorted(dataset.modalities) == ["image", "text"]
    assert [len(dataset.splits[name]) for name in ("train", "validation", "test")] == [36, 4, 10]


def test_a_dataset_from_a_pickle_of_features(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)

    def part(count):
        steps = {name: rng.normal(size=(count, 6, width)) for name, width in (("audio", 4), ("vision", 3))}
        lengths = {f"{name}_lengths": rng.integers(1, 7, count) for name in steps}
        return {**steps, **lengths, "raw_text": [f"so {i % 5}" for i in range(count)], "labels": np.arange(count) % 3}

    parts = {"train": part(60), "valid": part(30), "test": part(30)}
    (tmp_path / "features.pkl").write_bytes(pickle.dumps(parts))
    dataset = recipe("features.pkl", "features.npz")
    kinds = {name: spec.kind for name, spec in dataset.task.modalities.items()}
    assert kinds == {"audio": "sequence", "vision": "sequence", "text": "tokens"}
    mask = dataset.modalities["audio"].mask
    assert mask is not None
    np.testing.assert_array_equal(mask.sum(1)[:60], parts["train"]["audio_lengths"])
    assert len(dataset.splits["validation"]) == 30


def test_every_snippet_is_run_here():
    """Those of a cluster and of an exported model are run in tests/training/test_mesh.py and in tests/deploy."""
    run = ("@register", "import LowRank", "fusion_bench.run", "load_run", ".npz", "captions.csv", "onnxruntime")
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
    ablations = {f"ablations/{name}.py" for name in ("changes", "pictures", "sweep")}
    neighbours = ablations | {"speed/pytorch_networks.py", "speed/pytorch_study.py"}
    assert set(re.findall(r"^\| `(.+\.py)` \|", PAGES["experiments.md"], re.MULTILINE)) == scripts - neighbours
