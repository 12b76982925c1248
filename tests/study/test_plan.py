"""Plans as tables: nothing is read or computed."""

import dataclasses

import pytest

from fusion_bench.config import BenchmarkConfig, Choice
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.study.plan import Reference, Selection, Treatment, plan, with_members
from tests.tasks import make_task

TASK = make_task("image", "text")
SELECTION = Selection(tuple(map(StrategySpec, ("image-only", "text-only", "concat", "late-posthoc"))))
CONFIG = BenchmarkConfig(seeds=2)


def rows(stages):
    """Returns stage, kind, strategy, seed and target of every job."""
    return [(s.kind, j.kind, j.label, j.seed, j.target) for s in stages for j in s.jobs]


def trainings(strategy, *targets):
    return [
        ("train", "measure", strategy, 0, "label"),
        *(("train", "train", strategy, seed, target) for target in ("label", *targets) for seed in (0, 1)),
    ]


JOINED = [
    ("join", "measure", "late-posthoc", 0, "label"),
    *(("join", "join", "late-posthoc", s, "label") for s in (0, 1)),
]
REFERRED = [("refer", "refer", "bayes-reference", seed, "label") for seed in (0, 1)]

CASES = {
    "trained alone": (("concat",), None, trainings("concat")),
    "a join comes after its members": (
        ("image-only", "text-only", "late-posthoc"),
        None,
        [*trainings("image-only"), *trainings("text-only"), *JOINED],
    ),
    "the reference uses the image model": (
        ("image-only", "concat"),
        Reference("image-only", "label"),
        [*trainings("image-only"), *trainings("concat"), *REFERRED],
    ),
    "shifted labels need models of the class": (
        ("image-only", "concat"),
        Reference("image-only", "class"),
        [*trainings("image-only", "class"), *trainings("concat"), *REFERRED],
    ),
    "no image model, no reference": (("concat",), Reference("image-only", "label"), trainings("concat")),
}


@pytest.mark.parametrize(("names", "reference", "expected"), CASES.values(), ids=CASES)
def test_the_jobs_of_a_study_in_order(names, reference, expected):
    stages = plan(CONFIG, TASK, Selection(tuple(map(StrategySpec, names)), reference=reference))
    assert rows(stages) == expected


def test_a_join_is_made_of_the_members_of_its_seed():
    *_, join = plan(CONFIG, TASK, SELECTION)
    measured, *joins = join.jobs
    assert [(m.kind, m.label) for m in measured.members] == [("measure", "image-only"), ("measure", "text-only")]
    for job in joins:
        assert [(m.kind, m.label, m.seed) for m in job.members] == [
            ("train", "image-only", job.seed),
            ("train", "text-only", job.seed),
        ]


def test_tuning_tries_the_same_settings_with_every_trained_strategy():
    tune, train, _ = plan(dataclasses.replace(CONFIG, tune=3), TASK, SELECTION)
    by_strategy = {label: [j.training for j in tune.jobs if j.label == label] for label in ("concat", "text-only")}
    assert by_strategy["concat"] == by_strategy["text-only"]
    assert len(set(by_strategy["concat"])) == 3
    assert {job.label for job in tune.jobs} == {"image-only", "text-only", "concat"}
    assert all(job.training == CONFIG.training for job in train.jobs)  # nothing is chosen yet


def test_the_chosen_setting_stands_in_every_job_of_its_strategy_and_in_no_other():
    config = dataclasses.replace(CONFIG, tune=2)
    setting = dataclasses.replace(CONFIG.training, learning_rate=0.5)
    selection = dataclasses.replace(SELECTION, reference=Reference("image-only", "class"))
    treatment = Treatment(StrategySpec("image-only"), Choice("none"))
    _, train, join, refer = plan(config, TASK, selection, {treatment: setting})
    for job in train.jobs:
        own = job.label == "image-only" and job.target == "label"  # tuning was for the label
        assert job.training == (setting if own else config.training)
    assert all(job.members[0].training == setting for job in join.jobs)
    assert all(job.members[0].training == config.training for job in refer.jobs)
    assert all(job.tune == 2 for job in (*join.jobs, *refer.jobs))


def test_fusions_are_trained_with_the_remedy_and_all_else_without():
    selection = dataclasses.replace(SELECTION, reference=Reference("image-only", "class"))
    stages = plan(dataclasses.replace(CONFIG, remedies=(Choice("ogm-ge", {"alpha": 1}),), tune=2), TASK, selection)
    resolved = Choice("ogm-ge", {"alpha": 1.0, "noise": True, "stage": "update", "until": 0})
    for job in (job for stage in stages for job in stage.jobs):
        remedy = job.training.remedy
        if job.strategy == StrategySpec("concat"):
            assert dataclasses.replace(remedy, options={**remedy.options, "alpha": 1.0}) == resolved
        else:
            assert remedy == Choice("none")


def test_members_come_first_and_are_not_repeated():
    asked = tuple(map(StrategySpec, ("late-posthoc", "concat", "text-only")))
    labels = [spec.label for spec in with_members(asked, TASK)]
    assert labels == ["image-only", "concat", "text-only", "late-posthoc"]
    assert [spec.label for spec in with_members(asked[1:2], TASK)] == ["concat"]


def test_every_fusion_is_trained_with_each_remedy_that_applies_and_members_come_before():
    config = dataclasses.replace(CONFIG, seeds=1, remedies=("none", "pretrained"), tune=2)
    selection = Selection(tuple(map(StrategySpec, ("concat", "film"))))
    tune, tune_from, train, train_from = plan(config, TASK, selection)
    first = ["image-only", "text-only", "concat", "film"]
    assert list(dict.fromkeys(job.label for job in tune.jobs)) == first
    assert [job.label for job in train.jobs] == [label for label in first for _ in ("measure", "train")]
    assert [job.label for job in tune_from.jobs] == ["concat+pretrained"] * 2
    assert [(job.kind, job.label) for job in train_from.jobs] == [
        ("measure", "concat+pretrained"),
        ("train", "concat+pretrained"),
    ]
    for job in (*tune_from.jobs, train_from.jobs[1]):
        assert [(m.kind, m.label, m.seed) for m in job.members] == [
            (job.kind, "image-only", job.seed),
            (job.kind, "text-only", job.seed),
        ]
    assert {m for job in tune_from.jobs for m in job.members} <= {*tune.jobs}


def test_tuning_draws_the_options_that_a_remedy_declares_within_the_same_budget():
    config = dataclasses.replace(CONFIG, remedies=("none", "ogm-ge"), tune=4)
    tune = plan(config, TASK, Selection((StrategySpec("concat"),)))[0]
    plain, treated = tune.jobs[:4], tune.jobs[4:]
    for job, other in zip(plain, treated, strict=True):
        assert (job.label, other.label) == ("concat", "concat+ogm-ge")
        assert job.training.learning_rate == other.training.learning_rate
        assert job.training.weight_decay == other.training.weight_decay
    alphas = [job.training.remedy.options["alpha"] for job in treated]
    assert alphas[0] == 0.3
    assert len(set(alphas)) == 4
    assert all(0.1 <= float(alpha) <= 1 for alpha in alphas)
