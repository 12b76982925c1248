"""Choice of test examples that show what the data are and where models fail."""

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from fusion_bench.data.dataset import Dataset
from fusion_bench.errors import UserError
from fusion_bench.families import MULTIMODAL
from fusion_bench.store import Store
from fusion_bench.store.examples import Example, write_examples

TYPICAL, ERRORS = 10, 5
"""Number of examples of the classes in turn, and of the most confident errors of each strategy."""
LARGEST = 64
"""Height or width beyond which a stored image is subsampled."""


def examples_of(dataset: Dataset, positions: Sequence[int]) -> list[Example]:
    """Returns the examples at positions of the test split, with its first images; none without images or captions."""
    if not dataset.task.images or dataset.captions is None:
        return []
    images = dataset.modalities[dataset.task.images[0]].values
    images = np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images[..., :3]
    step = max(1, -(-max(images.shape[1:3]) // LARGEST))
    names, texts, test = dataset.class_names, dataset.captions.texts, dataset.splits["test"]
    return [
        Example(position, images[i, ::step, ::step], texts[i], names[dataset.classes[i]], names[dataset.labels[i]])
        for position, i in ((position, test[position]) for position in positions)
    ]


def by_turns(dataset: Dataset, count: int) -> list[int]:
    """Returns positions in the test split, with the classes in turn."""
    classes = dataset.classes[dataset.splits["test"]]
    turn = np.zeros(len(classes), int)
    for label in np.unique(classes):
        of_class = np.flatnonzero(classes == label)
        turn[of_class] = np.arange(len(of_class))
    return np.lexsort((classes, turn))[:count].tolist()


def keep_examples(dataset: Dataset, store: Store) -> None:
    """Stores examples of the classes in turn, and the most confident errors of each strategy with the first seed.

    Raises:
      UserError: the directory cannot be written to.
    """
    positions = dict.fromkeys(by_turns(dataset, TYPICAL))
    for run in store.runs():
        identity = run.identity
        of_these_data = identity.get("fingerprint") == dataset.fingerprint and identity["target"] == "label"
        if run.status == "complete" and run.seed == 0 and run.family in MULTIMODAL and of_these_data:
            try:
                stored = store.predictions(run.id)
            except UserError:  # damaged, as the report will say
                continue
            positions |= dict.fromkeys(confident_errors(stored["test_logits"], stored["test_labels"]))
    if examples := examples_of(dataset, list(positions)):
        write_examples(store.directory, dataset.fingerprint, examples)


def confident_errors(logits: np.ndarray, labels: np.ndarray) -> list[int]:
    """Returns the positions of the errors with the highest probability, the highest first."""
    wrong = np.flatnonzero(logits.argmax(axis=1) != labels)
    confidence = softmax(logits[wrong].astype(np.float64), axis=1).max(axis=1)
    return wrong[np.argsort(-confidence, kind="stable")][:ERRORS].tolist()
