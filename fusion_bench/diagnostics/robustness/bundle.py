"""All diagnostics of robustness under one name."""

from fusion_bench.config import Choice
from fusion_bench.diagnostics.base import Bundle, register_diagnostic
from fusion_bench.fields import Count


@register_diagnostic("robustness", reference="the diagnostics corruptions, dropped-words and channel-shift")
class Robustness(Bundle):
    """Accuracy and calibration under shifts of the test data: corruptions, dropped-words and channel-shift together.

    Each is stored under its own name. What of them does not apply to a strategy or to the data is left out, and a line
    states the reason. They are measured on `examples` test examples at even distances, of all models the same ones.
    """

    def __init__(self, *, examples: Count = 2000):
        self.examples = examples

    def parts(self) -> tuple[Choice, ...]:
        return tuple(
            Choice(name, {"examples": self.examples}) for name in ("corruptions", "dropped-words", "channel-shift")
        )
