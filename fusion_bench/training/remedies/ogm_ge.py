"""On-the-fly gradient modulation with generalisation enhancement."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from fusion_bench.fields import Natural, NonNegative
from fusion_bench.training.remedies.base import Loss, ModalityOf, Remedy, Step, map_owned, register_remedy


@register_remedy("ogm-ge", reference="OGM-GE: Peng et al. 2022, arXiv:2203.15332")
class OGMGE(Remedy):
    """Slows the parameters of a modality while it alone predicts better than the others, and adds noise.

    With u a modality, B the batch, z_u the logits of u alone, θ_u each tensor that belongs to u:

        s_u = Σ_{i∈B} softmax(z_u(x_i))_{y_i}        ρ_u = mean_{v≠u} s_u / s_v
        k_u = 1 − tanh(α ρ_u) if ρ_u > 1, else 1
        Δθ_u ← k_u Δθ_u + ε,  ε ~ N(0, std(Δθ_u)²), where std is over the elements of Δθ_u before it is scaled

    The paper scales gradients g_u of SGD. Adam and Muon divide by the gradient's own scale, so a constant k_u has no
    effect on them. Therefore Δθ_u is by default the optimiser's update, weight decay included, and k_u is a factor of
    the modality's learning rate. `stage="gradient"` is the published form, for the optimizer `nesterov`. Noise is added
    to all modalities, also where k_u = 1, as in the authors' code.

    Differences: (1) The authors split the weights of a linear head to get z_u. Here z_u are the joint head's logits
    with the other features at zero, which are defined for every operator; each z_u contains the head's whole bias. In
    late fusion z_u are the unimodal model's logits, and θ_u includes its head. (2) θ_u is all of u's parameters, as in
    the paper; the authors' code takes only convolution kernels, and so no text encoder. (3) The paper defines ρ_u for
    two modalities; the mean of ratios for more is the authors' proposal (GeWu-Lab/OGM-GE_CVPR2022, issue 16). (4) The
    paper's noise has the covariance of SGD's noise; the authors' code and this one take the standard deviation of each
    tensor's elements.

    Args:
      alpha: α; the authors use values from 0.1 to 0.8, by data set.
      noise: whether ε is added (GE); without it this is OGM.
      stage: "update" or "gradient": what is modulated.
      until: number of epochs with modulation; 0 for all. The authors use 50 of 100.
    """

    needs_encoders = True
    tuned: ClassVar[Mapping[str, tuple[float, float]]] = {"alpha": (0.1, 1.0)}

    def __init__(
        self,
        *,
        alpha: NonNegative = 0.3,
        noise: bool = True,
        stage: Literal["update", "gradient"] = "update",
        until: Natural = 0,
    ):
        self.alpha, self.noise, self.stage, self.until = alpha, noise, stage, until

    def losses(self, step: Step) -> tuple[Sequence[Loss], Mapping[str, Any]]:
        outputs = step.outputs()
        # From a clone, so that no statistic of an operator is updated twice.
        return [step.loss(outputs)], {"unimodal_logits": nnx.clone(step.module).unimodal_logits(outputs)}

    def wrap(
        self, optimizer: optax.GradientTransformationExtraArgs, modality_of: ModalityOf
    ) -> optax.GradientTransformationExtraArgs:
        def update(updates: Any, state: Any, params: Any = None, **step: Any) -> tuple[Any, Any]:
            factors = modulation_factors(step["unimodal_logits"], step["labels"], self.alpha)
            acts = step["epoch"] < (self.until or math.inf)
            noise = []
            if self.noise:  # drawn for all tensors at once, which compiles faster
                flat, unravel = ravel_pytree(updates)
                noise = [unravel(jax.random.normal(step["key"], flat.shape, flat.dtype))]

            def modulate(modality: str, update: Array, *noise: Array) -> Array:
                modulated = factors[modality] * update + sum(update.std() * z for z in noise)
                return jnp.where(acts, modulated.astype(update.dtype), update)

            return map_owned(modulate, modality_of, updates, *noise), state

        modulation = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
        orders = {"update": (optimizer, modulation), "gradient": (modulation, optimizer)}
        return optax.chain(*orders[self.stage])


def modulation_factors(
    logits: Mapping[str, Float[Array, "batch class"]], labels: Int[Array, " batch"], alpha: float
) -> dict[str, Float[Array, ""]]:
    """Returns k_u of each modality, in [0, 1], from the logits of each modality alone."""
    scores = {u: jnp.take_along_axis(jax.nn.softmax(z), labels[:, None], 1).sum() for u, z in logits.items()}
    factors = {}
    for u, score in scores.items():
        ratio = jnp.stack([score / other for v, other in scores.items() if v != u]).mean()
        factors[u] = jnp.where(ratio > 1, 1 - jnp.tanh(alpha * ratio), 1.0)
    return factors
