"""`fusion-bench run --dry-run`: the plan, and what of it is complete."""

from tests.studies import TRAINING


def lines(printed):
    return [" ".join(line.split()) for line in printed.splitlines()]


def test_the_plan_is_printed_and_nothing_is_trained(call, source, tmp_path):
    out = tmp_path / "out"
    asked = ("--data", source, "--seeds", 2, "--strategies", "late-posthoc", "--out", out, *TRAINING)
    status, printed, _ = call("run", *asked, "--dry-run")
    assert status == 0
    assert not out.exists()
    assert lines(printed) == [
        "stage job runs complete",
        "train image-only, costs 1 0",
        "train image-only, learning rate 0.01 2 0",
        "train text-only, costs 1 0",
        "train text-only, learning rate 0.01 2 0",
        "join late-posthoc, costs 1 0",
        "join late-posthoc 2 0",
        "refer bayes-reference 2 0",
        f"11 runs, 0 of them complete in {out}",
    ]


def test_what_is_complete_is_counted(call, plain):
    config = plain.config
    asked = ("--data", config.data.source, "--validation-fraction", 0.2, *TRAINING)
    status, printed, _ = call("run", *asked, "--seeds", 2, "--strategies", "concat", "--out", config.out, "--dry-run")
    assert status == 0
    assert lines(printed)[1:3] == ["train concat, costs 1 1", "train concat, learning rate 0.01 2 1"]


def test_tuning_is_a_stage_of_its_own(call, source, tmp_path):
    asked = ("--data", source, "--seeds", 1, "--strategies", "concat", "--tune", 2, "--out", tmp_path / "out")
    _, printed, _ = call("run", *asked, *TRAINING, "--dry-run")
    assert [line for line in lines(printed) if line.startswith("tune")] == [
        "tune concat, trial with learning rate 0.01 1 0",
        "tune concat, trial with learning rate 0.0114 1 0",
    ]
