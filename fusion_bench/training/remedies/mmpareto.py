"""Joint and unimodal gradients of each encoder, combined without conflict."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from fusion_bench.fields import Positive
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.training.remedies.base import Loss, ModalityOf, Remedy, Step, map_owned, of_encoders, register_remedy
from fusion_bench.training.remedies.unimodal_losses import UnimodalHeads, unimodal_losses

ROUNDING = 1e-6
"""A squared norm below this fraction of its terms is zero up to rounding."""


@register_remedy("mmpareto", reference="MMPareto: Wei and Hu 2024, arXiv:2405.17730")
class MMPareto(Remedy):
    """Combines the gradients of the joint and the unimodal loss of each encoder into one that opposes neither.

    With u a modality, θ_u its encoder's parameters as one vector, L_u the loss of a head on its features alone:

        g_m = ∂L_joint/∂θ_u        g_u = ∂L_u/∂θ_u
        a = 1/2 if ⟨g_m, g_u⟩ > 0, else ⟨g_u − g_m, g_u⟩ / ‖g_m − g_u‖², which minimises ‖a g_m + (1 − a) g_u‖
        h = 2 a g_m + 2 (1 − a) g_u, scaled up to the norm of g_m + g_u if it is shorter
        Δθ_u ← γ · (the optimiser's update for the gradient h)

    All other parameters have the gradient of L_joint + Σ_u L_u. The losses and heads are those of `unimodal-losses`
    with λ = 1. Each L_u reaches the encoder of u alone, so that one backward pass gives all g_u.

    Adam and Muon divide by the gradient's own scale. What remains of h is its direction and its change of length from
    step to step. γ as a factor of gradients would have no effect there, so it is a factor of the encoders' updates,
    weight decay included: of their learning rate. For SGD without weight decay both are the same.

    Differences: (1) h is scaled by its norm over the whole encoder, as in the paper; the authors' code scales each
    tensor by its own. (2) Where h is zero up to rounding, as g_m and g_u are opposite, it is not scaled.

    Args:
      gamma: γ; the authors use 1.5.
    """

    needs_encoders = True
    tuned: ClassVar[Mapping[str, tuple[float, float]]] = {"gamma": (0.75, 3.0)}

    def __init__(self, *, gamma: Positive = 1.5):
        self.gamma = gamma

    def make_parts(self, strategy: Any, blueprint: Blueprint) -> nnx.Module:
        return UnimodalHeads(strategy, blueprint)

    def losses(self, step: Step) -> tuple[Sequence[Loss], Mapping[str, Any]]:
        outputs = step.outputs()
        return [step.loss(outputs), jnp.stack([*unimodal_losses(step, outputs).values()]).sum()], {}

    def combine(self, gradients: Sequence[Any], modality_of: ModalityOf) -> Any:
        joint, alone = gradients
        encoder_of = of_encoders(modality_of)
        factors = pareto_factors(joint, alone, encoder_of)

        def blend(modality: str, total: Array, joint: Array, alone: Array) -> Array:
            of_joint, of_alone = factors[modality]
            return (of_joint * joint + of_alone * alone).astype(total.dtype)

        return map_owned(blend, encoder_of, jax.tree.map(jnp.add, joint, alone), joint, alone)

    def wrap(
        self, optimizer: optax.GradientTransformationExtraArgs, modality_of: ModalityOf
    ) -> optax.GradientTransformationExtraArgs:
        def enlarge(updates: Any, params: Any) -> Any:
            return map_owned(lambda modality, update: self.gamma * update, of_encoders(modality_of), updates)

        return optax.chain(optimizer, optax.stateless(enlarge))


def pareto_factors(
    joint: Any, alone: Any, encoder_of: ModalityOf
) -> dict[str, tuple[Float[Array, ""], Float[Array, ""]]]:
    """Returns the factors of g_m and g_u in h for each modality, from both gradients as trees."""
    products = collections.defaultdict(list)

    def multiply(modality: str, g_m: Array, g_u: Array) -> Array:
        m, u = (g.astype(jnp.float32).ravel() for g in (g_m, g_u))
        products[modality].append(jnp.stack([m @ m, m @ u, u @ u]))
        return g_m

    map_owned(multiply, encoder_of, joint, alone)
    return {modality: _factors(*jnp.stack(found).sum(0)) for modality, found in products.items()}


def _factors(
    mm: Float[Array, ""], mu: Float[Array, ""], uu: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the factors from ⟨g_m, g_m⟩, ⟨g_m, g_u⟩ and ⟨g_u, g_u⟩."""
    difference = mm - 2 * mu + uu
    least = jnp.clip((uu - mu) / jnp.where(difference > 0, difference, 1), 0, 1)
    a = jnp.where(mu > 0, 0.5, least)
    terms = a**2 * mm + (1 - a) ** 2 * uu
    squared = 4 * (terms + 2 * a * (1 - a) * mu)
    is_zero = squared <= ROUNDING * terms
    scale = jnp.sqrt(jnp.maximum((mm + 2 * mu + uu) / jnp.where(is_zero, 1, squared), 1))
    scale = jnp.where(is_zero, 1, scale)
    return 2 * a * scale, 2 * (1 - a) * scale
