"""Export to StableHLO, by `jax.export`: a program that JAX runs without this package, for half a year."""

import datetime
from collections.abc import Sequence

import jax
import jax.export
import numpy as np
from jaxtyping import Float

from fusion_bench.deploy.model import Classifier
from fusion_bench.errors import UserError, cause

PLATFORMS = ("cpu", "cuda", "tpu")
VALID = datetime.timedelta(days=180)
"""Time for which JAX reads what an earlier version has exported: six months, by its compatibility guarantees."""


def to_stablehlo(classifier: Classifier) -> bytes:
    """Returns a run's model as a serialised `jax.export.Exported` for `PLATFORMS`, of any batch size.

    Its arguments are the arrays of `Classifier.arguments`, its result the logits.

    Raises:
      UserError: flatbuffers is not installed, or JAX cannot export the strategy.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    shapes = [jax.ShapeDtypeStruct((batch, *shape), np.dtype(dtype)) for _, shape, dtype in classifier.arguments]
    try:
        exported = jax.export.export(jax.jit(classifier.logits), platforms=PLATFORMS)(*shapes)
        return bytes(exported.serialize())
    except ImportError as error:
        raise UserError(f"export needs flatbuffers ({cause(error)}): pip install flatbuffers") from error
    except Exception as error:  # what a symbolic batch size does not allow raises errors of many types
        raise UserError(f"{classifier.run.strategy} cannot be exported: {cause(error)}") from error


class Program:
    """A serialised program on this machine's device; called with arrays in order it returns the logits."""

    def __init__(self, content: bytes):
        self.call = jax.jit(jax.export.deserialize(bytearray(content)).call)

    def __call__(self, arrays: Sequence[np.ndarray]) -> Float[np.ndarray, "batch class"]:
        return np.asarray(self.call(*arrays))
