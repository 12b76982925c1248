"""Kills, and the replay of plans."""

import pytest

from tests.experiments.loading import load


def test_kill_study(capsys):
    experiment = load("kill_study")
    assert experiment.main(experiment.Config(kills=2)) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("2 kills (")
    assert printed.out.rstrip().endswith(": 0 differences")
    assert printed.err == ""


def test_schedule(plain, capsys):
    experiment = load("schedule")
    jobs = experiment.plan(
        experiment.Config(plain.config.out, seeds=3, sizes=2), experiment.durations(plain.config.out)
    )
    assert len(jobs) == 3 * 3 * 2
    alone, compilations = experiment.replay(jobs, 1, 0.0)
    assert compilations == 3 * 2
    trainings = sum(one.seconds for one in jobs.values())
    assert alone == pytest.approx(trainings + sum({one.program: one.compile_seconds for one in jobs.values()}.values()))
    several, _ = experiment.replay(jobs, 4, 0.0)
    assert alone / 4 <= several < alone
    assert experiment.replay(jobs, 4, 10.0)[0] > 10.0 * len(jobs)  # the study's process is what limits it
    assert experiment.main(experiment.Config(plain.config.out, seeds=2, sizes=2, workers=(1, 8), driver_ms=1.0)) == 0
    assert "3 strategies × 2 seeds × 2 sizes = 12 trainings" in " ".join(capsys.readouterr().out.split())
