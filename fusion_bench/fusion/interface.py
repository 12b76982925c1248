"""What every fusion strategy is: built from a blueprint, called with the modalities of a batch, gives class scores."""

import dataclasses
import math
import zlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Inexact, Int, Key

from fusion_bench.config import ModelConfig
from fusion_bench.data.batches import Inputs
from fusion_bench.data.dataset import Task
from fusion_bench.models.encoders import WIDTHS, Encoder, PooledEncoder, Widths, compute_dtype, make_encoder
from fusion_bench.models.layers import Head


class Outputs(NamedTuple):
    """What a strategy returns.

    Attributes:
      logits: class scores, float32 [batch, class].
      by_modality: scores of each modality alone, where the strategy has them.
    """

    logits: Float[Array, "batch class"]
    by_modality: Mapping[str, Float[Array, "batch class"]] = {}


@dataclasses.dataclass(frozen=True)
class Blueprint:
    """All that a strategy is built from: the task, the widths, and a key from which each part draws its own.

    A part's initial values depend on the key and the part's name alone, not on what else is built or in which
    order: with one key, the encoder of a modality starts the same in every strategy.
    """

    task: Task
    config: ModelConfig
    key: Key[Array, ""]

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities in alphabetical order, in which JAX keeps a mapping: so a join has one order always."""
        return tuple(sorted(self.task.modalities))

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


class Strategy(nnx.Module):
    """A fusion strategy. Subclasses take a `Blueprint` and their own options, as keyword arguments with defaults."""

    def __init__(self, blueprint: Blueprint, **options: Any):
        """Builds the parts, each with random streams of its own from the blueprint."""

    @abstractmethod
    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        """Returns class scores.

        Args:
          inputs: the modalities of a batch, by name.
          rngs: random streams for dropout and the like, while training; None in evaluation.
        """

    def modality_of(self, path: tuple[str | int, ...]) -> str | None:
        """Returns the modality to which the parameter at this state path belongs, or None for a joint part.

        A modality owns its encoder, its embedding, and in late fusion its head too.
        """
        return str(path[1]) if path[0] in ("encoders", "embeddings", "members") else None

    def unimodal_logits(self, inputs: Inputs) -> Mapping[str, Float[Array, "batch class"]]:
        """Returns class scores from each modality alone; empty where they are not defined.

        They are defined where each modality has an encoder of its own that reads no other one. In training mode
        the encoders run once more, so take updated batch statistics from the module before this call.
        """
        return {}

    def loss(
        self, outputs: Outputs, labels: Int[Array, " batch"], *, label_smoothing: float
    ) -> Float[Array, ""]:
        """Mean cross-entropy of the joint scores, in nats; strategies with another objective override it."""
        return smoothed_cross_entropy(outputs.logits, labels, label_smoothing)


class FeatureFusion(Strategy):
    """An encoder for each modality, their pooled features joined by `join`, and one head over the result.

    A subclass builds what its join needs, and `self.head = blueprint.head(width of the joint feature)`.
    """

    head: Head

    def __init__(self, blueprint: Blueprint):
        self.encoders = nnx.Dict({name: blueprint.encoder(name) for name in blueprint.modalities})

    @property
    def feature_widths(self) -> dict[str, int]:
        """The width of each modality's pooled feature h_m."""
        return {name: encoder.features for name, encoder in self.encoders.items()}

    @abstractmethod
    def join(self, features: Mapping[str, Inexact[Array, "batch _"]]) -> Inexact[Array, "batch joint"]:
        """Returns the joint feature of the pooled features h_m of all modalities."""

    def encode(self, inputs: Inputs) -> dict[str, Inexact[Array, "batch _"]]:
        """Returns the pooled feature h_m of each modality."""
        return {name: encoder(inputs[name]) for name, encoder in self.encoders.items()}

    def classify(self, features: Mapping[str, Inexact[Array, "batch _"]]) -> Float[Array, "batch class"]:
        """Returns the class scores of pooled features."""
        return self.head(self.join(features))

    def unimodal_logits(self, inputs: Inputs) -> Mapping[str, Float[Array, "batch class"]]:
        """Returns the joint head's scores with the features of all other modalities at zero.

        Zero is the mean of a normalised feature before its learned shift.
        """
        features = self.encode(inputs)
        return {name: self.classify(_only(name, features)) for name in features}

    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        return Outputs(self.classify(self.encode(inputs)))


class TokenFusion(Strategy):
    """An encoder for each modality, their tokens joined by `join`, and one head over the result.

    A subclass builds what its join needs, and `self.head = blueprint.head(width of the joint feature)`.
    """

    head: Head

    def __init__(self, blueprint: Blueprint):
        self.encoders = nnx.Dict({name: blueprint.token_encoder(name) for name in blueprint.modalities})

    @property
    def token_widths(self) -> dict[str, int]:
        """The width of each modality's tokens H_m."""
        return {name: encoder.features for name, encoder in self.encoders.items()}

    @abstractmethod
    def join(
        self,
        tokens: Mapping[str, Inexact[Array, "batch _ _"]],
        masks: Mapping[str, Bool[Array, "batch _"]],
    ) -> Inexact[Array, "batch joint"]:
        """Returns the joint feature of the tokens H_m of all modalities; a mask is True where there is a token."""

    def encode(
        self, inputs: Inputs
    ) -> tuple[dict[str, Inexact[Array, "batch _ _"]], dict[str, Bool[Array, "batch _"]]]:
        """Returns the tokens H_m of each modality and their masks."""
        tokens, masks = {}, {}
        for name, encoder in self.encoders.items():
            tokens[name], mask = encoder(inputs[name])
            masks[name] = jnp.ones(tokens[name].shape[:2], bool) if mask is None else mask
        return tokens, masks

    def unimodal_logits(self, inputs: Inputs) -> Mapping[str, Float[Array, "batch class"]]:
        """Returns the joint head's scores with the tokens of all other modalities at zero; masks are kept."""
        tokens, masks = self.encode(inputs)
        return {name: self.head(self.join(_only(name, tokens), masks)) for name in tokens}

    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        return Outputs(self.head(self.join(*self.encode(inputs))))


class PosthocFusion(Strategy):
    """Joins models that were trained one modality at a time, and trains nothing itself.

    `members` are the unimodal strategies; after their trained states are put in, `fit` sets what the join needs
    from validation data.
    """

    members: Mapping[str, Any]

    @abstractmethod
    def fit(
        self,
        logits: Mapping[str, Float[np.ndarray, "example class"]],
        labels: Int[np.ndarray, " example"],
        prior: Float[np.ndarray, " class"],
    ) -> None:
        """Fits the join.

        Args:
          logits: scores of each member on the validation split, [example, class].
          labels: of the validation split.
          prior: frequency of each class in the training split.
        """

    @abstractmethod
    def join(self, logits: Mapping[str, Float[Array, "batch class"]]) -> Float[Array, "batch class"]:
        """Returns the joint scores of the members' scores."""

    def unimodal_logits(self, inputs: Inputs) -> Mapping[str, Float[Array, "batch class"]]:
        """Returns each member's scores."""
        return {name: member(inputs).logits for name, member in self.members.items()}

    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        logits = self.unimodal_logits(inputs)
        return Outputs(self.join(logits), logits)


def _only(kept: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Returns the arrays with all but one at zero."""
    return {name: array if name == kept else jnp.zeros_like(array) for name, array in arrays.items()}


def smoothed_cross_entropy(
    logits: Float[Array, "batch class"], labels: Int[Array, " batch"], label_smoothing: float
) -> Float[Array, ""]:
    """Mean over the batch of -Σ_c q_c log softmax(logits)_c, q = (1 - ε) onehot + ε / C; in nats."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    return optax.softmax_cross_entropy(logits, targets).mean()
