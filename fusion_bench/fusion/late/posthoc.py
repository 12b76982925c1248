"""Post-hoc late fusion: the product of separately trained, calibrated unimodal models."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.base import Fitted, Logits, ModalityLogits, PosthocFusion, Prior, StoredLabels, StoredLogits
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register
from fusion_bench.metrics.calibration import fit_temperature


@register(
    "late-posthoc",
    reference="product rule: Kittler et al., TPAMI 20(3), 1998; temperatures: Guo et al. 2017, arXiv:1706.04599",
    canonical=True,
)
class LatePosthoc(PosthocFusion):
    """Product of the calibrated unimodal models: logits = Σ_m log p_m - (M - 1) log π, p_m = softmax(z_m / T_m).

    This is Bayes' rule for modalities that are independent given the class, with its prior π. The members are the
    unimodal runs of the same seed; each temperature T_m is fitted on validation data. Any number of modalities.
    M + C numbers are fitted, none are trained.
    """

    def __init__(self, blueprint: Blueprint):
        super().__init__(blueprint)
        self.temperatures = nnx.Dict({name: Fitted(jnp.ones(())) for name in blueprint.modalities})
        num_classes = blueprint.task.num_classes
        self.log_prior = Fitted(jnp.full((num_classes,), -math.log(num_classes), jnp.float32))

    def fit(self, logits: StoredLogits, labels: StoredLabels, prior: Prior) -> None:
        for name, scores in logits.items():
            temperature = fit_temperature(scores, labels)
            self.temperatures[name].set_value(jnp.asarray(temperature, jnp.float32))
        self.log_prior.set_value(jnp.log(jnp.asarray(prior, jnp.float32)))

    def fuse(self, logits: ModalityLogits) -> Logits:
        scores = [jax.nn.log_softmax(z / self.temperatures[name][...]) for name, z in logits.items()]
        return jnp.stack(scores).sum(0) - (len(scores) - 1) * self.log_prior[...]
