"""A mixture of experts with equal weights, trained jointly."""

import jax
import jax.numpy as jnp

from fusion_bench.fusion.base import LogitFusion, Logits, ModalityLogits
from fusion_bench.fusion.registry import register


@register("late-mixture", reference="sum rule: Kittler et al., TPAMI 20(3), 1998")
class LateMixture(LogitFusion):
    """Mean of the modalities' probabilities, trained jointly: logits = log Σ_m softmax(z_m) / M.

    A product of experts under a uniform prior is no separate strategy: its logits are those of `late-mean` times M. Any
    number of modalities. Parameters: none.
    """

    def fuse(self, logits: ModalityLogits) -> Logits:
        scores = jax.nn.log_softmax(jnp.stack(list(logits.values())))
        return jax.nn.logsumexp(scores, axis=0) - jnp.log(len(logits))
