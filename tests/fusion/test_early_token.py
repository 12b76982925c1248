"""One transformer over the tokens of all modalities, against NumPy float64."""

import numpy as np
import pytest

from fusion_bench.models.encoders import HEADS, WIDTHS
from tests import oracles
from tests.tasks import (
    BATCH,
    CLASSES,
    THREE,
    TOKENS,
    TWO,
    WORDS,
    call,
    count_params,
    make_inputs,
    make_strategy,
    make_task,
)

MICRO = WIDTHS["micro"]


def convolved(stem, x):
    """A stem of 3×3 convolutions of stride 2, output pixel by output pixel, then a linear map."""
    for layer in stem.layers:
        batch, height, width, _ = x.shape
        kernel = oracles.array(layer.linear.kernel)
        out = np.zeros((batch, -(-height // 2), -(-width // 2), kernel.shape[-1]))
        padded = np.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0)))
        for i, j in np.ndindex(out.shape[1:3]):
            seen = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            out[:, i, j] = seen.reshape(batch, -1) @ kernel
        x = np.maximum(oracles.batch_norm(layer.norm, out), 0)
    return oracles.linear(stem.project, x)


@pytest.mark.parametrize("options", ["", ":stem=conv", ":order=post:expansion=4"])
@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
def test_early_token_is_one_transformer_over_all_tokens(names, options):
    module, inputs = make_strategy(f"early-token{options}", names), make_inputs(make_task(*names))
    tokens, masks = [], []
    for name in names:
        embedding, values = module.embeddings[name], np.asarray(inputs[name].values)
        if name == "text":
            embedded, mask = oracles.array(embedding.embed.embedding)[values], np.asarray(inputs[name].mask)
        elif "conv" in options:
            grid = convolved(embedding.embed, np.asarray(values, np.float64))
            embedded = grid.reshape(BATCH, -1, grid.shape[-1])
            mask = np.ones(embedded.shape[:2], bool)
        else:
            patches = oracles.patches(values, MICRO.patch)
            embedded = oracles.linear(embedding.embed, patches.reshape(BATCH, -1, patches.shape[-1]))
            mask = np.ones(embedded.shape[:2], bool)
        tokens.append(oracles.layer_norm(embedding.norm, embedded) + oracles.array(embedding.position))
        masks.append(mask)
    joint = oracles.transformer(module.transformer, np.concatenate(tokens, axis=1), np.concatenate(masks, axis=1))
    parts = np.split(joint, np.cumsum([mask.shape[1] for mask in masks])[:-1], axis=1)
    means = [oracles.masked_mean(part, mask) for part, mask in zip(parts, masks, strict=True)]
    features = oracles.batch_norm(module.norm, np.concatenate(means, axis=1))
    np.testing.assert_allclose(call(module, inputs).logits, oracles.head(module.head, features), atol=1e-5)


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
def test_parameters_of_early_token(names):
    w, patches, mono_patches = MICRO.tokens, 2 * 2, 2 * 2  # 8×8 and 6×5 pixels
    embeddings = {
        "audio": (MICRO.patch**2 + 1) * w + mono_patches * w,
        "image": (MICRO.patch**2 * 3 + 1) * w + patches * w,
        "text": WORDS * w + TOKENS * w,
    }
    transformer = MICRO.layers * (8 * w**2 + 11 * w) + 2 * w
    head = len(names) * w * MICRO.hidden + MICRO.hidden + MICRO.hidden * CLASSES + CLASSES
    norms = 4 * w * len(names)
    expected = sum(embeddings[name] for name in names) + norms + transformer + head
    assert count_params(make_strategy("early-token", names)) == expected


def test_the_joint_transformer_has_the_depth_and_heads_of_its_size():
    module = make_strategy("early-token")
    assert len(module.transformer.blocks) == MICRO.layers
    assert module.transformer.blocks[0].attention.num_heads == HEADS
