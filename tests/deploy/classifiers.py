"""Classifiers with random variables, and image files, that tests of deployment share."""

import dataclasses
import io

import jax
import numpy as np
from PIL import Image

from fusion_bench.data.captions.tokenizer import train_tokenizer, vocabulary
from fusion_bench.data.dataset import Task
from fusion_bench.deploy.model import Classifier
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.store.loaded import LoadedRun
from tests.tasks import CLASSES, CONFIG, SPECS, build

WORDS = ("a photo of a dog", "a photo of a cat .")
TEMPERATURE = 2.0


def make_classifier(run, name, modalities=("image", "text")) -> Classifier:
    """Returns a strategy with random variables as the classifier of a stored run, whose record it borrows."""
    tokenizers = {"text": train_tokenizer(WORDS)} if "text" in modalities else {}
    specs = {
        modality: dataclasses.replace(
            SPECS[modality],
            dtype={"image": "uint8", "text": "int32"}.get(modality, "float32"),
            vocabulary_size=len(vocabulary(tokenizers["text"])) if modality == "text" else None,
        )
        for modality in modalities
    }
    module = build(lambda: StrategySpec(name).build(Blueprint(Task(specs, CLASSES), CONFIG, jax.random.key(0))))
    stats = {
        modality: (
            np.full(spec.shape[-1], 100 if modality == "image" else 0.5, np.float32),
            np.full(spec.shape[-1], 50 if modality == "image" else 2, np.float32),
        )
        if spec.kind != "tokens"
        else (np.zeros(0, np.float32), np.ones(0, np.float32))
        for modality, spec in specs.items()
    }
    named = dataclasses.replace(run, id=f"{name}-s0-0123456789", strategy=name)
    names = tuple(f"class {label}" for label in range(CLASSES))
    return Classifier(LoadedRun(named, module, tokenizers, specs, names, stats), TEMPERATURE)


def draw_pixels(height=8, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def encoded(image, form="PNG", **options) -> bytes:
    """Returns an array of pixels, or an image, as the content of a file."""
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, form, **options)
    return stream.getvalue()
