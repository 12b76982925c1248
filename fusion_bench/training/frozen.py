"""A training whose encoders are frozen: its examples are encoded once, and then its steps are those of the join."""

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int

from fusion_bench.data.batches import DeviceData, DeviceModality
from fusion_bench.models.encoders import Encoded
from fusion_bench.training import mesh
from fusion_bench.training.lowering import compiler_options, lower_predict
from fusion_bench.training.step import Functions, Variables, encode, predict_encoded


@dataclasses.dataclass(frozen=True)
class Frozen:
    """The compiled functions of a training whose encoders are frozen.

    Attributes:
      encode_batch: (variables, data, indices [predict_batch]) → each encoded modality.
      predict: (variables, encoded data, indices [predict_batch]) → logits.
    """

    encode_batch: Callable[..., Mapping[str, Any]]
    predict: Callable[..., Array]
    predict_batch: int

    def encode(self, variables: Variables, data: DeviceData, indices: Int[np.ndarray, " example"]) -> DeviceData:
        """Returns the data with the encoded modalities of the examples at `indices`; zeros of others."""
        size, found = self.predict_batch, None
        for start in range(0, len(indices), size):
            rows = np.resize(indices[start : start + size], size)
            encoded = jax.tree.map(np.asarray, self.encode_batch(variables, data, rows))
            found = found or jax.tree.map(lambda a: np.zeros((len(data.labels), *a.shape[1:]), a.dtype), encoded)
            jax.tree.map(lambda all_, some: operator.setitem(all_, rows, some), found, encoded)  # noqa: B023
        assert found is not None
        return mesh.replicate(encoded_data(found, data.labels))


def encoded_data(encoded: Mapping[str, Any], labels: Any) -> DeviceData:
    """Returns encoded modalities of all examples in the form of a dataset."""
    modalities = {}
    for name, part in encoded.items():
        values, mask = part if isinstance(part, Encoded) else (part, None)
        mean, std = jax.device_put((np.zeros(values.shape[-1:], np.float32), np.ones(values.shape[-1:], np.float32)))
        modalities[name] = DeviceModality(values, mean, std, mask)
    return DeviceData(modalities, labels)


def compile_frozen(
    functions: Functions, variables: Variables, data: DeviceData, predict_batch: int
) -> tuple[Frozen, DeviceData]:
    """Returns the functions of a training with frozen encoders, and the shapes of its data."""
    graph, count = functions.graph, data.labels.shape[0]
    lowered = lower_predict(graph, variables, data, predict_batch, encode)
    batch = jax.eval_shape(functools.partial(encode, graph), variables, data, np.zeros(predict_batch, np.int32))
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct((count, *a.shape[1:]), a.dtype), batch)
    encoded = encoded_data(shapes, data.labels)
    predict = lower_predict(graph, variables, encoded, predict_batch, predict_encoded)
    options = compiler_options()
    return Frozen(lowered.compile(options), predict.compile(options), predict_batch), encoded
