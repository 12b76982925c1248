"""Costs as the compiler counts them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from fusion_bench.config import TrainingConfig
from fusion_bench.data.batches import to_device
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.training.cost import predict_bytes, train_bytes
from fusion_bench.training.step import make_functions
from tests.tasks import CONFIG, make_dataset

DATASET = make_dataset()


def test_bytes_moved_do_not_count_examples_that_are_only_stored():
    spec = StrategySpec("image-only")
    found = []
    for copies in (1, 20):
        many = {name: dataclasses.replace(m, values=np.tile(m.values, (copies, *[1] * (m.values.ndim - 1))))
                for name, m in DATASET.modalities.items()}  # fmt: skip
        data = to_device(dataclasses.replace(DATASET, modalities=many, labels=np.tile(DATASET.labels, copies)))
        functions = make_functions(spec, DATASET.task, CONFIG, TrainingConfig(batch_size=16), 130)
        state = jax.eval_shape(functions.init, jax.ShapeDtypeStruct((), jnp.int32))
        trained = train_bytes(functions, data)
        predicted = predict_bytes(functions.graph, state.variables, data, functions.batch_size)
        found.append((trained, predicted))
    assert found[0] == found[1]
    trained, predicted = found[0]
    # at the least, bytes are read and floats made of them
    assert trained > 2 * predicted > 2 * 8 * 8 * (3 + 4 * 3)
