"""Runs of one seed are paired: parts of the same name start the same, bit for bit, in every strategy."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from fusion_bench.cli.choices import parse_choices
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import resolve
from fusion_bench.training.step import run_key
from tests.tasks import CONFIG, make_task

LABELS = ["image-only", "text-only", "concat", "tensor:width=2", "late-mean", "late-posthoc"]


@functools.cache
def initial(label, names=("image", "text"), seed=0):
    """Returns every parameter of a strategy as a run initialises it, by path."""
    task = make_task(*names)
    (spec,) = resolve(parse_choices(label), task)
    module = spec.build(Blueprint(task, CONFIG, run_key(seed, "init")))
    return {path: np.asarray(v[...]) for path, v in nnx.to_flat_state(nnx.state(module, nnx.Param))}


def part(variables, *prefix):
    found = {path[len(prefix) :]: v for path, v in variables.items() if path[: len(prefix)] == prefix}
    assert found, (prefix, list(variables))
    return found


def encoder(label, modality, **options):
    prefix = {
        "concat": ("encoders", modality),
        "tensor": ("encoders", modality),
        "late-mean": ("members", modality, "encoder"),
        "late-posthoc": ("members", modality, "encoder"),
    }
    return part(initial(label, **options), *prefix.get(label.partition(":")[0], ("encoder",)))


def assert_same(ours, others):
    assert ours.keys() == others.keys()
    for path in ours:
        np.testing.assert_array_equal(ours[path], others[path], err_msg=str(path))


def differs(ours, others):
    """Whether every matrix of two parts differs; biases all start at zero."""
    return all((ours[path] != others[path]).any() for path in ours if ours[path].ndim > 1)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_encoders_are_the_same_in_every_strategy(modality):
    alone = encoder(f"{modality}-only", modality)
    for label in LABELS[2:]:
        assert_same(encoder(label, modality), alone)


def test_encoders_do_not_depend_on_the_other_modalities_or_their_order():
    for names in (("text", "image"), ("audio", "text", "sensor", "image")):
        for modality in ("image", "text"):
            assert_same(encoder("concat", modality, names=names), encoder(f"{modality}-only", modality))


def test_every_parameter_is_the_same_whatever_the_order_of_the_modalities():
    names = ("image", "text", "sensor")
    for label in ("early-channel", "early-token", "tensor:width=2", "late-posthoc"):
        assert_same(initial(label, names), initial(label, names[::-1]))


def test_late_fusion_starts_as_the_unimodal_models():
    for label in ("late-mean", "late-posthoc"):
        variables = initial(label)
        for modality in ("image", "text"):
            assert_same(part(variables, "members", modality), initial(f"{modality}-only"))


def test_another_seed_and_another_part_start_differently():
    assert_same(initial("concat"), initial("concat"))
    assert differs(initial("concat"), initial("concat", seed=1))
    audio = encoder("concat", "image", names=("image", "audio"))
    other = encoder("concat", "audio", names=("image", "audio"))
    kernels = [variables["encoder", "cnn", "stages", 0, "blocks", 0, "conv", "kernel"] for variables in (audio, other)]
    assert (kernels[0] != kernels[1]).any()


def test_purposes_have_keys_of_their_own():
    keys = [run_key(seed, purpose) for seed in (0, 1) for purpose in ("init", "order", "augment", "dropout")]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == len(keys)
