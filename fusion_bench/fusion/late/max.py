"""The most confident modality decides."""

import jax
import jax.numpy as jnp

from fusion_bench.fusion.base import LogitFusion, Logits, ModalityLogits
from fusion_bench.fusion.registry import register


@register("late-max", reference="max rule: Kittler et al., TPAMI 20(3), 1998")
class LateMax(LogitFusion):
    """Largest of the modalities' probabilities for each class, trained jointly: logits = max_m log softmax(z_m).

    Any number of modalities. Parameters: none. The paper applies its rules to separately trained classifiers.
    """

    def fuse(self, logits: ModalityLogits) -> Logits:
        return jax.nn.log_softmax(jnp.stack(list(logits.values()))).max(0)
