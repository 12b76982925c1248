"""Trained models against the exact ceilings of their captions, on images that anything can tell apart."""

import math

import numpy as np
import pytest

from fusion_bench.config import DataConfig, ModelConfig, TrainingConfig
from fusion_bench.data.batches import to_device
from fusion_bench.data.load import load_dataset
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.training.compile import compile_program
from fusion_bench.training.loop import train

TRAIN, TEST = 4000, 2000
MODEL = ModelConfig(encoder="tiny", dtype="float32")
TRAINING = TrainingConfig(epochs=8, learning_rate=0.003)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """Images of 8×8 pixels, each class of one colour, with a little noise."""
    path = tmp_path_factory.mktemp("validity") / "coloured.npz"
    rng = np.random.default_rng(0)
    label = rng.permutation(np.arange(TRAIN + TEST) % 10)
    colours = np.random.default_rng(1).integers(40, 216, (10, 1, 1, 3))
    image = colours[label] + rng.integers(-8, 9, (len(label), 8, 8, 3))
    split = np.where(np.arange(len(label)) < TRAIN, "train", "test")
    np.savez(path, image=image.astype(np.uint8), label=label, split=split)
    return path


@pytest.fixture(scope="module")
def accuracy(coloured):
    def accuracy(strategy, captions):
        """Test accuracy of one seed, and the channel."""
        dataset = load_dataset(DataConfig(str(coloured), captions=captions))
        spec = StrategySpec(strategy)
        data, splits = to_device(dataset), dataset.splits
        program = compile_program(spec, dataset.task, MODEL, TRAINING, data, len(splits["train"]))
        trained = train(program, data, splits, 0, TRAINING)
        logits = program.predictions(trained.variables, data, splits["test"])
        assert dataset.captions is not None
        return (logits.argmax(1) == dataset.labels[splits["test"]]).mean(), dataset.captions.channel

    return accuracy


def noise(ceiling):
    """Three standard errors of an accuracy."""
    return 3 * math.sqrt(ceiling * (1 - ceiling) / TEST)


@pytest.mark.parametrize("captions", ["default", "synergy"])
def test_text_alone_reaches_its_ceiling(accuracy, captions):
    found, channel = accuracy("text-only", captions)
    assert found == pytest.approx(channel.text_only_ceiling, abs=noise(channel.text_only_ceiling))


def test_an_image_alone_and_late_fusion_stay_at_chance_under_synergy_and_a_product_does_not(accuracy):
    for strategy in ("image-only", "late-mean"):
        assert accuracy(strategy, "synergy")[0] == pytest.approx(0.1, abs=2 * noise(0.1)), strategy
    assert accuracy("tensor", "synergy")[0] > 0.5
