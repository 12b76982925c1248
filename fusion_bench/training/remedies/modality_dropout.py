"""Training on examples of which a modality is missing."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Key

from fusion_bench.data.batches import Inputs, leave_out
from fusion_bench.fields import Probability
from fusion_bench.training.remedies.base import Loss, Remedy, Step, register_remedy


@register_remedy("modality-dropout", reference="ModDrop: Neverova et al. 2016, arXiv:1501.00102")
class ModalityDropout(Remedy):
    """Leaves one modality out of some training examples, so that no modality can be relied on alone.

    In each step, each example independently loses one of its modalities with probability p; which one is uniform. At
    least one is left, always. What is lost is zero after standardisation: the mean of a grid or a vector, a text or a
    sequence without tokens. So it is defined for every strategy, early fusion included. Evaluation sees all modalities,
    and nothing is rescaled. `--missing` takes modalities from the same training examples in every epoch; with both, an
    example may lose all.

    Differences: ModDrop drops each modality independently with its own probability, and so may drop several; it
    fine-tunes a model whose parts were trained separately, while this is the whole training.

    Args:
      rate: p.
    """

    tuned: ClassVar[Mapping[str, tuple[float, float]]] = {"rate": (0.05, 0.5)}

    def __init__(self, *, rate: Probability = 0.2):
        self.rate = rate

    def losses(self, step: Step) -> tuple[Sequence[Loss], Mapping[str, Any]]:
        missing = draw_missing(sorted(step.inputs), len(step.labels), self.rate, step.key)
        inputs: Inputs = {name: leave_out(batch, missing[name]) for name, batch in step.inputs.items()}
        return [step.loss(step.outputs(inputs))], {}


def draw_missing(
    names: Sequence[str], count: int, rate: float, key: Key[Array, ""]
) -> dict[str, Bool[Array, " example"]]:
    """Returns the examples that lose each modality: none, or one of each example."""
    key_loses, key_which = jax.random.split(key)
    loses = jax.random.bernoulli(key_loses, rate, (count,))
    which = jax.random.randint(key_which, (count,), 0, len(names))
    return {name: loses & (which == jnp.int32(number)) for number, name in enumerate(names)}
