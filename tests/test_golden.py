"""Logits of every strategy after a few steps of training, compared with stored values.

A change of results is a decision: bump `ENGINE_VERSION`, or the `version` of the strategy or remedy, then write the
file again, `python -m tests.test_golden`. Another CPU rounds otherwise: between kinds of x86, logits differed by up to
2e-5. A signed square root, whose slope has no bound at zero, enlarges the difference with every step: to 1e-4 after one
and 8e-3 after four. So its operators take one step. The Fourier transform of `compact-bilinear` rounds most
differently: with three modalities by 2e-3 after one step.
"""

import dataclasses
import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusion_bench.config import Choice, DataConfig, TrainingConfig
from fusion_bench.data import splits
from fusion_bench.data.batches import to_device
from fusion_bench.data.captions import channel as captions
from fusion_bench.data.captions import tokenizer
from fusion_bench.data.dataset import Dataset, Modality, RawDataset
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import StrategySpec, strategies
from fusion_bench.training.remedies.base import remedies
from fusion_bench.training.step import make_functions, predict, run_key, split_module
from tests.tasks import CONFIG, QUICK, trained_on

FILE = Path(__file__).with_name("golden.npz")
CHANNELS = ("default", "synergy")
TWO, THREE = ("image", "text"), ("audio", "image", "text")
BATCH, KEPT = 16, 2
"""Examples in a step of training, and test examples whose logits are stored."""
CLASSES, VOCABULARY = 10, 200
ROOTS = ("block", "compact-bilinear", "mfb", "mfh")
"""The operators that end in a signed square root."""
STEPS, STEPS_OF_ROOTS = 4, 1
TOLERANCE, TOLERANCE_OF_ROOTS, TOLERANCE_OF_FOURIER = 1e-4, 1e-3, 5e-3
TRAINING = TrainingConfig(epochs=1, batch_size=BATCH, learning_rate=0.01)


@functools.cache
def make_dataset(channel_name: str, names: tuple[str, ...]) -> Dataset:
    """Returns 84 examples of noise with a tint for each class, and captions from a channel."""
    rng = np.random.default_rng(0)
    count = 84
    labels = (np.arange(count) % CLASSES).astype(np.int32)
    tints = rng.integers(0, 200, (CLASSES, 3))
    image = tints[labels][:, None, None] + rng.integers(0, 50, (count, 8, 8, 3))
    audio = rng.integers(0, 50, (count, 6, 5, 1)) + 20 * labels[:, None, None, None]
    split = np.where(np.arange(count) < 72, "train", "test")
    class_names = tuple(f"class {label}" for label in range(CLASSES))
    modalities = {
        "image": Modality("grid", image.astype(np.uint8), augment=("flip", "translate")),
        "audio": Modality("grid", audio.astype(np.uint8)),
    }
    raw = RawDataset("golden", modalities, labels, class_names, split)
    indices = splits.split(raw, DataConfig(validation_fraction=1 / 9))
    channel = captions.make_channel(channel_name, class_names)
    drawn = captions.sample(channel, labels, 0)
    vocabulary = tokenizer.train_tokenizer(drawn.texts[i] for i in indices["train"])
    tokens = Modality("tokens", tokenizer.encode(vocabulary, drawn.texts, 12), VOCABULARY)
    assert vocabulary.get_vocab_size() <= VOCABULARY
    modalities = {name: {**modalities, "text": tokens}[name] for name in names}
    return Dataset("golden", modalities, drawn.targets, labels, class_names, indices)


CASES = [
    (names, name)
    for names in (TWO, THREE)
    for name, registration in strategies(names).items()
    if (len(names) == 2 or not registration.pairs_only) and (names is TWO or registration.modality in (None, "audio"))
]
CASES += [(TWO, f"concat+{remedy}") for remedy in remedies.registered() if remedy != "none"]


def case_id(case: tuple[tuple[str, ...], str]) -> str:
    return f"{case[1]}-of-{len(case[0])}"


def train_and_predict(names: tuple[str, ...], name: str) -> np.ndarray:
    """Returns test logits [channel, example, class] after a few steps, by one program for all channels.

    Of a post-hoc strategy, those of its untrained members, joined.
    """
    name, _, remedy = name.partition("+")
    spec, steps = StrategySpec(name), STEPS_OF_ROOTS if name in ROOTS else STEPS
    training = dataclasses.replace(TRAINING, remedy=Choice(remedy or "none"))
    task = make_dataset(CHANNELS[0], names).task

    seed = jnp.int32(0)

    def untrained(seed, data, order, test):
        module = spec.build(Blueprint(task, CONFIG, run_key(seed, "init")))
        return predict(*split_module(module), data, test)

    def trained(initial, data, order, test):
        read = trained_on(functions, initial, data)
        state, _ = functions.train(initial, read, order, seed, jnp.int32(steps))
        return predict(functions.graph, state.variables, data, test)

    if spec.registration.is_posthoc:
        start, compiled = seed, jax.jit(untrained, compiler_options=QUICK)
    else:
        functions = make_functions(spec, task, CONFIG, training, steps * BATCH)
        # The initialisation is done in single operations, which are compiled once for all strategies.
        start, compiled = functions.init(seed), jax.jit(trained, compiler_options=QUICK)
    logits = []
    for channel in CHANNELS:
        dataset = make_dataset(channel, names)
        order, test = (jnp.asarray(dataset.splits[split]) for split in ("train", "test"))
        logits.append(compiled(start, to_device(dataset), order, test[:KEPT]))
    return np.asarray(logits)


@pytest.fixture(scope="module")
def golden():
    with np.load(FILE) as stored:
        return dict(zip(stored["cases"].tolist(), stored["logits"], strict=True))


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_a_few_steps_give_the_stored_logits(case, golden):
    tolerance = TOLERANCE_OF_ROOTS if case[1] in ROOTS else TOLERANCE
    if case[1] == "compact-bilinear":
        tolerance = TOLERANCE_OF_FOURIER
    np.testing.assert_allclose(train_and_predict(*case), golden[case_id(case)], atol=tolerance, rtol=tolerance)


def test_nothing_is_stored_that_is_not_compared(golden):
    assert set(golden) == {case_id(case) for case in CASES}


if __name__ == "__main__":
    found = {case_id(case): train_and_predict(*case) for case in CASES}
    if sys.argv[1:] == ["--compare"]:
        with np.load(FILE) as stored:
            known = dict(zip(stored["cases"].tolist(), stored["logits"], strict=True))
        differing = [name for name in found if known[name].tobytes() != found[name].tobytes()]
        print(f"{len(found) - len(differing)} of {len(found)} are equal bit for bit; differing: {differing}")
    else:
        np.savez_compressed(FILE, cases=np.array([*found]), logits=np.stack([*found.values()]))
        print(f"{len(found)} cases written to {FILE}, {FILE.stat().st_size:,} bytes")
