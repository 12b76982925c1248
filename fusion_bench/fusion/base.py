"""Base classes of strategies, which are built from a blueprint and map a batch's modalities to logits."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Inexact, Int

from fusion_bench.data.batches import Inputs, ModalityBatch
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.models.encoders import Encoded, PooledEncoder
from fusion_bench.models.layers import masked_mean

Logits = Float[Array, "batch class"]
ModalityLogits = Mapping[str, Logits]
"""Logits of each modality alone."""
ModalityWeights = Mapping[str, Float[Array, " batch"]]
"""Weight of each modality, by name."""
StoredLogits = Mapping[str, Float[np.ndarray, "example class"]]
"""Logits of each modality alone, as stored."""
EncodedModalities = Mapping[str, Any]
"""`Strategy.encode` of each modality, by name."""
StoredLabels = Int[np.ndarray, " example"]
Prior = Float[np.ndarray, " class"]
"""Frequency of each class in the training split."""


class Outputs(NamedTuple):
    """Outputs of a strategy.

    Attributes:
      logits: float32 [batch, class].
      encoded: of each modality, by name, if the strategy encodes them separately.
    """

    logits: Logits
    encoded: Mapping[str, Any] = {}


class Strategy(nnx.Module):
    """A fusion strategy. Subclasses take a `Blueprint` and their own options, as keyword arguments with defaults.

    Attributes:
      modality: the one that a unimodal strategy reads; None for a fusion strategy.
      is_separable: whether it encodes each modality separately, so that logits = join({m: encode(m, x_m)}).
    """

    modality: str | None = None
    is_separable: ClassVar[bool] = False

    def __init__(self, blueprint: Blueprint, **options: Any):
        """Builds the parts, each with its own random streams from the blueprint."""

    @abstractmethod
    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        """Returns logits; `rngs` are random streams for dropout and the like, None in evaluation."""

    def encode(self, modality: str, batch: ModalityBatch) -> Any:
        """Returns features or tokens of one modality, a tree of arrays [batch, ...]; where it is separable."""
        raise NotImplementedError(f"{type(self).__name__} does not encode modalities separately")

    def join(self, encoded: EncodedModalities) -> Logits:
        """Returns logits from the encoded modalities; where it is separable."""
        raise NotImplementedError(f"{type(self).__name__} does not encode modalities separately")

    def encoder_of(self, modality: str) -> Any:
        """Returns the encoder that reads a modality and nothing else, which pools its tokens or not; None without."""
        return None

    def modality_of(self, path: tuple[str | int, ...]) -> str | None:
        """Returns the modality that owns the parameter at this state path; None for the fusion module and joint head.

        A modality owns its encoder, its embedding, and in late fusion its head; a single one owns everything.
        """
        is_owned = path[0] in ("encoders", "embeddings", "members")
        return str(path[1]) if is_owned and self.modality is None else self.modality

    def unimodal_logits(self, outputs: Outputs) -> ModalityLogits:
        """Returns logits from each modality alone; empty unless each has an encoder that reads no other modality."""
        return {}

    def modality_weights(self, outputs: Outputs) -> ModalityWeights:
        """Returns the weight of each modality in the decision on each example; empty where it is not dynamic."""
        return {}

    def uncertainty(self, outputs: Outputs) -> Float[Array, " batch"]:
        """Returns how uncertain each decision is, by default 1 - max_c softmax(logits)_c."""
        return 1 - jax.nn.softmax(outputs.logits).max(-1)

    def loss(
        self, outputs: Outputs, labels: Int[Array, " batch"], *, label_smoothing: float, epoch: Int[Array, ""] | int = 0
    ) -> Float[Array, ""]:
        """Returns the loss of a batch; by default the `smoothed_cross_entropy` of the logits.

        `epoch` is counted from 0, for an objective that changes during training.
        """
        return smoothed_cross_entropy(outputs.logits, labels, label_smoothing)


def smoothed_cross_entropy(logits: Logits, labels: Int[Array, " batch"], label_smoothing: float) -> Float[Array, ""]:
    """Mean over the batch of -Σ_c q_c log softmax(logits)_c, q = (1 - ε) onehot + ε / C; in nats."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    return optax.softmax_cross_entropy(logits, targets).mean()


class Separable(Strategy):
    """Base of the strategies that encode each modality separately."""

    is_separable = True

    @abstractmethod
    def encoder_of(self, modality: str) -> Any:
        """Returns the encoder of one modality, which pools its tokens or not."""

    def encode(self, modality: str, batch: ModalityBatch) -> Any:
        """Returns features or tokens of one modality, a tree of arrays [batch, ...]."""
        return self.encoder_of(modality)(batch)

    def features_of(self, encoded: Any) -> Inexact[Array, "batch feature"]:
        """Returns the pooled features h_m of one encoded modality."""
        return encoded

    @abstractmethod
    def join(self, encoded: EncodedModalities) -> Logits:
        """Returns logits from the encoded modalities."""

    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        read = inputs if self.modality is None else [self.modality]
        encoded = {name: self.encode(name, inputs[name]) for name in sorted(read)}
        return Outputs(self.join(encoded), encoded)


class Unimodal(Separable):
    """One encoder, one head, one modality: logits = head(h_m)."""

    modality: str

    def __init__(self, blueprint: Blueprint, *, modality: str):
        self.modality = modality
        self.encoder = blueprint.encoder(modality)
        self.head = blueprint.head(self.encoder.features, modality)

    def encoder_of(self, modality: str) -> PooledEncoder:
        return self.encoder

    def join(self, encoded: EncodedModalities) -> Logits:
        return self.head(encoded[self.modality])


class FeatureFusion(Separable):
    """An encoder for each modality, an operator over their pooled features, and one head over its result."""

    def __init__(self, blueprint: Blueprint, make_operator: Callable[..., Any]):
        self.encoders = nnx.Dict({name: self.make_encoder(blueprint, name) for name in blueprint.modalities})
        widths = {name: encoder.features for name, encoder in self.encoders.items()}
        self.operator = blueprint.operator(make_operator, widths)
        self.head = blueprint.head(self.operator.out_features)

    @staticmethod
    def make_encoder(blueprint: Blueprint, modality: str) -> Any:
        return blueprint.encoder(modality)

    def encoder_of(self, modality: str) -> Any:
        return self.encoders[modality]

    def arguments(self, encoded: EncodedModalities) -> tuple[Mapping[str, Array], ...]:
        """Returns the operator's arguments."""
        return (encoded,)

    def join(self, encoded: EncodedModalities) -> Logits:
        return self._decide(*self.arguments(encoded))

    def unimodal_logits(self, outputs: Outputs) -> ModalityLogits:
        """Returns the logits of the joint head with the features of all other modalities at zero; masks are kept.

        Zero is the mean of a normalised feature before its learned shift.
        """
        arguments = self.arguments(outputs.encoded)

        def alone(name: str) -> Logits:
            return self._decide(*({n: own if n == name else _silent(own) for n, own in of.items()} for of in arguments))

        return {name: alone(name) for name in outputs.encoded}

    def loss(
        self, outputs: Outputs, labels: Int[Array, " batch"], *, label_smoothing: float, epoch: Int[Array, ""] | int = 0
    ) -> Float[Array, ""]:
        """Returns the cross-entropy, and the operator's own `penalty` if it has one."""
        loss = super().loss(outputs, labels, label_smoothing=label_smoothing, epoch=epoch)
        if not hasattr(self.operator, "penalty"):
            return loss
        return loss + self.operator.penalty(*self.arguments(outputs.encoded))

    def _decide(self, *arguments: Mapping[str, Array]) -> Logits:
        """Returns logits; an operator with `apply_kernel` applies the head's first kernel itself."""
        if not hasattr(self.operator, "apply_kernel"):
            return self.head(self.operator(*arguments))
        kernel, bias = self.head.hidden.kernel, self.head.hidden.bias
        assert bias is not None
        hidden = self.operator.apply_kernel(*arguments, kernel[...])
        return self.head.from_hidden(hidden + bias[...].astype(hidden.dtype))


def _silent(values: Array) -> Array:
    return values if values.dtype == bool else jnp.zeros_like(values)


class TokenFusion(FeatureFusion):
    """An encoder for each modality, an operator over their tokens, and one head over its result.

    Tokens and result are batch-normalised, as the pooled features of the other strategies are. Otherwise what all
    tokens have in common dominates what distinguishes them, and an interaction of modalities is not learned.
    """

    def __init__(self, blueprint: Blueprint, make_operator: Callable[..., Any]):
        super().__init__(blueprint, make_operator)
        self.norms = nnx.Dict({name: blueprint.norm(encoder.features) for name, encoder in self.encoders.items()})
        self.norm = blueprint.norm(self.operator.out_features)

    @staticmethod
    def make_encoder(blueprint: Blueprint, modality: str) -> Any:
        return blueprint.token_encoder(modality)

    def encode(self, modality: str, batch: ModalityBatch) -> Encoded:
        """Returns the tokens H_m, before they are normalised, with a mask."""
        tokens, mask = self.encoders[modality](batch)
        return Encoded(tokens, jnp.ones(tokens.shape[:2], bool) if mask is None else mask)

    def features_of(self, encoded: Encoded) -> Inexact[Array, "batch feature"]:
        """Returns the mean of the tokens."""
        return masked_mean(*encoded)

    def arguments(self, encoded: EncodedModalities) -> tuple[Mapping[str, Array], ...]:
        tokens = {name: self.norms[name](e.tokens, mask=e.mask[:, :, None]) for name, e in encoded.items()}
        return tokens, {name: e.mask for name, e in encoded.items()}

    def _decide(self, *arguments: Mapping[str, Array]) -> Logits:
        return self.head(self.norm(self.operator(*arguments)))


class LateFusion(Separable):
    """The unimodal models of all modalities, trained jointly through `join`."""

    def __init__(self, blueprint: Blueprint):
        self.members = nnx.Dict({name: Unimodal(blueprint, modality=name) for name in blueprint.modalities})

    def encoder_of(self, modality: str) -> PooledEncoder:
        return self.members[modality].encoder

    def unimodal_logits(self, outputs: Outputs) -> ModalityLogits:
        """Returns the logits of each unimodal model."""
        return self._alone(outputs.encoded)

    def _alone(self, encoded: EncodedModalities) -> ModalityLogits:
        return {name: self.members[name].join({name: encoded[name]}) for name in sorted(encoded)}


class LogitFusion(LateFusion):
    """Late fusion in which the logits of the modalities alone decide."""

    @abstractmethod
    def fuse(self, logits: ModalityLogits) -> Logits:
        """Returns joint logits from the logits of the modalities."""

    def join(self, encoded: EncodedModalities) -> Logits:
        return self.fuse(self._alone(encoded))


class PosthocFusion(LogitFusion):
    """Fuses unimodal models that were trained separately; nothing else is trained.

    Its members get their trained variables; then `fit` sets the variables of `fuse` on validation data.
    """

    @abstractmethod
    def fit(self, logits: StoredLogits, labels: StoredLabels, prior: Prior) -> None:
        """Fits the variables of `fuse` on the validation split."""


class Fitted(nnx.Variable):
    """A variable that is fitted on validation data, not trained."""
