"""Predictive dynamic fusion: modalities are weighted by the predicted probability of the true class."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Inexact, Int

from fusion_bench.fusion.base import (
    EncodedModalities,
    LateFusion,
    Logits,
    ModalityLogits,
    ModalityWeights,
    Outputs,
    smoothed_cross_entropy,
)
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import total

_LEAST = 1e-6
"""Predicted probabilities stay this far from 0 and 1, whose logarithms are divided."""


class Confidence(nnx.Module):
    """Predicted probability of the true class, from features: σ(w · relu(V h + c) + b), V of 2d × d."""

    def __init__(self, features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(features, 2 * features, dtype=dtype, rngs=rngs)
        self.score = nnx.Linear(2 * features, 1, dtype=dtype, rngs=rngs)

    def __call__(self, features: Inexact[Array, "batch feature"]) -> Float[Array, " batch"]:
        score = self.score(jax.nn.relu(self.hidden(features)))[:, 0].astype(jnp.float32)
        return jnp.clip(jax.nn.sigmoid(score), _LEAST, 1 - _LEAST)


@register("pdf", reference="PDF: Cao et al. 2024, arXiv:2406.04802")
class PredictiveFusion(LateFusion):
    """Logits weighted by predicted confidence: logits = Σ_m w_m z_m, w = softmax_m(ρ_m c_m).

    c_m = p_m + Σ_{n≠m} log p_n / Σ_n log p_n, where p_m predicts, from the features h_m, the probability that modality
    m gives to the true class; it stays 1e-6 from 0 and 1. In training ρ_m = 1, and no gradient flows through w, nor
    from p_m into the features. In evaluation ρ_m = min(1, D_m / mean_{n≠m} D_n) calibrates it, with D_m =
    mean_c |softmax(z_m)_c - 1 / C|. The loss, with CE smoothed cross-entropy, is

        CE(logits) + Σ_m CE(z_m) + Σ_m mean |p_m - softmax(z_m)_y|

    Two modalities in the paper, any number here; the mean over the others in ρ_m is ours. Parameters: Σ_m (2 d_m² + 4
    d_m + 1). The authors' code predicts p_m by three linear maps without a nonlinearity between them.
    """

    def __init__(self, blueprint: Blueprint):
        super().__init__(blueprint)
        self.deterministic = True  # Flax sets it to False for training
        self.confidences = nnx.Dict(
            {
                name: Confidence(
                    member.encoder.features, dtype=blueprint.dtype, rngs=blueprint.rngs(f"confidence/{name}")
                )
                for name, member in self.members.items()
            }
        )

    def join(self, encoded: EncodedModalities) -> Logits:
        alone = self._alone(encoded)
        weights = jax.lax.stop_gradient(self._weights(alone, encoded))
        return total(weights[name][:, None] * z for name, z in alone.items())

    def modality_weights(self, outputs: Outputs) -> ModalityWeights:
        """Returns w_m."""
        return self._weights(self.unimodal_logits(outputs), outputs.encoded)

    def loss(
        self, outputs: Outputs, labels: Int[Array, " batch"], *, label_smoothing: float, epoch: Int[Array, ""] | int = 0
    ) -> Float[Array, ""]:
        alone, confidences = self.unimodal_logits(outputs), self._confidences(outputs.encoded)
        losses = [smoothed_cross_entropy(z, labels, label_smoothing) for z in (outputs.logits, *alone.values())]
        for name, logits in alone.items():
            true = jnp.take_along_axis(jax.nn.softmax(logits), labels[:, None], axis=1)[:, 0]
            losses.append(jnp.abs(confidences[name] - jax.lax.stop_gradient(true)).mean())
        return total(losses)

    def _confidences(self, encoded: EncodedModalities) -> ModalityWeights:
        return {name: predict(jax.lax.stop_gradient(encoded[name])) for name, predict in self.confidences.items()}

    def _weights(self, logits: ModalityLogits, encoded: EncodedModalities) -> ModalityWeights:
        confidences = jnp.stack(list(self._confidences(encoded).values()))  # [modality, batch]
        logarithms = jnp.log(confidences)
        belief = confidences + 1 - logarithms / logarithms.sum(0)
        if self.deterministic:
            probabilities = jax.nn.softmax(jnp.stack([logits[name] for name in self.confidences]))
            spread = jnp.abs(probabilities - 1 / probabilities.shape[-1]).mean(-1)
            others = (spread.sum(0) - spread) / (len(spread) - 1)
            belief *= jnp.minimum(1.0, spread / jnp.maximum(others, _LEAST))
        return dict(zip(self.confidences, jax.nn.softmax(belief, axis=0), strict=True))
