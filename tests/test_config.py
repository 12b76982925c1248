"""Configurations check and convert their values when they are built."""

import dataclasses
import importlib.util
import math
import pickle
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fusion_bench.config
import fusion_bench.speed.config
from fusion_bench.cli import _COMMANDS
from fusion_bench.errors import ConfigError
from fusion_bench.fields import Checked
from fusion_bench.models.encoders import make_encoder
from fusion_bench.training.optimizer import make_optimizer, make_schedule
from tests.tasks import SPECS

# without the checks of arguments that the tests add to the package, which would be first
SPEC: Any = importlib.util.spec_from_file_location("unchecked_config", fusion_bench.config.__file__)
config: Any = importlib.util.module_from_spec(SPEC)
sys.modules[config.__name__] = config
SPEC.loader.exec_module(config)
BenchmarkConfig, CheckpointConfig, Choice = config.BenchmarkConfig, config.CheckpointConfig, config.Choice
DataConfig, ModelConfig, TrainingConfig = config.DataConfig, config.ModelConfig, config.TrainingConfig

RULES = [
    (TrainingConfig, "epochs", (0, -1), "at least 1"),
    (TrainingConfig, "epochs", (1.5, True, "3", None), "a whole number"),
    (TrainingConfig, "batch_size", (0,), "at least 1"),
    (TrainingConfig, "learning_rate", (-1, 0, math.nan, math.inf), "finite and above 0"),
    (TrainingConfig, "learning_rate", ("0.1", False), "a number"),
    (TrainingConfig, "bias_rate", (0,), "finite and above 0"),
    (TrainingConfig, "weight_decay", (-0.1, math.nan), "finite and at least 0"),
    (TrainingConfig, "label_smoothing", (-0.1, 1.0, math.nan), "at least 0 and below 1"),
    (DataConfig, "augment", (True, "flip"), "auto or a tuple"),
    (DataConfig, "augment", (("turn",),), "auto or flip or translate"),
    (DataConfig, "kinds", ({"a": "word"},), "grid or tokens or sequence or vector or text"),
    (TrainingConfig, "learning_rate", (10**400,), "a number"),
    (TrainingConfig, "optimizer", ("adam", "AdamW", ""), "adamw or nesterov or muon"),
    (TrainingConfig, "schedule", ("linear",), "one-cycle or cosine"),
    (TrainingConfig, "flip", (True, None), "random or alternating"),
    (TrainingConfig, "select", ("first",), "best or last"),
    (TrainingConfig, "remedy", (None, 3), "a Choice"),
    (ModelConfig, "encoder", ("huge", None, ["tiny"], np.array(["tiny"])), "micro or tiny or small or resnet9"),
    (ModelConfig, "text_encoder", ("bert",), "pooled or transformer"),
    (ModelConfig, "dtype", ("float16", np.float32), "auto or float32 or bfloat16"),
    (DataConfig, "data_seed", (-1,), "at least 0"),
    (DataConfig, "train_size", (0,), "at least 1"),
    (DataConfig, "validation_fraction", (0.0, 1.0, math.nan), "between 0 and 1"),
    (DataConfig, "source", (3,), "a string"),
    (DataConfig, "data_dir", (3, b"data"), "a path"),
    (DataConfig, "cache_dir", ("",), "a path, not empty"),
    (BenchmarkConfig, "seeds", (0,), "at least 1"),
    (BenchmarkConfig, "tune", (-1,), "at least 0"),
    (BenchmarkConfig, "devices", (0,), "at least 1 or all"),
    (BenchmarkConfig, "devices", ("some",), "a whole number or all"),
    (BenchmarkConfig, "strategies", ("concat",), "a tuple"),
    (BenchmarkConfig, "strategies", ((3,),), "a string or a Choice"),
    (BenchmarkConfig, "data", ("shapes", {"source": "shapes"}), "a DataConfig"),
    (BenchmarkConfig, "match", (None, "flop"), "none or params or flops"),
    (BenchmarkConfig, "out", (None,), "a path"),
    (BenchmarkConfig, "cluster", ("ray",), "a ClusterConfig"),
    (config.ClusterConfig, "on", ("slurm",), "here or ray"),
    (config.ClusterConfig, "gpus_per_run", (1.5, -1, math.nan, math.inf), "at least 0, and whole above 1"),
    (config.MeasurementConfig, "seconds", (0,), "finite and above 0"),
    (config.MeasurementConfig, "repetitions", (0,), "at least 1"),
    (CheckpointConfig, "save_seconds", (-1,), "finite and at least 0"),
    (CheckpointConfig, "chunks_per_epoch", (0,), "at least 1"),
    (Choice, "name", (3, None), "a string"),
    (Choice, "options", (3, ["width"]), "a Mapping"),
    (Choice, "options", ({"width": None}, {"w": [8]}), "a whole number or a number or a string or True or False"),
]


@pytest.mark.parametrize(("make", "field", "values", "rule"), RULES)
def test_a_wrong_value_is_refused_with_its_field_and_rule(make, field, values, rule):
    needed = {"name": "tensor"} if make is Choice else {}
    for value in values:
        with pytest.raises(ConfigError) as caught:
            make(**needed | {field: value})
        assert (caught.value.field, caught.value.rule) == (field, f"it must be {rule}")


@pytest.mark.parametrize(("field", "value"), [("optimizer", "adam"), ("epochs", 0), ("weight_decay", "a lot")])
def test_a_changed_copy_is_checked(field, value):
    with pytest.raises(ConfigError, match=f"^{field} is"):
        dataclasses.replace(TrainingConfig(), **{field: value})


def configurations(base: type = Checked) -> list[type]:
    """Returns the classes of configurations of the package, commands included."""
    found = [base] if base.__module__.startswith("fusion_bench.") and base is not Checked else []
    return [*found, *(cls for sub in base.__subclasses__() for cls in configurations(sub))]


@pytest.mark.parametrize("cls", configurations(), ids=lambda cls: cls.__name__)
def test_every_field_of_every_configuration_is_checked(cls):
    fields = dataclasses.fields(cls)
    for field in fields:
        made: Any = object.__new__(cls)  # past the checks of arguments that the tests add
        made.__dict__.update({other.name: usual(other) for other in fields} | {field.name: object()})
        with pytest.raises(ConfigError, match=f"^{field.name} is <object"):
            made.__post_init__()


def usual(field: dataclasses.Field) -> Any:
    """Returns a field's default, or any value that it takes."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    needed = ("x",) if "tuple" in str(field.type) else "x"
    return needed if field.default is dataclasses.MISSING else field.default


def test_every_command_is_a_configuration():
    assert all(issubclass(form, Checked) for form, _ in _COMMANDS.values())


def forced(made, field):
    """Returns a configuration with a choice that there is not, set past all checks."""
    object.__setattr__(made, field, "another")
    return made


TEXT, BUILD = SPECS["text"], {"dtype": jnp.dtype("float32"), "rngs": nnx.Rngs(0)}
BRANCHES: Any = [
    (lambda: make_optimizer(forced(fusion_bench.TrainingConfig(), "optimizer"), 10), AssertionError),
    (lambda: make_schedule(forced(fusion_bench.TrainingConfig(), "schedule"), 10), AssertionError),
    (lambda: make_encoder(TEXT, forced(fusion_bench.ModelConfig(), "text_encoder"), **BUILD), KeyError),
]


@pytest.mark.parametrize(("branch", "error"), BRANCHES)
def test_a_choice_that_there_is_not_ends_in_an_error(branch, error):
    with pytest.raises(error, match="another"):
        branch()


def test_fields_that_do_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"^match_to is sum; it does nothing"):
        BenchmarkConfig(match_to="sum")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConfigError("learning_rate", -1.0, "it must be above 0"), "learning_rate is -1; it must be above 0"),
        (ConfigError("compare", (Path("a"), Path("b")), "too many"), "compare is a, b; too many"),
    ],
)
def test_an_error_names_the_field_or_what_stands_for_it(error, text):
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == text
    assert error.named("--flag") == text.replace(error.field, "--flag")


def test_ordinary_values_are_converted():
    made = BenchmarkConfig(
        data=DataConfig(
            Path("x.npz"), "cache", audio=np.bool_(True), train_size=np.int64(100), validation_fraction=np.float32(0.5)
        ),
        training=TrainingConfig(weight_decay=-0.0, learning_rate=np.float64(0.1)),
        strategies=["concat", Choice("tensor", {"width": np.int32(8), "scale": np.float64(0.5)})],
        out="runs/x",
        devices=np.uint8(2),
    )
    assert made == BenchmarkConfig(
        data=DataConfig("x.npz", Path("cache"), audio=True, train_size=100, validation_fraction=0.5),
        training=TrainingConfig(weight_decay=0.0, learning_rate=0.1),
        strategies=("concat", Choice("tensor", {"width": 8, "scale": 0.5})),
        out=Path("runs/x"),
        devices=2,
    )
    found = [made.data.train_size, made.data.validation_fraction, made.devices, made.data.audio]
    found += [made.training.weight_decay, *made.strategies[1].options.values()]
    assert [type(value) for value in found] == [int, float, int, bool, float, int, float]
    assert str(made.training.weight_decay) == str(TrainingConfig(weight_decay=0).weight_decay) == "0.0"
    assert pickle.loads(pickle.dumps(made)) == made
    assert hash(made) == hash(pickle.loads(pickle.dumps(made)))


@pytest.mark.parametrize(
    ("make", "field", "kind"),
    [
        (DataConfig, "source", str),
        (DataConfig, "captions", str),
        (DataConfig, "data_dir", Path),
        (DataConfig, "cache_dir", Path),
        (BenchmarkConfig, "out", Path),
        (fusion_bench.speed.config.SpeedConfig, "figure", Path),
    ],
)
def test_the_home_directory_stands_for_its_sign(monkeypatch, make, field, kind):
    monkeypatch.setenv("HOME", "/home/ada")
    given = {"~/x": "/home/ada/x", "a/~/x": "a/~/x", "~no-such-user/x": "~no-such-user/x", "x~": "x~"}
    assert [getattr(make(**{field: kind(path)}), field) for path in given] == [kind(path) for path in given.values()]
