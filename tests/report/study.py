"""A small study on disk, with predictions and curves, whose numbers are known."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from fusion_bench.store import Run, Store, run_id

CLASSES = ["circle", "<b>square</b>", "star"]
FAMILIES = {
    "image-only": "unimodal",
    "text-only": "unimodal",
    "early-channel": "early",
    "concat": "intermediate",
    "tensor:width=8": "tensor",
    "late-mean": "late",
    "late-posthoc": "late",
}
ACCURACIES = {
    "image-only": (0.70, 0.72, 0.71),
    "text-only": (0.40, 0.41, 0.42),
    "early-channel": (0.76, 0.77, 0.78),
    "concat": (0.84, 0.86, 0.85),
    "tensor:width=8": (0.80, 0.83, 0.82),
    "late-mean": (0.81, 0.82, 0.83),
    "late-posthoc": (0.82, 0.83, 0.84),
    "bayes-reference": (0.88, 0.89, 0.87),
}
PARAMS = {name: 1000 * (place + 1) for place, name in enumerate(FAMILIES)}
N_TEST = 300


def predictions(accuracy: float, seed: int, strategy: str) -> dict[str, np.ndarray]:
    """Logits that are right in this part of the examples, where they are wrong in the same class for a strategy."""
    labels = np.arange(N_TEST) % 3
    wrong = np.arange(N_TEST) >= round(accuracy * N_TEST)
    taken = np.where(wrong, (labels + 1 + len(strategy) % 2) % 3, labels)
    noise = np.random.default_rng(seed).normal(0, 0.3, (N_TEST, 3))
    logits = (3 * np.eye(3)[taken] + noise).astype(np.float32)
    return {
        "test_logits": logits,
        "test_labels": labels.astype(np.int32),
        "validation_logits": logits,
        "validation_labels": labels.astype(np.int32),
    }


def write_study(
    store: Store,
    *,
    captions: str = "default",
    seeds: int = 3,
    command: str = "run a",
    classes: Sequence[str] = CLASSES,
    strategies: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Writes the runs of one setting; `strategies` gives some of them other labels."""
    for name, accuracies in ACCURACIES.items():
        family, strategy = FAMILIES.get(name, "reference"), (strategies or {}).get(name, name)
        for seed, accuracy in enumerate(accuracies[:seeds]):
            trained = family != "reference" and strategy != "late-posthoc"
            identity = {
                "strategy": strategy,
                "name": strategy.partition(":")[0],
                "seed": seed,
                "data": {"source": "shapes", "captions": captions},
                "model": {"encoder": "tiny"},
                "training": {"epochs": 3},
                "version": "0.1.0",
            }
            cost = {
                "params": PARAMS.get(strategy),
                "latency_s": 0.0005,
                "train_flops": 5e6,
                **({"train_seconds": 2.5} if trained else {}),
            }
            run = Run(
                id=run_id(identity),
                status="complete",
                strategy=strategy,
                family=family,
                seed=seed,
                identity=identity,
                data={
                    "name": "shapes",
                    "captions": captions,
                    "modalities": ["image", "text"],
                    "num_classes": 3,
                    "class_names": list(classes),
                    "notes": list(notes),
                    "n_train": 900,
                    "n_validation": 100,
                    "n_test": N_TEST,
                    "captions_modality": "text",
                    "class_modality": "image",
                    "text_only_ceiling": 0.45,
                    "image_only_ceiling": 1.0,
                },
                metrics={"test_accuracy": accuracy, "validation_accuracy": accuracy},
                cost={} if family == "reference" else cost,
                environment={
                    "device": "a processor",
                    "commit": "0123456789",
                    "command": command,
                    "packages": {"jax": "0.10.2"},
                },
                modality=strategy.partition("-")[0] if family == "unimodal" else None,
            )
            curve = pd.DataFrame(
                {
                    "epoch": [1, 2, 3],
                    "train_loss": [2.0, 1.0, 0.5],
                    "validation_loss": [2.0, 1.5, 1.0],
                    "validation_accuracy": [accuracy - 0.2, accuracy - 0.1, accuracy],
                }
            )
            store.write(run, curve=curve if trained else None, predictions=predictions(accuracy, seed, strategy))
