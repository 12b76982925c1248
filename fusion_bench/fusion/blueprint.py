"""The blueprint from which every strategy is built."""

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Key

from fusion_bench.config import ModelConfig
from fusion_bench.data.dataset import Task
from fusion_bench.errors import UserError
from fusion_bench.fusion.layers import Sizes
from fusion_bench.models.encoders import WIDTHS, Encoder, PooledEncoder, Widths, compute_dtype, make_encoder
from fusion_bench.models.layers import Head


@dataclasses.dataclass(frozen=True)
class Blueprint:
    """The task, the widths, and a key from which each part of a strategy derives its own.

    A part's initial values depend on the key and the part's name alone, not on what else is built or in which
    order: with one key, the encoder of a modality starts the same in every strategy.
    """

    task: Task
    config: ModelConfig
    key: Key[Array, ""]

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities in alphabetical order, as in JAX's trees: every operator has this order."""
        return tuple(sorted(self.task.modalities))

    @property
    def largest_grid(self) -> str:
        """The grid with the most pixels; raises UserError if there is none."""
        specs = self.task.modalities
        grids = [name for name in self.modalities if specs[name].kind == "grid"]
        if not grids:
            raise UserError("a strategy inside a CNN needs a grid modality; these data have none")
        return max(grids, key=lambda name: specs[name].shape[0] * specs[name].shape[1])

    @property
    def widths(self) -> Widths:
        return WIDTHS[self.config.encoder]

    @property
    def dtype(self) -> jnp.dtype:
        return compute_dtype(self.config)

    def rngs(self, part: str) -> nnx.Rngs:
        """Returns the random streams of the part of this name."""
        return nnx.Rngs(jax.random.fold_in(self.key, zlib.crc32(part.encode())))

    def token_encoder(self, modality: str) -> Encoder:
        """Returns the encoder of a modality to tokens H_m."""
        spec = self.task.modalities[modality]
        return make_encoder(spec, self.config, dtype=self.dtype, rngs=self.rngs(f"encoder/{modality}"))

    def encoder(self, modality: str) -> PooledEncoder:
        """Returns the encoder of a modality to features h_m: the token encoder with pooling."""
        return self.pooled(self.token_encoder(modality))

    def pooled(self, encoder: Encoder) -> PooledEncoder:
        """Returns an encoder with its tokens pooled and normalised."""
        return PooledEncoder(encoder, dtype=self.dtype, rngs=nnx.Rngs(0))  # draws nothing

    def norm(self, features: int) -> nnx.BatchNorm:
        """Returns a batch normalisation of features, [..., feature]."""
        return nnx.BatchNorm(features, momentum=0.9, dtype=self.dtype, rngs=nnx.Rngs(0))  # draws nothing

    def head(self, in_features: int, name: str = "joint") -> Head:
        rngs = self.rngs(f"head/{name}")
        return Head(in_features, self.widths.hidden, self.task.num_classes, dtype=self.dtype, rngs=rngs)

    def operator(self, make: Callable[..., Any], in_features: Sizes) -> Any:
        """Returns the fusion operator; raises UserError if an option is invalid for it."""
        try:
            return make(in_features, dtype=self.dtype, rngs=self.rngs("operator"))
        except ValueError as error:
            raise UserError(str(error)) from error
