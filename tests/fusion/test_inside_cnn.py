"""What joins modalities inside the image's CNN, against NumPy float64."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench.cli.choices import parse_choices
from fusion_bench.config import ModelConfig
from fusion_bench.errors import UserError
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import resolve
from fusion_bench.models.cnn import PatchStageSpec
from fusion_bench.models.encoders import WIDTHS
from fusion_bench.training.cost import count_params as count_of_spec
from tests import oracles
from tests.oracles import array, linear
from tests.tasks import BATCH, CONFIG, MICRO, WORDS, call, count_params, make_inputs, make_strategy, make_task

pytestmark = pytest.mark.usefixtures("two_stages")

STAGES = (PatchStageSpec(2, 6, 2), PatchStageSpec(2, 8, 1))
BLOCKS = (6, 6, 8)
"""Widths of the blocks."""
TASKS = [("image", "text"), ("image", "text", "sensor"), ("sensor", "image", "audio", "text")]


@pytest.fixture(scope="module")
def two_stages():
    """Gives the size "micro" two stages, one of them of two blocks, so that a depth lies between them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(WIDTHS, "micro", dataclasses.replace(MICRO, stages=STAGES))
        yield


def make(label, names) -> Any:
    """Returns a strategy with random variables, and inputs for it."""
    return make_strategy(label, names), make_inputs(make_task(*names))


def laid_over(module, inputs, depth):
    """The maps with everything else laid over them at this depth, one modality at a time."""

    def overlay(at, x):
        if at != depth:
            return x
        layers = [x]
        for name in sorted(set(inputs) - {"image"}):
            values = np.asarray(inputs[name].values)
            if name == "audio":
                resized = jax.image.resize(inputs[name].values, (*x.shape[:3], 1), "linear")
                layers.append(np.asarray(resized, np.float64))
                continue
            if name == "text":
                words = array(module.embeddings[name].embed.embedding)[values]
                layer = oracles.masked_mean(words, inputs[name].mask)
            else:
                layer = linear(module.embeddings[name].embed, values)
            layer = 0.1 * oracles.batch_norm(module.embeddings[name].norm, layer)
            layers.append(np.tile(layer[:, None, None], (1, *x.shape[1:3], 1)))
        return np.concatenate(layers, axis=-1)

    return overlay


at_every_depth = pytest.mark.parametrize(
    ("label", "depth"),
    [("early-channel:channels=2", 0), *((f"mid-channel:depth={depth}:channels=2", depth) for depth in range(3))],
)


@at_every_depth
@pytest.mark.parametrize("names", TASKS, ids=len)
def test_parameters_beside_the_image_encoder(label, depth, names):
    embeddings = 2 * (WORDS * ("text" in names) + (3 + 1) * ("sensor" in names))
    added = 2 * len(set(names) & {"text", "sensor"}) + ("audio" in names)
    following = (2**2 * 6, 2**2 * 8, MICRO.hidden + 2)[depth]  # at last the head, and a normalisation
    alone = count_params(make_strategy("image-only", names))
    assert count_params(make_strategy(label, names)) == alone + embeddings + added * following


def test_parameters_where_the_first_layer_has_3x3_kernels():
    config = ModelConfig(encoder="resnet9", dtype="float32")
    task = make_task(*TASKS[0])
    alone, early = (count_of_spec(spec, task, config) for spec in resolve(["image-only", "early-channel"], task))
    first = next(iter(WIDTHS["resnet9"].stages)).width
    assert early - alone == 16 * WORDS + 3**2 * 16 * first


@pytest.mark.parametrize("names", TASKS, ids=len)
@at_every_depth
def test_channels_are_laid_over_the_map(label, depth, names):
    module, inputs = make(label, names)
    image = np.asarray(inputs["image"].values, np.float64)
    maps = oracles.cnn(module.encoder.encoder.cnn, image, overlay=laid_over(module, inputs, depth))
    added = 2 * len(set(names) & {"text", "sensor"}) + ("audio" in names)
    assert maps.shape[-1] == (8 + added if depth == 2 else 8)
    features = oracles.batch_norm(module.encoder.norm, maps.mean((1, 2)))
    np.testing.assert_allclose(call(module, inputs).logits, oracles.head(module.head, features), atol=1e-5)


def test_there_is_no_depth_below_the_last_stage():
    with pytest.raises(UserError, match="mid-channel has depths from 0 to 2 in this encoder, not 3"):
        make("mid-channel:depth=3", TASKS[0])


@pytest.mark.parametrize("names", TASKS, ids=len)
def test_depth_zero_is_early_channel(names):
    task, inputs, found = make_task(*names), make_inputs(make_task(*names)), []
    for label in ("early-channel", "mid-channel:depth=0", "mid-channel:depth=1"):
        (spec,) = resolve(parse_choices(label), task)
        module: Any = spec.build(Blueprint(task, CONFIG, jax.random.key(0)))
        module.eval()
        found.append(call(module, inputs).logits)
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-4


@pytest.mark.parametrize("names", TASKS, ids=len)
def test_film_scales_and_shifts_every_block_before_its_relu(names):
    module, inputs = make("film", names)
    others = [
        np.asarray(call(module.encoders[name], inputs[name]), np.float64) for name in sorted(set(names) - {"image"})
    ]
    numbers = linear(module.modulate.linear, np.concatenate(others, axis=1))
    ends = np.cumsum(BLOCKS)
    modulations = [
        (1 + numbers[:, end - width : end], numbers[:, ends[-1] + end - width : ends[-1] + end])
        for end, width in zip(ends, BLOCKS, strict=True)
    ]
    image = np.asarray(inputs["image"].values, np.float64)
    maps = oracles.cnn(module.encoders["image"].encoder.cnn, image, modulations=modulations)
    features = oracles.batch_norm(module.encoders["image"].norm, maps.mean((1, 2)))
    np.testing.assert_allclose(call(module, inputs).logits, oracles.head(module.head, features), atol=1e-5)
    assert module.modulate.linear.kernel.size + module.modulate.linear.bias.size == (
        (sum(h.shape[1] for h in others) + 1) * 2 * sum(BLOCKS)
    )


def excited(transfer, means):
    """The gates of each modality, from the means of all."""
    joint = np.maximum(linear(transfer.squeeze, np.concatenate([means[name] for name in sorted(means)], axis=1)), 0)
    return {name: 2 / (1 + np.exp(-linear(transfer.excite[name], joint))) for name in means}


@pytest.mark.parametrize("names", [("image", "text"), ("image", "text", "sensor")], ids=len)
@pytest.mark.parametrize("depths", [1, 2])
def test_mmtm_gates_the_channels_of_every_modality_after_its_stages(depths, names):
    module, inputs = make(f"mmtm:depths={depths}:ratio=2", names)
    others: dict[str, Any] = {}
    for name in sorted(set(names) - {"image"}):
        tokens, mask = call(module.encoders[name].encoder, inputs[name])
        others[name] = np.asarray(tokens, np.float64), np.ones(tokens.shape[:2], bool) if mask is None else mask

    def gate(at, x):
        place = at - 1 - (2 - depths)  # the input of a stage is the output of the one before it
        if place < 0:
            return x
        means = {"image": x.mean((1, 2))} | {name: oracles.masked_mean(*each) for name, each in others.items()}
        gates = excited(module.transfers[place], means)
        for name, (tokens, mask) in others.items():
            others[name] = tokens * gates[name][:, None], mask
        return x * gates["image"][:, None, None]

    image = np.asarray(inputs["image"].values, np.float64)
    maps = oracles.cnn(module.encoders["image"].encoder.cnn, image, overlay=gate)
    pooled = {"image": maps.mean((1, 2))} | {name: oracles.masked_mean(*each) for name, each in others.items()}
    features = [oracles.batch_norm(module.encoders[name].norm, pooled[name]) for name in sorted(names)]
    expected = oracles.head(module.head, np.concatenate(features, axis=1))
    np.testing.assert_allclose(call(module, inputs).logits, expected, atol=1e-5)
    costs = 0
    for width in [spec.width for spec in STAGES][2 - depths :]:
        channels = width + sum(module.encoders[name].features for name in others)
        costs += (channels + 1) * (channels // 2) + (channels // 2 + 1) * channels
    assert count_params(module) == count_params(make_strategy("concat", names)) + costs


def test_mmtm_has_no_more_places_than_there_are_stages():
    with pytest.raises(UserError, match="mmtm has places after 1 to 2 stages of this encoder, not 3"):
        make("mmtm:depths=3", TASKS[0])


def test_film_starts_as_the_image_alone():
    task = make_task(*TASKS[0])
    (spec,) = resolve(["film"], task)
    module: Any = spec.build(Blueprint(task, CONFIG, jax.random.key(0)))
    module.eval()
    inputs = make_inputs(task)
    alone = module.head(module.encoders["image"](inputs["image"]))
    np.testing.assert_allclose(module(inputs).logits, alone, atol=1e-6)
    assert nnx.state(module.modulate.linear)["kernel"][...].shape[1] == 2 * sum(BLOCKS)
    assert jnp.shape(alone) == (BATCH, 4)
