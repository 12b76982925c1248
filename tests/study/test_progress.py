import io
import re

import pytest
from rich.console import Console

from fusion_bench.store import Run
from fusion_bench.study import progress
from fusion_bench.study.progress import Display, LiveDisplay, PlainDisplay, make_display
from fusion_bench.training.loop import Progress

CHUNK = Progress(epoch=1.5, loss=0.6931, validation_accuracy=0.625, examples_per_second=12345.6)


def make_run(strategy="concat", seed=0, *, target="label", trained=True, reason=""):
    cost = {"train_seconds": 2.5} if trained and not reason else {}
    is_joined = strategy in ("late-posthoc", "bayes-reference")
    return Run(
        id="id",
        status="failed" if reason else "complete",
        strategy=strategy,
        family="intermediate",
        seed=seed,
        identity={"target": target, **({"members": ["id"]} if is_joined else {})},
        data={},
        metrics={} if reason else {"test_accuracy": 0.78315},
        cost=cost,
        environment={},
        reason=reason,
    )


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""

    class Clock:
        now = 0.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def make_console(*, terminal, width=200):
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, legacy_windows=False)


def printed(console):
    """Returns the lines that were written, without what moves the cursor and colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue()).replace("\r", "\n").splitlines()


def test_the_console_decides():
    assert isinstance(make_display(make_console(terminal=True)), LiveDisplay)
    assert isinstance(make_display(make_console(terminal=False)), PlainDisplay)
    assert isinstance(PlainDisplay(make_console(terminal=False)), Display)


def test_plain_display_prints_a_line_a_run(clock):
    console = make_console(terminal=False, width=20)
    with PlainDisplay(console) as display:
        display.kept(3)
        display.begin(4, 2)
        display.compiling("concat")
        clock.now = 10.0
        display.training("concat", 0, CHUNK)
        display.finished(make_run(seed=0))
        clock.now = 12.0
        display.finished(make_run(seed=1, reason="the loss is nan in epoch 1, with seed 1"))
        display.compiling("image-only")
        clock.now = 30.0
        display.finished(make_run("image-only", target="class"))
        clock.now = 40.0
        display.finished(make_run("image-only", seed=1))
        display.finished(make_run("late-posthoc", trained=False))
        display.finished(make_run("late-posthoc", seed=1, reason="a unimodal run that it joins has failed"))
    assert printed(console) == [
        "runs complete already: 3",
        "runs to train: 4, epochs of each: 2",
        "[1/4] concat, seed 0: test 78.31 %, 2.5 s; about 30 s left",
        "[2/4] concat, seed 1: failed, the loss is nan in epoch 1, with seed 1; about 12 s left",
        "[3/4] image-only, seed 0, learning the class: test 78.31 %, 2.5 s; about 10 s left",
        "[4/4] image-only, seed 1: test 78.31 %, 2.5 s",
        "late-posthoc, seed 0: test 78.31 %",
        "late-posthoc, seed 1: failed, a unimodal run that it joins has failed",
    ]


def test_plain_display_speaks_now_and_then_in_long_runs(clock):
    console = make_console(terminal=False)
    display = PlainDisplay(console)
    display.begin(1, 3)
    display.compiling("concat")
    for clock.now in (5.0, 20.0, 21.0, 34.0, 36.0):
        display.training("concat", 2, CHUNK)
    line = "concat, seed 2: epoch 1.5/3, loss 0.693, validation 62.5%, 12,346 examples/s; about {} s left"
    assert printed(console)[1:] == [line.format(20), line.format(36)]


def test_plain_display_has_nothing_to_say_of_a_complete_study():
    console = make_console(terminal=False)
    with PlainDisplay(console) as display:
        display.kept(5)
        display.begin(0, 2)
    assert printed(console) == ["runs complete already: 5"]


def test_live_display_shows_the_run(clock):
    console = make_console(terminal=True)
    with LiveDisplay(console) as display:
        display.kept(1)
        display.begin(2, 3)
        display.compiling("concat")
        display._progress.refresh()
        display.training("concat", 1, CHUNK)
        display._progress.refresh()
        display.finished(make_run(seed=1))
        display.finished(make_run("late-posthoc", trained=False))
        display._progress.refresh()
    text = "\n".join(printed(console))
    assert "compiling" in text
    assert re.search(
        r"concat, seed 1 .* 25% epoch 1\.5/3, loss 0\.693, validation 62\.5%, 12,346 examples/s .*left", text
    )
    assert "concat, seed 1: test 78.31 %, 2.5 s" in text
    assert re.search(r"concat, seed 1 .* 50% ", text)
    assert "late-posthoc, seed 0: test 78.31 %" in text
    assert "runs complete already: 1" in text


@pytest.mark.parametrize("terminal", [False, True])
def test_runs_of_another_process_count(terminal, clock):
    console = make_console(terminal=terminal)
    with make_display(console) as display:
        display.begin(3, 2)
        display.training("concat", 0, CHUNK)
        display.note("waiting for another process: [sum], seed 0")
        clock.now = 10.0
        display.elsewhere(make_run("sum"))
        display.elsewhere(make_run("late-posthoc", trained=False))
        display.finished(make_run("concat"))
        if isinstance(display, LiveDisplay):
            display._progress.refresh()
    text = "\n".join(printed(console))
    assert "waiting for another process: [sum], seed 0" in text
    assert "sum, seed 0: test 78.31 %, 2.5 s; by another process" in text
    assert ("67%" if terminal else "[2/3] concat, seed 0: test 78.31 %") in text


def test_live_display_before_the_first_validation():
    console = make_console(terminal=True)
    with LiveDisplay(console) as display:
        display.begin(1, 1)
        display.training("concat", 0, Progress(0.5, 2.3, None, 10.0))
        display._progress.refresh()
    text = "\n".join(printed(console))
    assert "epoch 0.5/1, loss 2.300, 10 examples/s" in text
    assert "validation" not in text


@pytest.mark.parametrize("terminal", [False, True])
def test_brackets_are_not_markup(terminal, clock):
    name, reason = "tensor:kind=[red]", "shape [/bold] is not [1, 2]"
    console = make_console(terminal=terminal)
    with make_display(console) as display:
        display.begin(2, 2)
        display.compiling(name)
        clock.now = 100.0
        display.training(name, 0, CHUNK)
        if isinstance(display, LiveDisplay):
            display._progress.refresh()
        display.finished(make_run(name))
        display.finished(make_run(name, seed=1, reason=reason))
    text = "\n".join(printed(console))
    assert f"{name}, seed 0: test 78.31 %" in text
    assert f"{name}, seed 1: failed, {reason}" in text
    assert re.search(re.escape(f"{name}, seed 0") + r".*epoch 1\.5/2", text)
