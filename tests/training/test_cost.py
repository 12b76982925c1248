"""Costs as the compiler counts them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusion_bench.config import TrainingConfig
from fusion_bench.data.batches import to_device
from fusion_bench.data.dataset import Modality
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.training.cost import predict_bytes, train_bytes
from fusion_bench.training.step import make_functions
from tests.tasks import CONFIG, make_dataset

DATASET = make_dataset()
MOTION = Modality("sequence", np.ones((200, 5, 3), np.float32), mask=np.ones((200, 5), bool))
DATASET = dataclasses.replace(DATASET, modalities={**DATASET.modalities, "motion": MOTION})


@pytest.mark.parametrize("name", ["image", "motion"])
def test_bytes_moved_do_not_count_examples_that_are_only_stored(name):
    found = []
    for copies in (1, 20):
        many = {name: dataclasses.replace(m, values=np.concatenate([m.values] * copies),
                                          mask=None if m.mask is None else np.concatenate([m.mask] * copies))
                for name, m in DATASET.modalities.items()}  # fmt: skip
        data = to_device(dataclasses.replace(DATASET, modalities=many, labels=np.tile(DATASET.labels, copies)))
        spec = StrategySpec(f"{name}-only")
        functions = make_functions(spec, DATASET.task, CONFIG, TrainingConfig(batch_size=16), 130)
        state = jax.eval_shape(functions.init, jax.ShapeDtypeStruct((), jnp.int32))
        trained = train_bytes(functions, data)
        predicted = predict_bytes(functions.graph, state.variables, data, functions.batch_size)
        found.append((trained, predicted))
    assert found[0] == found[1]
    trained, predicted = found[0]
    if name == "image":  # at the least, bytes are read and floats made of them
        assert trained > 2 * predicted > 2 * 8 * 8 * (3 + 4 * 3)
