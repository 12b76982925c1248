"""The costs that accuracy is shown against."""

import dataclasses

import pandas as pd


@dataclasses.dataclass(frozen=True)
class Cost:
    """A cost: less is better.

    Attributes:
      name: short.
      label: with its unit, along an axis.
      key: its column of the table.
      scale: of the unit shown.
    """

    name: str
    label: str
    key: str
    scale: float = 1.0

    def values(self, block: pd.DataFrame) -> list[float]:
        """Returns the cost of each row, NaN where it was not measured."""
        column = block[self.key].astype("Float64").to_numpy(float, na_value=float("nan"))
        return [float(value) for value in self.scale * column]

    def pictured(self, rows: pd.DataFrame, low: float) -> list[float]:
        """Returns the costs, above 0, of the rows with an accuracy of at least `low`: what a picture shows."""
        pairs = zip(self.values(rows), rows["test_accuracy_mean"], strict=True)
        return [cost for cost, accuracy in pairs if cost > 0 and accuracy >= low]


PARAMETERS = Cost("parameters", "parameters", "params")
TRAIN_FLOPS = Cost("training FLOPs", "training MFLOP per example", "train_flops", 1e-6)
TEST_FLOPS = Cost("test FLOPs", "test MFLOP per example", "inference_flops", 1e-6)
TRAIN_SECONDS = Cost("training time", "training time, s", "train_seconds")
LATENCY = Cost("latency", "latency of one example, ms", "latency_s", 1e3)
