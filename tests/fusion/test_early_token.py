"""One transformer over the tokens of all modalities, against NumPy float64."""

import numpy as np
import pytest

from fusion_bench.models.encoders import HEADS
from tests import oracles
from tests.tasks import (
    BATCH,
    CLASSES,
    THREE,
    TINY,
    TOKENS,
    TWO,
    WORDS,
    call,
    count_params,
    make_inputs,
    make_strategy,
    make_task,
)

pytestmark = pytest.mark.usefixtures("tiny_widths")


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
def test_early_token_is_one_transformer_over_all_tokens(names):
    module, inputs = make_strategy("early-token", names), make_inputs(make_task(*names))
    tokens, masks = [], []
    for name in names:
        embedding, values = module.embeddings[name], np.asarray(inputs[name].values)
        if name == "text":
            embedded, mask = oracles.array(embedding.embed.embedding)[values], np.asarray(inputs[name].mask)
        else:
            patches = oracles.patches(values, TINY.patch)
            embedded = oracles.linear(embedding.embed, patches.reshape(BATCH, -1, patches.shape[-1]))
            mask = np.ones(embedded.shape[:2], bool)
        tokens.append(embedded + oracles.array(embedding.position))
        masks.append(mask)
    tokens, mask = np.concatenate(tokens, axis=1), np.concatenate(masks, axis=1)
    features = oracles.masked_mean(oracles.transformer(module.transformer, tokens, mask), mask)
    np.testing.assert_allclose(call(module, inputs).logits, oracles.head(module.head, features), atol=1e-5)


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
def test_parameters_of_early_token(names):
    w, patches, mono_patches = TINY.tokens, 2 * 2, 2 * 2  # 8×8 and 6×5 pixels
    embeddings = {
        "audio": (TINY.patch**2 + 1) * w + mono_patches * w,
        "image": (TINY.patch**2 * 3 + 1) * w + patches * w,
        "text": WORDS * w + TOKENS * w,
    }
    transformer = TINY.layers * (8 * w**2 + 11 * w) + 2 * w
    head = w * TINY.hidden + TINY.hidden + TINY.hidden * CLASSES + CLASSES
    expected = sum(embeddings[name] for name in names) + transformer + head
    assert count_params(make_strategy("early-token", names)) == expected


def test_the_joint_transformer_has_the_depth_and_heads_of_its_size():
    module = make_strategy("early-token")
    assert len(module.transformer.blocks) == TINY.layers
    assert module.transformer.blocks[0].attention.num_heads == HEADS
