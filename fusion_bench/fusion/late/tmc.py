"""Trusted multi-view classification: opinions with an uncertainty, combined by Dempster's rule."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float, Int

from fusion_bench.fusion.base import LogitFusion, Logits, ModalityLogits, ModalityWeights, Outputs
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import total


class Opinion(NamedTuple):
    """Belief in each class, [batch, class], and uncertainty, [batch]; they sum to 1."""

    belief: Float[Array, "batch class"]
    uncertainty: Float[Array, " batch"]


@register("tmc", reference="TMC: Han et al. 2021, arXiv:2102.02051")
class TrustedFusion(LogitFusion):
    """Dempster's combination of the modalities' opinions; logits = log α, whose softmax is the Dirichlet's mean.

    Modality m has evidence e_m = softplus(z_m), α_m = e_m + 1, S_m = Σ_c α_m,c, belief b_m = e_m / S_m and uncertainty
    u_m = C / S_m. Two opinions give b = (b_1 b_2 + b_1 u_2 + b_2 u_1) / (1 - K) and u = u_1 u_2 / (1 - K), with the
    conflict K = Σ_{i≠j} b_1,i b_2,j; further ones follow in alphabetical order. Then α = C b / u + 1. The loss is
    the sum, over all modalities and their combination, of

        Σ_c q_c (ψ(S) - ψ(α_c)) + min(1, t / annealing) · KL(Dir(q + (1 - q) α) ‖ Dir(1))

    with t the epoch from 0 and q the one-hot label; label smoothing changes q in the first term only. Any number of
    modalities. Parameters: none. The paper's classifiers are linear; here they are those of every late strategy.
    """

    def __init__(self, blueprint: Blueprint, *, annealing: int = 10):
        super().__init__(blueprint)
        self.annealing = annealing

    def fuse(self, logits: ModalityLogits) -> Logits:
        joint = functools.reduce(combine, map(opinion, logits.values()))
        return jnp.log(dirichlet(joint))

    def modality_weights(self, outputs: Outputs) -> ModalityWeights:
        """Returns 1 - u_m, the total belief of each modality."""
        return {name: 1 - opinion(z).uncertainty for name, z in self.unimodal_logits(outputs).items()}

    def uncertainty(self, outputs: Outputs) -> Float[Array, " batch"]:
        """Returns u of the combined opinion."""
        return outputs.logits.shape[-1] / jnp.exp(outputs.logits).sum(-1)

    def loss(
        self, outputs: Outputs, labels: Int[Array, " batch"], *, label_smoothing: float, epoch: Int[Array, ""] | int = 0
    ) -> Float[Array, ""]:
        alone = [jax.nn.softplus(z) + 1 for z in self.unimodal_logits(outputs).values()]
        onehot = jax.nn.one_hot(labels, outputs.logits.shape[-1])
        targets = optax.smooth_labels(onehot, label_smoothing)
        strength = jnp.minimum(1.0, epoch / self.annealing)

        def of(alpha: Float[Array, "batch class"]) -> Float[Array, ""]:
            fit = (targets * (digamma(alpha.sum(-1, keepdims=True)) - digamma(alpha))).sum(-1)
            return (fit + strength * divergence_from_uniform(onehot + (1 - onehot) * alpha)).mean()

        return total(of(alpha) for alpha in (*alone, jnp.exp(outputs.logits)))


def opinion(logits: Logits) -> Opinion:
    """Returns the opinion of one modality from its logits."""
    evidence = jax.nn.softplus(logits)
    strength = evidence.sum(-1) + logits.shape[-1]
    return Opinion(evidence / strength[:, None], logits.shape[-1] / strength)


def combine(first: Opinion, second: Opinion) -> Opinion:
    """Returns Dempster's combination of two independent opinions."""
    agreed = first.belief * second.belief
    conflict = first.belief.sum(-1) * second.belief.sum(-1) - agreed.sum(-1)
    belief = agreed + first.belief * second.uncertainty[:, None] + second.belief * first.uncertainty[:, None]
    kept = 1 - conflict
    return Opinion(belief / kept[:, None], first.uncertainty * second.uncertainty / kept)


def dirichlet(opinion: Opinion) -> Float[Array, "batch class"]:
    """Returns the parameters α of the Dirichlet distribution of an opinion."""
    return opinion.belief * opinion.belief.shape[-1] / opinion.uncertainty[:, None] + 1


def divergence_from_uniform(alpha: Float[Array, "batch class"]) -> Float[Array, " batch"]:
    """KL(Dir(α) ‖ Dir(1)), in nats."""
    strength = alpha.sum(-1, keepdims=True)
    normaliser = gammaln(strength[:, 0]) - gammaln(alpha).sum(-1) - gammaln(jnp.float32(alpha.shape[-1]))
    return normaliser + ((alpha - 1) * (digamma(alpha) - digamma(strength))).sum(-1)
