"""Configurations check and convert their values when they are built."""

import importlib.util
import math
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusion_bench.config
from fusion_bench.errors import ConfigError

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
    (TrainingConfig, "select", ("first",), "best or last"),
    (ModelConfig, "encoder", ("huge", None), "micro or tiny or small or resnet9"),
    (DataConfig, "data_seed", (-1,), "at least 0"),
    (DataConfig, "train_size", (0,), "at least 1"),
    (DataConfig, "validation_fraction", (0.0, 1.0, math.nan), "between 0 and 1"),
    (DataConfig, "source", (3,), "a string"),
    (DataConfig, "data_dir", (3,), "a path"),
    (BenchmarkConfig, "seeds", (0,), "at least 1"),
    (BenchmarkConfig, "tune", (-1,), "at least 0"),
    (BenchmarkConfig, "devices", (0,), "at least 1 or all"),
    (BenchmarkConfig, "devices", ("some",), "a whole number or all"),
    (BenchmarkConfig, "strategies", ("concat",), "a tuple"),
    (BenchmarkConfig, "strategies", ((3,),), "a string or a Choice"),
    (BenchmarkConfig, "data", ("shapes",), "a DataConfig"),
    (config.MeasurementConfig, "seconds", (0,), "finite and above 0"),
    (config.MeasurementConfig, "repetitions", (0,), "at least 1"),
    (CheckpointConfig, "save_seconds", (-1,), "finite and at least 0"),
    (CheckpointConfig, "chunks_per_epoch", (0,), "at least 1"),
    (Choice, "options", (3,), "a Mapping"),
    (Choice, "options", ({"width": None},), "a whole number or a number or a string or True or False"),
]


@pytest.mark.parametrize(("make", "field", "values", "rule"), RULES)
def test_a_wrong_value_is_refused_with_its_field_and_rule(make, field, values, rule):
    needed = {"name": "tensor"} if make is Choice else {}
    for value in values:
        with pytest.raises(ConfigError) as caught:
            make(**needed, **{field: value})
        assert (caught.value.field, caught.value.rule) == (field, f"it must be {rule}")


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
        training=TrainingConfig(weight_decay=0, learning_rate=np.float64(0.1)),
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
    assert pickle.loads(pickle.dumps(made)) == made
    assert hash(made) == hash(pickle.loads(pickle.dumps(made)))
