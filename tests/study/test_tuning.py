import dataclasses

import numpy as np
import pytest

from fusion_bench.config import TrainingConfig
from fusion_bench.study import tuning
from tests.studies import make_config, run_recorded

BASE = TrainingConfig(learning_rate=0.01)


def test_the_usual_setting_comes_first_and_a_longer_list_goes_on_from_a_shorter():
    assert tuning.trials(1, BASE) == (BASE,)
    assert tuning.trials(9, BASE)[:4] == tuning.trials(4, BASE)
    assert len(set(tuning.trials(9, BASE))) == 9


def test_settings_are_even_on_a_logarithmic_scale_within_their_ranges():
    drawn = tuning.trials(2001, BASE)[1:]
    for name, low, high in (("learning_rate", 0.00125, 0.04), ("weight_decay", 0.01, 0.5)):
        logs = np.log([getattr(setting, name) for setting in drawn])
        assert np.log(low) - 0.01 <= logs.min()
        assert logs.max() <= np.log(high) + 0.01
        assert np.median(logs) == pytest.approx((np.log(low) + np.log(high)) / 2, abs=0.15)
        assert all(setting.epochs == BASE.epochs for setting in drawn)


@pytest.fixture(scope="module")
def tuned(source, tmp_path_factory):
    config = make_config(source, tmp_path_factory.mktemp("tuned"), strategies=("concat", "late-posthoc"))
    return run_recorded(dataclasses.replace(config, tune=2))


def tried_of(done, strategy):
    """Returns validation accuracies by learning rate, as they were stored."""
    runs = [run for run in done.store.runs() if run.identity["target"] == "tuning" and run.strategy == strategy]
    return {run.identity["training"]["learning_rate"]: run.metrics["validation_accuracy"] for run in runs}


def test_every_strategy_has_the_same_budget_and_the_best_on_validation_is_chosen(tuned):
    settings = tuning.trials(2, tuned.config.training)
    for strategy in ("image-only", "text-only", "concat"):
        accuracies = tried_of(tuned, strategy)
        assert set(accuracies) == {setting.learning_rate for setting in settings}
        chosen = tuned.stored(strategy).identity["training"]["learning_rate"]
        assert accuracies[chosen] == max(accuracies.values())


def test_what_only_serves_to_choose_never_sees_the_test_set(tuned):
    tried = [run for run in tuned.store.runs() if run.identity["target"] == "tuning"]
    assert len(tried) == 6
    for run in tried:
        assert run.seed == tuning.SEED
        assert not [name for name in run.metrics if name.startswith("test")]
        assert set(tuned.store.predictions(run.id)) == {"validation_logits", "validation_labels"}


def test_tried_settings_are_not_in_the_table_which_says_what_was_chosen(tuned):
    rows = tuned.frame.set_index("strategy")
    assert list(rows["n_seeds"]) == [1, 1, 1, 1, 1, 0, 0]
    assert set(rows["tune"]) == {2}
    assert rows.loc["concat", "learning_rate"] == tuned.stored("concat").identity["training"]["learning_rate"]
    text = (tuned.config.out / "table.md").read_text()
    assert "Tuned: learning rate and weight decay, the best of 2 trials on validation" in text


def test_what_was_tried_is_not_tried_again(tuned, tmp_path):
    again = run_recorded(tuned.config)
    assert again.compiled == []
    assert again.frame["test_accuracy_mean"].equals(tuned.frame["test_accuracy_mean"])


def test_a_study_without_tuning_is_another(tuned):
    plain = run_recorded(dataclasses.replace(tuned.config, tune=0))
    assert len(plain.frame) == 2 * len(tuned.frame)
    assert len(set(plain.frame["setting"])) == 2
