"""Predictions in a few fixed batch sizes, each compiled before the first request."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from fusion_bench.deploy.model import Classifier

SIZES = (1, 8, 16, 32, 64)
"""Batch sizes; a group is padded to the next one."""


class Predictor:
    """Calibrated probabilities of groups of rows.

    Args:
      classifier: the model.
      largest: number of rows in a group, at most.
    """

    def __init__(self, classifier: Classifier, largest: int):
        self.classifier = classifier
        self.sizes = (*(size for size in SIZES if size < largest), largest)

    def warm(self) -> None:
        """Compiles each batch size, and finds the neutral values."""
        _ = self.classifier.neutral
        for size in self.sizes:
            zeros = (np.zeros((size, *shape), dtype) for _, shape, dtype in self.classifier.arguments)
            self.classifier.compiled(*zeros).block_until_ready()

    def predict(self, groups: Sequence[list[np.ndarray]]) -> list[Float64[np.ndarray, "row class"]]:
        """Returns the probabilities of each group; all groups together are one batch."""
        counts = [len(arrays[0]) for arrays in groups]
        total = sum(counts)
        size = next(size for size in self.sizes if size >= total)
        rows = np.arange(size) % total
        columns = zip(*groups, strict=True)
        logits = self.classifier.compiled(*(np.concatenate(column)[rows] for column in columns))
        return np.split(self.classifier.probabilities(np.asarray(logits)[:total]), np.cumsum(counts)[:-1])
