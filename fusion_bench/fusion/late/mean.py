"""The mean of the modalities' logits, trained jointly."""

import jax.numpy as jnp

from fusion_bench.fusion.base import LogitFusion, Logits, ModalityLogits
from fusion_bench.fusion.registry import register


@register("late-mean", reference="geometric mean, a product rule: Kittler et al., TPAMI 20(3), 1998", canonical=True)
class LateMean(LogitFusion):
    """Mean of the modalities' logits, trained jointly: logits = Σ_m head_m(h_m) / M.

    The softmax of a mean of logits is the normalised geometric mean of the modalities' probabilities. Any number of
    modalities. Parameters: none.
    """

    def fuse(self, logits: ModalityLogits) -> Logits:
        return jnp.stack(list(logits.values())).mean(0)
