"""Base classes of strategies, which are built from a blueprint and give class scores of a batch's modalities."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from fusion_bench.data.batches import Inputs
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.layers import Features, Masks, Tokens

Logits = Float[Array, "batch class"]
ModalityLogits = Mapping[str, Logits]
"""Class scores of each modality alone."""
StoredLogits = Mapping[str, Float[np.ndarray, "example class"]]
"""Class scores of each modality alone, as they were stored."""
StoredLabels = Int[np.ndarray, " example"]
Prior = Float[np.ndarray, " class"]
"""Frequency of each class in the training split."""


class Outputs(NamedTuple):
    """Class scores of a strategy.

    Attributes:
      logits: class scores, float32 [batch, class].
      by_modality: scores of each modality alone, where the strategy has them.
      encoded: what an operator is called with, where the strategy has one: features, or tokens and masks, by modality.
    """

    logits: Logits
    by_modality: Mapping[str, Logits] = {}
    encoded: tuple[Mapping[str, Array], ...] = ()


class Strategy(nnx.Module):
    """A fusion strategy. Subclasses take a `Blueprint` and their own options, as keyword arguments with defaults.

    Attributes:
      modality: the only one that it reads; None for a fusion strategy.
    """

    modality: str | None = None

    def __init__(self, blueprint: Blueprint, **options: Any):
        """Builds the parts, each with random streams of its own from the blueprint."""

    @abstractmethod
    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        """Returns class scores; `rngs` are random streams for dropout and the like, None in evaluation."""

    def modality_of(self, path: tuple[str | int, ...]) -> str | None:
        """Returns the modality to which the parameter at this state path belongs, or None for a joint part.

        A modality owns its encoder, its embedding, and in late fusion its head too; an only one owns everything.
        """
        is_owned = path[0] in ("encoders", "embeddings", "members")
        return str(path[1]) if is_owned and self.modality is None else self.modality

    def unimodal_logits(self, outputs: Outputs) -> ModalityLogits:
        """Returns class scores from each modality alone; empty where they are not defined.

        They are defined where each modality has an encoder of its own that reads no other one.
        """
        return {}

    def loss(self, outputs: Outputs, labels: Int[Array, " batch"], *, label_smoothing: float) -> Float[Array, ""]:
        """Mean over the batch of -Σ_c q_c log softmax(logits)_c, q = (1 - ε) onehot + ε / C; in nats.

        Strategies with another objective override it.
        """
        targets = optax.smooth_labels(jax.nn.one_hot(labels, outputs.logits.shape[-1]), label_smoothing)
        return optax.softmax_cross_entropy(outputs.logits, targets).mean()


class Unimodal(Strategy):
    """One encoder, one head, one modality: logits = head(h_m)."""

    modality: str

    def __init__(self, blueprint: Blueprint, *, modality: str):
        self.modality = modality
        self.encoder = blueprint.encoder(modality)
        self.head = blueprint.head(self.encoder.features, modality)

    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        return Outputs(self.head(self.encoder(inputs[self.modality])))


class FeatureFusion(Strategy):
    """An encoder for each modality, an operator over their pooled features, and one head over its result."""

    def __init__(self, blueprint: Blueprint, make_operator: Callable[..., Any]):
        self.encoders = nnx.Dict({name: self.make_encoder(blueprint, name) for name in blueprint.modalities})
        widths = {name: encoder.features for name, encoder in self.encoders.items()}
        self.operator = blueprint.operator(make_operator, widths)
        self.head = blueprint.head(self.operator.out_features)

    @staticmethod
    def make_encoder(blueprint: Blueprint, modality: str) -> Any:
        return blueprint.encoder(modality)

    def encode(self, inputs: Inputs) -> tuple[Features, ...]:
        """Returns what the operator is called with: the pooled feature h_m of each modality."""
        return ({name: encoder(inputs[name]) for name, encoder in self.encoders.items()},)

    def classify(self, encoded: Features | Tokens, *masks: Masks) -> Logits:
        """Returns class scores; an operator that can apply the head's first kernel itself does so."""
        if not hasattr(self.operator, "apply_kernel"):
            return self.head(self.operator(encoded, *masks))
        kernel, bias = self.head.hidden.kernel, self.head.hidden.bias
        assert bias is not None
        hidden = self.operator.apply_kernel(encoded, kernel[...])
        return self.head.from_hidden(hidden + bias[...].astype(hidden.dtype))

    def unimodal_logits(self, outputs: Outputs) -> ModalityLogits:
        """Returns the joint head's scores with what is encoded of all other modalities at zero; masks are kept.

        Zero is the mean of a normalised feature before its learned shift.
        """
        encoded, *masks = outputs.encoded
        zeros = {name: jnp.zeros_like(array) for name, array in encoded.items()}
        return {name: self.classify({**zeros, name: array}, *masks) for name, array in encoded.items()}

    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        encoded = self.encode(inputs)
        return Outputs(self.classify(*encoded), encoded=encoded)


class TokenFusion(FeatureFusion):
    """An encoder for each modality, an operator over their tokens, and one head over its result."""

    @staticmethod
    def make_encoder(blueprint: Blueprint, modality: str) -> Any:
        return blueprint.token_encoder(modality)

    def encode(self, inputs: Inputs) -> tuple[Tokens, Masks]:
        """Returns what the operator is called with: the tokens H_m of each modality and their masks."""
        tokens, masks = {}, {}
        for name, encoder in self.encoders.items():
            tokens[name], mask = encoder(inputs[name])
            masks[name] = jnp.ones(tokens[name].shape[:2], bool) if mask is None else mask
        return tokens, masks


class LateFusion(Strategy):
    """The unimodal model of each modality, trained jointly on what `fuse` makes of their scores."""

    def __init__(self, blueprint: Blueprint):
        self.members = nnx.Dict({name: Unimodal(blueprint, modality=name) for name in blueprint.modalities})

    @abstractmethod
    def fuse(self, logits: ModalityLogits) -> Logits:
        """Returns the joint scores of the modalities' scores."""

    def unimodal_logits(self, outputs: Outputs) -> ModalityLogits:
        """Returns each modality's own scores."""
        return outputs.by_modality

    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        logits = {name: member(inputs).logits for name, member in self.members.items()}
        return Outputs(self.fuse(logits), logits)


class PosthocFusion(LateFusion):
    """Joins unimodal models that were trained apart, and trains nothing itself.

    After the members' trained states are put in, `fit` sets what `fuse` needs from validation data.
    """

    @abstractmethod
    def fit(self, logits: StoredLogits, labels: StoredLabels, prior: Prior) -> None:
        """Fits the numbers of `fuse` on the validation split."""


class Fitted(nnx.Variable):
    """A number that is fitted on validation data, not trained."""
