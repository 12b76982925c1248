"""Quality-aware late fusion: modalities are weighted by their energy, which a ranking loss ties to their errors."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fusion_bench.fields import NonNegative, Positive
from fusion_bench.fusion.base import (
    LogitFusion,
    Logits,
    ModalityLogits,
    ModalityWeights,
    Outputs,
    smoothed_cross_entropy,
)
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import total


@register("qmf", reference="QMF: Zhang et al. 2023, arXiv:2306.02050")
class QualityAwareFusion(LogitFusion):
    """Logits weighted by each modality's energy: logits = Σ_m w_m z_m, w_m = logsumexp(z_m) / scale.

    No gradient flows through w_m. The loss, with CE smoothed cross-entropy, ℓ the cross-entropy of each example, scaled
    to 0 … 1 over the batch, and i, j neighbours in the batch:

        CE(logits) + Σ_m CE(z_m) + ranking · Σ_m mean_i max(0, sign(ℓ_i - ℓ_j) (w_i - w_j) + |ℓ_i - ℓ_j|)

    so that the example with the larger loss has the smaller weight. Any number of modalities. Parameters: none. As in
    the authors' code, weights are not normalised and may be negative. Theirs ranks by the sum of an example's losses
    over all epochs, here by its loss in this step, since a batch does not name its examples; and their margin has the
    opposite sign, which turns the ranking off for pairs whose losses differ most. Their code for RGB-D scenes lets the
    gradient flow through w_m, and has ranking = 0.1 on one data set; both scale ℓ over all training data.
    """

    def __init__(self, blueprint: Blueprint, *, scale: Positive = 10.0, ranking: NonNegative = 1.0):
        super().__init__(blueprint)
        self.scale, self.ranking = scale, ranking

    def fuse(self, logits: ModalityLogits) -> Logits:
        weights = jax.lax.stop_gradient(self._energies(logits))
        return total(weights[name][:, None] * z for name, z in logits.items())

    def modality_weights(self, outputs: Outputs) -> ModalityWeights:
        """Returns w_m, the energy of each modality's logits."""
        return self._energies(self.unimodal_logits(outputs))

    def uncertainty(self, outputs: Outputs) -> Float[Array, " batch"]:
        """Returns -Σ_m w_m: a high energy is low uncertainty."""
        return -total(self.modality_weights(outputs).values())

    def loss(
        self, outputs: Outputs, labels: Int[Array, " batch"], *, label_smoothing: float, epoch: Int[Array, ""] | int = 0
    ) -> Float[Array, ""]:
        alone = self.unimodal_logits(outputs)
        losses = [smoothed_cross_entropy(z, labels, label_smoothing) for z in (outputs.logits, *alone.values())]
        ranks = [self._ranking_loss(z, labels) for z in alone.values()]
        return total(losses) + self.ranking * total(ranks)

    def _energies(self, logits: ModalityLogits) -> ModalityWeights:
        return {name: jax.nn.logsumexp(z, axis=-1) / self.scale for name, z in logits.items()}

    def _ranking_loss(self, logits: Logits, labels: Int[Array, " batch"]) -> Float[Array, ""]:
        weights = jax.nn.logsumexp(logits, axis=-1) / self.scale
        losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)[:, 0]
        spread = jnp.maximum(losses.max() - losses.min(), 1e-12)
        losses = jax.lax.stop_gradient((losses - losses.min()) / spread)
        apart, further = losses - jnp.roll(losses, -1), weights - jnp.roll(weights, -1)
        return jax.nn.relu(jnp.sign(apart) * further + jnp.abs(apart)).mean()
