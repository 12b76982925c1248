"""The description of a model that goes with it: inputs, classes, calibration, licence and provenance."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from fusion_bench.data.captions.channel import sample
from fusion_bench.deploy.images import RULE
from fusion_bench.deploy.model import Classifier

LICENCE = "Apache-2.0"
"""Licence of the code that made the model; data have their own."""
MAX_CHARACTERS = 1000
"""Length of a text, at most: longer ones are refused before they are divided into tokens."""
EXAMPLES = 3
"""Texts of a channel that are shown as examples."""


def describe(classifier: Classifier) -> dict[str, Any]:
    """Returns all that a program needs to use a model, as JSON values.

    `inputs` has one entry per modality, in the order of the model's arguments: its name, kind, shape and dtype, the
    size of its vocabulary, the mean and standard deviation of its channels in training (the model standardises by
    itself), its neutral value, if it has one: a text, or the mean of each channel, and a few texts of the channel that
    the captions were drawn from. `arguments` are the arrays, as a sequence has two.
    """
    run = classifier.run
    inputs = []
    for name, spec in classifier.modalities.items():
        mean, std = classifier.loaded.stats[name]
        entry = {"name": name, "kind": spec.kind, "shape": list(spec.shape), "dtype": spec.dtype}
        entry |= {"vocabulary_size": spec.vocabulary_size, "has_tokenizer": name in classifier.loaded.tokenizers}
        entry |= {"mean": mean.tolist(), "std": std.tolist(), "neutral": _neutral(classifier.neutral.get(name))}
        entry |= {"examples": _examples(classifier, name)}
        inputs.append(entry)
    return {
        "strategy": run.strategy,
        "run": run.id,
        "seed": run.seed,
        "class_names": list(classifier.class_names),
        "inputs": inputs,
        "arguments": [
            {"name": name, "shape": ["batch", *shape], "dtype": dtype} for name, shape, dtype in classifier.arguments
        ],
        "output": {"name": "logits", "shape": ["batch", len(classifier.class_names)], "dtype": "float32"},
        "calibration": {"method": "temperature", "temperature": classifier.temperature, "fitted_on": "validation"},
        "image_rule": RULE,
        "max_characters": MAX_CHARACTERS,
        "test_accuracy": run.metrics.get("test_accuracy"),
        "licence": LICENCE,
        "provenance": {
            "data": run.data.get("description", run.data.get("name")),
            "captions": run.identity["data"]["captions"],
            "fingerprint": run.identity["fingerprint"],
            "environment": {
                key: run.environment.get(key) for key in ("version", "commit", "started", "device", "packages")
            },
        },
    }


def as_json(card: Mapping[str, Any]) -> str:
    """Returns a card as indented JSON."""
    return json.dumps(card, indent=2, ensure_ascii=False) + "\n"


def _examples(classifier: Classifier, name: str) -> list[str]:
    """Returns captions with different words, none if the run did not draw them from a channel."""
    channel = classifier.channel(name)
    if channel is None:
        return []
    drawn = sample(channel, np.arange(channel.num_classes), 0)
    _, first = np.unique(drawn.words, return_index=True)
    return [drawn.texts[position] for position in sorted(first)[:EXAMPLES]]


def _neutral(value: Any) -> Any:
    """Returns a text as it is, of a grid or vector the value of each channel, None if there is none."""
    return np.asarray(value).reshape(-1, np.shape(value)[-1])[0].tolist() if isinstance(value, np.ndarray) else value
