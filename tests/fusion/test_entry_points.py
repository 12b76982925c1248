"""Strategies of other packages: really installed, from a wheel, and found by another process through entry points."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

OPERATORS = '''
from flax import nnx

from fusion_bench.fusion.registry import register
from fusion_bench.fusion.tensor import mfb
from third_party.scale import scale


@register("third-party", family="intermediate", reference="a paper of theirs")
class ThirdParty(nnx.Module):
    """The image, enlarged."""

    def __init__(self, in_features, *, factor: float = 2.0, dtype=None, rngs):
        self.factor = factor
        self.out_features = in_features["image"]

    def __call__(self, features):
        return scale(features["image"], self.factor)
'''

SOURCE = """
from fusion_bench.data.sources.base import register_source


@register_source("third-party-data", summary="pictures of theirs")
def load(config):
    raise NotImplementedError
"""

# registers and then fails; takes a name of ours; is of no family
LATE = '''
from fusion_bench.fusion.base import Strategy
from fusion_bench.fusion.registry import register


@register("half-registered", family="late", reference="a paper")
class Half(Strategy):
    """Half a module."""


raise RuntimeError("no licence found")
'''
EXITS = LATE.replace('raise RuntimeError("no licence found")', 'raise SystemExit("no licence found\\nbuy one")')
TAKEN = LATE.replace("half-registered", "tensor").partition("\nraise")[0]
FAMILY = TAKEN.replace('"tensor"', '"elsewhere"').replace('family="late"', 'family="quantum"')

USE = """
import json, warnings

import jax

from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import REGISTRY, StrategySpec, strategies
from tests.tasks import CONFIG, call, make_inputs, make_task

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    names = list(strategies())

task = make_task("image", "text")
spec = StrategySpec("third-party", {"factor": 3.0})
module = spec.build(Blueprint(task, CONFIG, jax.random.key(0)))
module.eval()

print(json.dumps({
    "names": names,
    "warnings": [str(warning.message) for warning in caught],
    "label": spec.label,
    "owners": [REGISTRY.owner(StrategySpec(name).registration) for name in ("third-party", "concat")],
    "shape": call(module, make_inputs(task)).logits.shape,
}))
"""


def install(folder, name, files, entry_points, sources=()):
    """Installs a package from a wheel, as a user would, and returns the directory to import it from."""
    info = f"{name}-1.5.dist-info"
    files = {f"{name}/{path}": text for path, text in files.items()}
    files |= {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "\n".join(["[fusion_bench.strategies]", *entry_points, "", *sources, ""]),
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    wheel, target = folder / f"{name}-1.5-py3-none-any.whl", folder / name
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", target, wheel], check=True)
    return target


@pytest.fixture(scope="module")
def third_party(tmp_path_factory):
    files = {
        "__init__.py": "",
        "operators.py": OPERATORS,
        "data.py": SOURCE,
        "scale.py": "def scale(x, factor):\n    return factor * x\n",
    }
    entry_points = ["mine = third_party.operators", "again = third_party.operators:ThirdParty"]
    sources = ["[fusion_bench.sources]", "data = third_party.data"]
    return install(tmp_path_factory.mktemp("wheels"), "third_party", files, entry_points, sources)


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    files = {"__init__.py": "", "late.py": LATE, "exits.py": EXITS, "taken.py": TAKEN, "family.py": FAMILY}
    entry_points = [
        "nowhere = broken.nowhere",
        *(f"{name} = broken.{name}" for name in ("late", "exits", "taken", "family")),
    ]
    return install(tmp_path_factory.mktemp("wheels"), "broken", files, entry_points)


def python(*arguments, packages, cwd):
    """Runs Python where this checkout and these packages can be imported, and returns its output and its errors."""
    path = os.pathsep.join(map(str, [ROOT, *packages]))
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def used(third_party, tmp_path_factory):
    """What a process found that listed, built and called the strategy of another package."""
    out, _ = python("-c", USE, packages=[third_party], cwd=tmp_path_factory.mktemp("elsewhere"))
    return json.loads(out)


def test_a_strategy_of_an_installed_package_is_listed_built_and_called(used):
    assert "third-party" in used["names"]
    assert used["label"] == "third-party:factor=3.0"
    assert used["owners"] == ["third_party 1.5", ""]
    assert used["shape"] == [6, 4]
    assert used["warnings"] == []


def test_what_cannot_be_loaded_is_named_and_the_rest_is_listed(third_party, broken, tmp_path):
    out, errors = python("-m", "fusion_bench", "list", "--json", packages=[third_party, broken], cwd=tmp_path)
    assert "third-party-data" in [entry["name"] for entry in json.loads(out)["datasets"]]
    listed = {entry["name"]: entry for entry in json.loads(out)["strategies"]}
    assert {"third-party", "concat", "late-mean"} < set(listed)
    assert not {"half-registered", "elsewhere"} & set(listed)
    assert listed["third-party"]["options"] == {"factor": 2.0}
    assert listed["tensor"]["reference"].startswith("TFN")
    warned = [line for line in errors.splitlines() if line.startswith("fusion-bench: entry point ")]
    reasons = {
        "nowhere": "ModuleNotFoundError: No module named 'broken.nowhere'",
        "late": "RuntimeError: no licence found",
        "exits": "SystemExit: no licence found",
        "taken": "ValueError: strategy 'tensor' is registered twice",
        "family": "ValueError: strategy 'elsewhere' is of the family 'quantum'; choose from unimodal, early",
    }
    assert len(warned) == len(reasons) == len(errors.splitlines())
    for name, reason in reasons.items():
        (line,) = [line for line in warned if f"entry point {name!r} of broken 1.5" in line]
        assert f"broken.{name}, cannot be loaded: {reason}" in line
