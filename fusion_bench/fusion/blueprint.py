"""All that a strategy is built from."""

import dataclasses
import math
import zlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Key

from fusion_bench.config import ModelConfig
from fusion_bench.data.dataset import Task
from fusion_bench.errors import UserError
from fusion_bench.models.encoders import WIDTHS, Encoder, PooledEncoder, Widths, compute_dtype, make_encoder
from fusion_bench.models.layers import Head


@dataclasses.dataclass(frozen=True)
class Blueprint:
    """The task, the widths, and a key from which each part of a strategy draws its own.

    A part's initial values depend on the key and the part's name alone, not on what else is built or in which
    order: with one key, the encoder of a modality starts the same in every strategy.
    """

    task: Task
    config: ModelConfig
    key: Key[Array, ""]

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities in alphabetical order, in which JAX keeps a mapping: so operators have one order always."""
        return tuple(sorted(self.task.modalities))

    @property
    def largest_grid(self) -> str:
        """The grid with the most pixels.

        Raises:
          UserError: there is no grid.
        """
        specs = self.task.modalities
        grids = [name for name in self.modalities if specs[name].kind == "grid"]
        if not grids:
            raise UserError("a strategy inside a CNN needs a grid; these data have none")
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
        """Returns the encoder of a modality to one feature h_m, the same with its tokens pooled."""
        return self.pooled(self.token_encoder(modality))

    def pooled(self, encoder: Encoder) -> PooledEncoder:
        """Returns an encoder with its tokens pooled and normalised."""
        return PooledEncoder(encoder, dtype=self.dtype, rngs=nnx.Rngs(0))  # draws nothing

    def head(self, in_features: int, name: str = "joint") -> Head:
        """Returns a head over features of this width."""
        return Head(
            in_features,
            self.widths.hidden,
            self.task.num_classes,
            dtype=self.dtype,
            rngs=self.rngs(f"head/{name}"),
        )

    def projections(
        self,
        in_features: Mapping[str, int],
        out_features: int,
        name: str,
        *,
        variance: float = 1.0,
        bias: float | None = 0.0,
    ) -> Mapping[str, nnx.Linear]:
        """Returns a linear map from each modality's feature to one width.

        Args:
          in_features: width of each modality's feature.
          out_features: width of every result.
          name: of the part; with the modality's name it decides the initial values.
          variance: of a result's entries at the start, for features of variance 1.
          bias: what every bias starts at; None for no bias.
        """
        initializer = nnx.initializers.variance_scaling(variance, "fan_in", "truncated_normal")
        return nnx.Dict(
            {
                modality: nnx.Linear(
                    width, out_features, use_bias=bias is not None, kernel_init=initializer,
                    bias_init=nnx.initializers.constant(bias or 0.0), dtype=self.dtype,
                    rngs=self.rngs(f"{name}/{modality}"),
                )
                for modality, width in in_features.items()
            }
        )  # fmt: skip

    def factors(
        self, in_features: Mapping[str, int], out_features: int, name: str
    ) -> Mapping[str, nnx.Linear]:
        """Returns projections that are to be multiplied: each starts at 1, with a deviation of 1/2 around it.

        Their product starts as a sum, 1 + a_1 + a_2 + a_1 a_2, with a small interaction. Around 0 it starts as
        the interaction alone, and what each modality says by itself is learned late: on `shapes` with `default`
        captions (tiny, 4 epochs, one seed), where image-only is at 82 %, starts around 0 gave 31 to 58 % for the
        operators made of such factors, starts at 1 gave 85 to 88 %. The price: under `synergy`, where only the
        interaction counts, 12 epochs gave 9 to 42 %, where starts around 0 gave 11 to 78 %.
        """
        return self.projections(in_features, out_features, name, variance=0.25, bias=1.0)

    def weight(self, shape: tuple[int, ...], name: str, *, fan_in: int) -> nnx.Param:
        """Returns a trained array of normal values with variance 1 / fan_in."""
        values = jax.random.normal(self.rngs(name).params(), shape) / math.sqrt(fan_in)
        return nnx.Param(values)
