"""The registry of remedies, and what every one of them owes to training."""

import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fusion_bench.cli import main
from fusion_bench.config import Choice, TrainingConfig
from fusion_bench.data.batches import to_device
from fusion_bench.errors import UserError
from fusion_bench.fusion.registry import StrategySpec, resolve
from fusion_bench.training.remedies.base import left_untreated, remedies
from fusion_bench.training.step import epoch_order, make_functions
from tests.tasks import CONFIG, jit, make_dataset, make_task, trained_on

DATASET = make_dataset()
EPOCHS = 4
NAMES = (
    "agm", "contrastive", "frozen", "gradient-blending", "mmpareto", "modality-dropout", "none", "ogm-ge", "pretrained",
    "umt", "unimodal-losses",
)  # fmt: skip

MINE = '''
import jax.numpy as jnp
import optax

from fusion_bench.training.remedies.base import Remedy, map_owned, register_remedy


@register_remedy("mine", reference="a paper")
class Mine(Remedy):
    """Adds a constant to the loss and stops the encoders."""

    def __init__(self, *, constant: float = 2.0):
        self.constant = constant

    def losses(self, step):
        outputs = step.outputs()
        return [step.loss(outputs), jnp.float32(self.constant)], {}

    def wrap(self, optimizer, modality_of):
        def stop(updates, params):
            return map_owned(lambda modality, update: 0 * update, modality_of, updates)

        return optax.chain(optimizer, optax.stateless(stop))
'''


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Imports a remedy from a file outside of the package."""
    monkeypatch.setattr(remedies, "known", remedies.registered())
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    spec = importlib.util.spec_from_file_location("mine", path)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def functions_of(choice, label="concat"):
    """Returns the functions of a strategy with a remedy."""
    config = TrainingConfig(epochs=EPOCHS, batch_size=16, learning_rate=0.03, remedy=choice)
    return make_functions(StrategySpec(label), DATASET.task, CONFIG, config, len(DATASET.splits["train"]))


@pytest.mark.parametrize("name", remedies.registered())
def test_training_with_a_remedy(name):
    functions = functions_of(Choice(name))
    data, seed = to_device(DATASET), jnp.int32(0)
    traces, losses = [], []

    @jit
    def train(*arguments):
        traces.append(name)
        return functions.train(*arguments)

    first = state = jit(functions.init)(seed)
    data = trained_on(functions, state, data)
    for epoch in range(EPOCHS):
        order = jnp.asarray(epoch_order(DATASET.splits["train"], 0, epoch + 1))
        state, loss = train(state, data, order, seed, jnp.int32(functions.steps_per_epoch))
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 0.2
    assert len(traces) == 1
    for before, after in zip(jax.tree.leaves(first), jax.tree.leaves(state), strict=True):
        assert (after.shape, after.dtype) == (before.shape, before.dtype)
        assert np.isfinite(after).all()


@pytest.mark.parametrize("label", ["early-channel", "film", "cross-attention", "late-weighted"])
@pytest.mark.parametrize("name", remedies.registered())
def test_a_step_of_each_kind_of_strategy(name, label):
    """Traced, not compiled: it keeps the shape and type of everything."""
    if remedies.make(Choice(name)).skip(StrategySpec(label), DATASET.task) is not None:
        assert label in ("early-channel", "film")
        return
    functions, data = functions_of(Choice(name), label), to_device(DATASET)

    def train(seed):
        before = functions.init(seed)
        read, order = trained_on(functions, before, data), jnp.asarray(DATASET.splits["train"])
        return before, *functions.train(before, read, order, seed, jnp.int32(1))

    before, after, loss = jax.eval_shape(train, jnp.int32(0))
    assert after == before
    assert (loss.shape, loss.dtype) == ((), jnp.float32)


@pytest.mark.parametrize("name", remedies.registered())
def test_a_registration_describes_itself(name):
    remedy = remedies.find(name)
    assert remedy.name == name
    assert len(remedy.summary) > 20
    assert remedy.reference
    assert remedies.make(Choice(name)).skip(StrategySpec("concat"), DATASET.task) is None


def test_a_remedy_is_one_file(mine, capsys):
    with pytest.raises(SystemExit):
        main(["list", "--json"])
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["remedies"]}
    assert [*listed] == sorted([*NAMES, "mine"])
    assert listed["mine"] == {
        "name": "mine",
        "summary": "Adds a constant to the loss and stops the encoders.",
        "description": "",
        "reference": "a paper",
        "options": {"constant": 2.0},
    }
    with pytest.raises(UserError, match=r"unknown remedy 'minee'; did you mean mine\?"):
        remedies.make(Choice("minee"))
    data, seed = to_device(DATASET), jnp.int32(0)
    order = jnp.asarray(epoch_order(DATASET.splits["train"], 0, 1))
    none, mine = (functions_of(choice) for choice in (Choice("none"), Choice("mine", {"constant": 3})))
    before = jit(none.init)(seed)
    (plain, loss), (stopped, larger) = (
        jit(functions.train)(before._replace(optimizer=optimizer), data, order, seed, jnp.int32(1))
        for functions, optimizer in ((none, before.optimizer), (mine, (before.optimizer, optax.EmptyState())))
    )
    assert float(larger - loss) == pytest.approx(3, abs=1e-5)
    before, plain, stopped = (state.variables.params for state in (before, plain, stopped))
    jax.tree.map(np.testing.assert_array_equal, stopped["encoders"], before["encoders"])
    for ours, theirs in zip(jax.tree.leaves(stopped["head"]), jax.tree.leaves(plain["head"]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice("ogm-gee"), "unknown remedy 'ogm-gee'; did you mean ogm-ge?"),
        (Choice("xyzzy"), f"unknown remedy 'xyzzy'; choose from {', '.join(NAMES)}"),
        (Choice("ogm-ge", {"alhpa": 1.0}), "unknown option of ogm-ge 'alhpa'; did you mean alpha?"),
        (
            Choice("ogm-ge", {"alpha": -1.0}),
            "option alpha of ogm-ge is -1.0; it must be finite and at least 0, for example 0.3",
        ),
        (
            Choice("ogm-ge", {"stage": "loss"}),
            "option stage of ogm-ge is 'loss'; it must be update or gradient, for example update",
        ),
        (Choice("ogm-ge", {"until": -1}), "option until of ogm-ge is -1; it must be at least 0, for example 0"),
        (
            Choice("modality-dropout", {"rate": 1.5}),
            "option rate of modality-dropout is 1.5; it must be at least 0 and at most 1, for example 0.2",
        ),
        (
            Choice("gradient-blending", {"floor": 0}),
            "option floor of gradient-blending is 0; it must be finite and above 0, for example 0.05",
        ),
        (
            Choice("mmpareto", {"gamma": 0.0}),
            "option gamma of mmpareto is 0.0; it must be finite and above 0, for example 1.5",
        ),
        (
            Choice("umt", {"weight": -1.0}),
            "option weight of umt is -1.0; it must be finite and at least 0, for example 10.0",
        ),
        (
            Choice("unimodal-losses", {"weight": float("nan")}),
            "option weight of unimodal-losses is nan; it must be finite and at least 0, for example 1.0",
        ),
        (
            Choice("agm", {"stage": "both"}),
            "option stage of agm is 'both'; it must be update or gradient, for example update",
        ),
    ],
    ids=str,
)
def test_wrong_choices(choice, message):
    with pytest.raises(UserError) as error:
        left_untreated([], choice, DATASET.task)
    assert str(error.value) == message


def test_what_a_remedy_does_not_apply_to_is_said():
    task = make_task("image", "text")
    specs = resolve(("canonical", "late-mixture", StrategySpec("tensor", {"width": 4})), task)
    assert left_untreated(specs, Choice("ogm-ge", {"alpha": 1}), task) == {
        "early-channel": "it has no separate encoder of each modality",
        "early-token": "it has no separate encoder of each modality",
        "late-posthoc": "it trains nothing itself",
    }
    assert left_untreated(specs, Choice("none"), task) == {}
