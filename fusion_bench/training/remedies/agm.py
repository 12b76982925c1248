"""Adaptive gradient modulation."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from fusion_bench.data.batches import leave_out
from fusion_bench.fields import NonNegative
from fusion_bench.fusion.base import Logits
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.metrics.coalitions import shapley_values
from fusion_bench.training.remedies.base import Loss, ModalityOf, Remedy, Step, map_owned, register_remedy

LEAST_PROBABILITY = 1e-8
LARGEST_EXCESS = 10.0
"""Largest τ_u − r_u, as in the authors' code for two modalities (7 for three)."""


class RunningMean(nnx.Variable):
    """A mean over the steps so far."""


class Scores(nnx.Module):
    """The running mean of s_u of each modality, and the number of steps in it."""

    def __init__(self, names: Sequence[str]):
        self.means = nnx.Dict({name: RunningMean(jnp.zeros(())) for name in names})
        self.steps = RunningMean(jnp.zeros((), jnp.int32))

    def update(self, scores: Mapping[str, Float[Array, ""]]) -> None:
        count = self.steps[...]
        for name, score in scores.items():
            mean = self.means[name][...]
            self.means[name].set_value(mean + (score - mean) / (count + 1))
        self.steps.set_value(count + 1)


@register_remedy("agm", reference="AGM: Li et al. 2023, arXiv:2308.07686")
class AGM(Remedy):
    """Slows a modality while its share of the logits predicts better than usual, and speeds up the others.

    With f(S) the logits of the modalities S, all others at zero, M their number, u one of them:

        φ_u = Σ_S |S|! (M − |S| − 1)! / M! (f(S ∪ u) − f(S)) over the S without u, with f(∅) = 0, so that Σ_u φ_u = f
        s_u = mean over the batch of −log softmax(φ_u)_y
        r_u = exp(M / (M − 1) (mean_v s_v − s_u)),  τ_u the same of the means of s over all earlier steps, 1 at first
        κ_u = exp(α min(τ_u − r_u, 10)) is a factor of the gradient that flows through φ_u

    For two modalities φ_u = ½ (f(u, v) − f(v) + f(u)) and r_u = exp(s_v − s_u). A step takes 2^M − 1 forward and
    backward passes: three for two modalities. It is defined for every strategy. What is left out is zero after
    standardisation, or no token; these passes are in evaluation mode, with running statistics, and are differentiated,
    as in the authors' code. Sign, running means and the limit 10 are those of that code as well.

    A parameter that all φ_u depend on, as in a joint head, sees a sum of gradients in another proportion: no optimiser
    cancels that. What only φ_u depends on, as in an encoder of late fusion, sees a gradient times κ_u, and Adam and
    Muon divide by the gradient's own scale: a constant κ_u has no effect there. Therefore parameters that a modality
    owns are by default trained with the unmodulated gradient, and κ_u is a factor of their updates, weight decay
    included. `stage="gradient"` is the published form, for the optimizer `nesterov`. In it the passes in evaluation
    mode reach the encoders too. With batch normalisation their gradient is not that of training, and where κ_u differ
    the difference does not cancel.

    Difference: the authors also clip the norm of the gradient at 1 where the head's is large.

    Args:
      alpha: α; the authors use values from 1 to 2.5.
      stage: "update" or "gradient": what κ_u modulates of the parameters that u owns.
    """

    tuned: ClassVar[Mapping[str, tuple[float, float]]] = {"alpha": (0.3, 3.0)}

    def __init__(self, *, alpha: NonNegative = 1.0, stage: Literal["update", "gradient"] = "update"):
        self.alpha, self.stage = alpha, stage

    def make_parts(self, strategy: Any, blueprint: Blueprint) -> nnx.Module:
        return Scores(blueprint.modalities)

    def losses(self, step: Step) -> tuple[Sequence[Loss], Mapping[str, Any]]:
        if self.stage == "update":  # the same logits twice; of these, owned parameters see no modulated gradient
            twin = _with_owned_constant(step.module)
            whole = twin(step.inputs, rngs=nnx.clone(step.rngs)).logits
            outputs = step.outputs()
        else:
            outputs = step.outputs()
            twin, whole = nnx.clone(step.module), outputs.logits
        responses = shapley_values(_coalitions(twin, step, whole))
        scores = {name: _score(lax.stop_gradient(response), step) for name, response in responses.items()}
        means = {name: mean[...] for name, mean in step.parts.means.items()}
        factors = modulation_coefficients(scores, means, self.alpha)
        step.parts.update(scores)
        # Added to the logits they are zero, but not their gradients.
        excess = [(factors[name] - 1) * (phi - lax.stop_gradient(phi)) for name, phi in responses.items()]
        modulated = outputs._replace(logits=outputs.logits + jnp.stack(excess).sum(0))
        return [step.loss(modulated)], {"coefficients": factors}

    def wrap(
        self, optimizer: optax.GradientTransformationExtraArgs, modality_of: ModalityOf
    ) -> optax.GradientTransformationExtraArgs:
        def update(updates: Any, state: Any, params: Any = None, **step: Any) -> tuple[Any, Any]:
            factors = step["coefficients"]
            return map_owned(lambda name, u: (factors[name] * u).astype(u.dtype), modality_of, updates), state

        modulation = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
        return {"update": optax.chain(optimizer, modulation), "gradient": optimizer}[self.stage]


def _with_owned_constant(module: Any) -> Any:
    """Returns a copy of a strategy in which what a modality owns has no gradient."""
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    params = map_owned(lambda modality, leaf: lax.stop_gradient(leaf), module.modality_of, params)
    return nnx.merge(graph, params, rest, copy=True)


def _coalitions(module: Any, step: Step, whole: Logits) -> dict[frozenset[str], Any]:
    """Returns f(S) of every set of modalities, f(∅) = 0; puts the module into evaluation mode."""
    module.eval()
    inputs, everyone = step.inputs, jnp.ones(len(step.labels), bool)
    absent = {name: leave_out(batch, everyone) for name, batch in inputs.items()}
    found: dict[frozenset[str], Any] = {frozenset(): 0.0, frozenset(inputs): whole}
    for size in range(1, len(inputs)):
        for present in itertools.combinations(sorted(inputs), size):
            kept = {name: inputs[name] for name in present}
            found[frozenset(present)] = module({**absent, **kept}).logits
    return found


def _score(response: Logits, step: Step) -> Float[Array, ""]:
    probabilities = jnp.take_along_axis(jax.nn.softmax(response), step.labels[:, None], 1)
    return -jnp.log(jnp.maximum(probabilities, LEAST_PROBABILITY)).mean()


def modulation_coefficients(
    scores: Mapping[str, Float[Array, ""]], means: Mapping[str, Float[Array, ""]], alpha: float
) -> dict[str, Float[Array, ""]]:
    """Returns κ_u of each modality, from s_u of this step and their means over all earlier ones."""

    def ratios(of: Mapping[str, Float[Array, ""]]) -> dict[str, Float[Array, ""]]:
        mean = jnp.stack([*of.values()]).mean()
        return {name: jnp.exp(len(of) / (len(of) - 1) * (mean - score)) for name, score in of.items()}

    now, usual = ratios(scores), ratios(means)
    return {name: jnp.exp(alpha * jnp.minimum(usual[name] - now[name], LARGEST_EXCESS)) for name in scores}
