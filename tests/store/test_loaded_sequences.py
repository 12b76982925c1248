"""A stored run that reads a sequence, as a model again."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import fusion_bench
from fusion_bench.data.dataset import Modality, ModalitySpec, RawDataset
from fusion_bench.data.sources import base
from fusion_bench.errors import UserError
from tests.studies import make_config, run_recorded

COUNT, STEPS = 80, 5
RNG = np.random.default_rng(0)
LABELS = (np.arange(COUNT) % 2).astype(np.int32)
LENGTHS = 1 + np.arange(COUNT) % 4
"""No example has the last step."""
MASK = np.arange(STEPS) < LENGTHS[:, None]
VALUES = (RNG.normal(size=(COUNT, STEPS, 2)) + LABELS[:, None, None]).astype(np.float32)
SENSOR = RNG.normal(size=(COUNT, 3)).astype(np.float32)
TEST = np.arange(COUNT) >= 60


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    modalities = {"text": Modality("sequence", VALUES, mask=MASK), "sensor": Modality("vector", SENSOR)}
    raw = RawDataset("walks", modalities, LABELS, ("left", "right"), np.where(TEST, "test", "train"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base.REGISTRY, "known", base.sources())
        base.register_source("walks", summary="a test")(lambda config: raw)
        out = tmp_path_factory.mktemp("walks")
        done = run_recorded(make_config(Path("walks"), out, strategies=("concat",), captions="none"))
    return fusion_bench.load_run(out, "concat"), done.store.predictions(done.stored("concat").id)["test_logits"]


def inputs(**text):
    return {"sensor": SENSOR[TEST], "text": VALUES[TEST], **text}


@pytest.mark.parametrize(
    "text",
    [
        {"text_mask": MASK[TEST]},
        {"text_length": LENGTHS[TEST]},
        {"text": VALUES[TEST, :4], "text_mask": MASK[TEST, :4]},
        {"text": VALUES[TEST, :4].tolist(), "text_length": LENGTHS[TEST].tolist()},
        {"text": np.where(MASK[TEST][:, :, None], VALUES[TEST], np.nan), "text_mask": MASK[TEST]},
    ],
    ids=["mask", "length", "shorter", "lists", "padding is not a number"],
)
def test_predictions_are_those_that_are_stored(loaded, text):
    model, stored = loaded
    assert model.modalities["text"] == ModalitySpec("sequence", (STEPS, 2))
    np.testing.assert_allclose(model.predict(inputs(**text)), stored, atol=1e-5)


def test_without_a_mask_all_steps_count_in_a_run_that_does_not_say_that_it_had_one(loaded):
    model, stored = loaded
    facts = {name: {**fact, "masked": False} for name, fact in model.run.data["inputs"].items()}
    model = dataclasses.replace(model, run=dataclasses.replace(model.run, data={**model.run.data, "inputs": facts}))
    logits = model.predict(inputs())
    np.testing.assert_array_equal(logits, model.predict(inputs(text_mask=np.ones_like(MASK[TEST]))))
    assert np.abs(logits - stored).max() > 1e-3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"text": np.zeros((20, 6, 2))}, r"^text has shape \(20, 6, 2\); it must be \(example, 5, 2\)$"),
        ({"text": np.zeros((20, 4, 3))}, r"^text has shape \(20, 4, 3\); it must be \(example, 5, 2\)$"),
        ({"text_mask": 2 * MASK[TEST]}, r"^text_mask is int64 \[20, 5\]; bool \[20, 5\] is right$"),
        ({"text_mask": MASK[TEST, :4]}, r"^text_mask is bool \[20, 4\]; bool \[20, 5\] is right$"),
        ({"text_length": LENGTHS}, r"^text_length is int64 \[80\]; whole numbers \[20\] is right$"),
        ({"text_length": LENGTHS[TEST] + 2}, "^text_length has 6, but text has 5 steps$"),
        ({"text_length": LENGTHS[TEST] - 1}, "^text_length: example 0 has no step; each needs one at least$"),
        ({}, "^text had padding in training; give text_mask or text_length to say where steps are$"),
        ({"text_lenght": LENGTHS[TEST]}, r"^unknown input 'text_lenght'; did you mean text_length"),
        (
            {"text_length": LENGTHS[TEST], "text_mask": MASK[TEST]},
            "^text_mask and text_length exclude each other; give one of them$",
        ),
    ],
    ids=["longer", "features", "mask of twos", "narrow mask", "count", "length", "empty", "none", "typo", "both"],
)
def test_inputs_that_do_not_fit(loaded, text, message):
    with pytest.raises(UserError, match=message):
        loaded[0].predict(inputs(**text))
