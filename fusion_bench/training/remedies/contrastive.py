"""A contrastive loss that aligns the modalities' features."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Inexact, Int

from fusion_bench.fields import NonNegative, Positive
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.models.layers import normalize
from fusion_bench.training.remedies.base import Loss, Remedy, Step, register_remedy


class Shared(nnx.Module):
    """A linear map of each modality's features to a space that all share."""

    def __init__(self, strategy: Any, blueprint: Blueprint, width: int):
        def project(name: str) -> nnx.Linear:
            features = strategy.encoder_of(name).features
            return nnx.Linear(features, width, dtype=blueprint.dtype, rngs=blueprint.rngs(f"shared/{name}"))

        self.projections = nnx.Dict({name: project(name) for name in blueprint.modalities})


@register_remedy(
    "contrastive",
    reference="CLIP: Radford et al. 2021, arXiv:2103.00020; positives by class: Khosla et al. 2020, arXiv:2004.11362",
)
class Contrastive(Remedy):
    """Adds a loss that brings features of different modalities together where they are of one example, or of one class.

    With s_m the feature of modality m, projected and of length 1, and P(i) the positives of example i:

        L = L_joint + λ mean over pairs m ≠ n of mean_i -1/|P(i)| Σ_{j∈P(i)} log softmax_j(s_m,i · s_n,j / τ)

    P(i) are the examples of the batch with the label of i (`positives=class`), or i alone (`positives=example`, as in
    CLIP). Of 64 examples in ten classes about six share a label, which the second calls negatives. The projections are
    trained with the model and then dropped, so their parameters are not counted. Features of a fusion of tokens are
    their mean. CLIP learns τ; here it is fixed.

    Args:
      weight: λ.
      temperature: τ.
      width: of the shared space.
      positives: "class" or "example".
    """

    needs_encoders = True
    tuned: ClassVar[Mapping[str, tuple[float, float]]] = {"weight": (0.03, 3.0)}

    def __init__(
        self,
        *,
        weight: NonNegative = 0.3,
        temperature: Positive = 0.1,
        width: int = 32,
        positives: Literal["class", "example"] = "class",
    ):
        self.weight, self.temperature, self.width, self.positives = weight, temperature, width, positives

    def make_parts(self, strategy: Any, blueprint: Blueprint) -> nnx.Module:
        return Shared(strategy, blueprint, self.width)

    def losses(self, step: Step) -> tuple[Sequence[Loss], Mapping[str, Any]]:
        outputs, alike = step.outputs(), positives(step.labels, self.positives)
        shared = {
            name: normalize(project(step.module.features_of(outputs.encoded[name])).astype(jnp.float32), axis=-1)
            for name, project in step.parts.projections.items()
        }
        pairs = [
            alignment_loss(shared[first] @ shared[second].T / self.temperature, alike)
            for first, second in itertools.permutations(shared, 2)
        ]
        return [step.loss(outputs), self.weight * jnp.stack(pairs).mean()], {}


def positives(labels: Int[Array, " batch"], by: str) -> Float[Array, "batch batch"]:
    """Returns 1 where two examples of a batch should be close."""
    return jnp.eye(len(labels)) if by == "example" else (labels[:, None] == labels).astype(jnp.float32)


def alignment_loss(similarities: Inexact[Array, "batch batch"], alike: Float[Array, "batch batch"]) -> Loss:
    """Returns the mean over rows of -1/|P| Σ_{j∈P} log softmax_j of the similarities, in nats."""
    scores = jax.nn.log_softmax(similarities, axis=1)
    return -((scores * alike).sum(1) / alike.sum(1)).mean()
