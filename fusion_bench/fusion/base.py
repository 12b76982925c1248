"""Base classes of strategies, which are built from a blueprint and map a batch's modalities to logits."""

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
"""Logits of each modality alone."""
StoredLogits = Mapping[str, Float[np.ndarray, "example class"]]
"""Logits of each modality alone, as stored."""
StoredLabels = Int[np.ndarray, " example"]
Prior = Float[np.ndarray, " class"]
"""Frequency of each class in the training split."""


class Outputs(NamedTuple):
    """Outputs of a strategy.

    Attributes:
      logits: float32 [batch, class].
      by_modality: logits of each modality alone, if the strategy has them.
      encoded: arguments of the operator, if the strategy has one: features, or tokens and masks, by modality.
    """

    logits: Logits
    by_modality: Mapping[str, Logits] = {}
    encoded: tuple[Mapping[str, Array], ...] = ()


class Strategy(nnx.Module):
    """A fusion strategy. Subclasses take a `Blueprint` and their own options, as keyword arguments with defaults.

    Attributes:
      modality: the one that a unimodal strategy reads; None for a fusion strategy.
    """

    modality: str | None = None

    def __init__(self, blueprint: Blueprint, **options: Any):
        """Builds the parts, each with its own random streams from the blueprint."""

    @abstractmethod
    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        """Returns logits; `rngs` are random streams for dropout and the like, None in evaluation."""

    def modality_of(self, path: tuple[str | int, ...]) -> str | None:
        """Returns the modality that owns the parameter at this state path; None for the fusion module and joint head.

        A modality owns its encoder, its embedding, and in late fusion its head; a single one owns everything.
        """
        is_owned = path[0] in ("encoders", "embeddings", "members")
        return str(path[1]) if is_owned and self.modality is None else self.modality

    def unimodal_logits(self, outputs: Outputs) -> ModalityLogits:
        """Returns logits from each modality alone; empty unless each has an encoder that reads no other modality."""
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
        """Returns the operator's arguments: the pooled features h_m of each modality."""
        return ({name: encoder(inputs[name]) for name, encoder in self.encoders.items()},)

    def classify(self, encoded: Features | Tokens, *masks: Masks) -> Logits:
        """Returns logits; an operator with `apply_kernel` applies the head's first kernel itself."""
        if not hasattr(self.operator, "apply_kernel"):
            return self.head(self.operator(encoded, *masks))
        kernel, bias = self.head.hidden.kernel, self.head.hidden.bias
        assert bias is not None
        hidden = self.operator.apply_kernel(encoded, kernel[...])
        return self.head.from_hidden(hidden + bias[...].astype(hidden.dtype))

    def unimodal_logits(self, outputs: Outputs) -> ModalityLogits:
        """Returns the logits of the joint head with the features of all other modalities at zero; masks are kept.

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
        """Returns the operator's arguments: the tokens H_m of each modality and their masks."""
        tokens, masks = {}, {}
        for name, encoder in self.encoders.items():
            tokens[name], mask = encoder(inputs[name])
            masks[name] = jnp.ones(tokens[name].shape[:2], bool) if mask is None else mask
        return tokens, masks


class LateFusion(Strategy):
    """The unimodal models of all modalities, trained jointly through `fuse`."""

    def __init__(self, blueprint: Blueprint):
        self.members = nnx.Dict({name: Unimodal(blueprint, modality=name) for name in blueprint.modalities})

    @abstractmethod
    def fuse(self, logits: ModalityLogits) -> Logits:
        """Returns joint logits from the logits of the modalities."""

    def unimodal_logits(self, outputs: Outputs) -> ModalityLogits:
        """Returns the logits of each unimodal model."""
        return outputs.by_modality

    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        logits = {name: member(inputs).logits for name, member in self.members.items()}
        return Outputs(self.fuse(logits), logits)


class PosthocFusion(LateFusion):
    """Fuses unimodal models that were trained separately; nothing else is trained.

    Its members get their trained variables; then `fit` sets the variables of `fuse` on validation data.
    """

    @abstractmethod
    def fit(self, logits: StoredLogits, labels: StoredLabels, prior: Prior) -> None:
        """Fits the variables of `fuse` on the validation split."""


class Fitted(nnx.Variable):
    """A variable that is fitted on validation data, not trained."""
