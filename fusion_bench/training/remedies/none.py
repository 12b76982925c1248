"""Training without a remedy."""

from fusion_bench.data.dataset import Task
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.training.remedies.base import Remedy, register_remedy


@register_remedy("none", reference="baseline")
class NoRemedy(Remedy):
    """No remedy: the strategy's own loss and the optimiser's own updates."""

    def skip(self, spec: StrategySpec, task: Task) -> None:
        return None
