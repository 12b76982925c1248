import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import log_softmax

from fusion_bench.data.batches import gather, to_device
from fusion_bench.data.load import load_dataset
from fusion_bench.fusion.base import PosthocFusion
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.store.loaded import restore
from fusion_bench.study.job import Job
from fusion_bench.study.posthoc import join_members
from fusion_bench.training.step import run_key
from tests.studies import make_quick
from tests.tasks import call

MODALITIES = ("image", "text")


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        yield


@pytest.fixture(scope="module", params=["plain", "shifted"])
def case(request):
    """A finished study, its dataset, and what its post-hoc fusion was made of."""
    done = request.getfixturevalue(request.param)
    members = {name: done.stored(f"{name}-only") for name in MODALITIES}
    return done, load_dataset(done.config.data), members


def negative_log_likelihood(logits, labels, temperature):
    scores = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    return -np.mean([row[label] for row, label in zip(scores, labels, strict=True)])


def refit(logits, labels):
    """Ternary search over 1 / T, in which the negative log likelihood is convex."""
    low, high = 1 / 20, 1 / 0.05
    for _ in range(200):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        if negative_log_likelihood(logits, labels, 1 / a) < negative_log_likelihood(logits, labels, 1 / b):
            high = b
        else:
            low = a
    return 2 / (low + high)


def blank_module(done, dataset):
    module = StrategySpec("late-posthoc").build(Blueprint(dataset.task, done.config.model, run_key(7, "init")))
    assert isinstance(module, PosthocFusion)
    return module


@pytest.fixture(scope="module")
def module(case):
    """The stored module, put into one that was initialised with another seed."""
    done, dataset, _ = case
    module = blank_module(done, dataset)
    restore(done.store, done.stored("late-posthoc"), module)
    module.eval()
    return module


def test_temperatures_are_those_of_validation(case, module):
    done, _, members = case
    for name, run in members.items():
        stored = done.store.predictions(run.id)
        temperature = refit(stored["validation_logits"], stored["validation_labels"])
        assert float(module.temperatures[name][...]) == pytest.approx(temperature, rel=1e-3)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_logits_are_the_sum_of_calibrated_log_probabilities_less_the_prior(case, module, split):
    done, dataset, members = case
    stored = {name: done.store.predictions(run.id)[f"{split}_logits"] for name, run in members.items()}
    train = dataset.labels[dataset.splits["train"]]
    prior = np.array([(train == label).mean() for label in range(dataset.num_classes)])
    assert (prior > 0).all()
    joined = done.store.predictions(done.stored("late-posthoc").id)[f"{split}_logits"]
    temperatures = {name: module.temperatures[name][...] for name in MODALITIES}

    expected = -np.log(prior)
    for name, logits in stored.items():
        expected = expected + log_softmax(logits.astype(np.float64) / float(temperatures[name]), axis=1)
    np.testing.assert_allclose(joined, expected, atol=1e-5, rtol=0)

    calibrated = [jax.nn.log_softmax(jnp.asarray(stored[name]) / temperatures[name]) for name in MODALITIES]
    exact = calibrated[0] + calibrated[1] - jnp.log(jnp.asarray(prior, jnp.float32))
    np.testing.assert_array_equal(joined, np.asarray(exact))  # to the last digit


def test_the_stored_module_gives_the_stored_logits(case, module):
    done, dataset, _ = case
    indices = dataset.splits["test"]
    inputs, _ = gather(to_device(dataset), jnp.asarray(indices))
    outputs = call(module, inputs)
    joined = done.store.predictions(done.stored("late-posthoc").id)
    np.testing.assert_allclose(outputs.logits, joined["test_logits"], atol=1e-4, rtol=0)
    np.testing.assert_array_equal(joined["test_labels"], dataset.labels[indices])


def test_members_are_the_unimodal_runs(case, module):
    done, dataset, members = case
    fresh = blank_module(done, dataset)
    for name, run in members.items():
        restore(done.store, run, fresh.members[name])
        of_run, of_join = (jax.tree.leaves(nnx.state(whole.members[name])) for whole in (fresh, module))
        assert len(of_run) > 0
        for a, b in zip(of_run, of_join, strict=True):
            np.testing.assert_array_equal(a, b)


def test_cost_is_that_of_the_members_and_the_join(plain):
    names = "late-posthoc", "image-only", "text-only"
    joined, image, text = (plain.stored(name).cost for name in names)
    assert joined["params"] == image["params"] + text["params"]
    assert joined["train_flops"] == image["train_flops"] + text["train_flops"]
    joined, image, text = (plain.stored(name, target="cost").cost for name in names)
    seconds = 1 / image["train_examples_per_s"] + 1 / text["train_examples_per_s"]
    assert joined["train_examples_per_s"] == pytest.approx(1 / seconds)
    assert joined["compile_s"] > image["compile_s"] + text["compile_s"]


def test_a_class_that_training_lacks_does_not_win_always(plain):
    """Its prior would be 0, and minus its logarithm infinite."""
    dataset = load_dataset(plain.config.data)
    train = dataset.splits["train"]
    lacking = dataclasses.replace(dataset, splits={**dataset.splits, "train": train[dataset.labels[train] != 3]})
    members = [plain.stored(f"{name}-only") for name in MODALITIES]
    config = plain.config
    job = Job("join", StrategySpec("late-posthoc"), 0, config.data, config.model, config.training)
    _, logits = join_members(job, members, plain.store, lacking)
    assert np.isfinite(logits["test"]).all()
