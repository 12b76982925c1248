"""Progress of a study: a live display on a terminal, plain lines elsewhere."""

import math
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from fusion_bench.store import Run
from fusion_bench.training.loop import Progress as TrainingProgress

PLAIN_INTERVAL = 15.0
"""Seconds between plain lines within one run."""


class Display:
    """Receives the events of a study in order, and prints notes and the result of each run."""

    def __init__(self, console: Console):
        self._console = console
        self._total = self._done = self._epochs = 0
        self._running: dict[str, float] = {}

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, kind, error, trace) -> None:
        return

    def begin(self, runs: int, epochs: int) -> None:
        """A number of runs is left to train, each with a number of epochs."""
        self._total, self._epochs, self._done = runs, epochs, 0
        self._running.clear()

    def matching(self, strategy: str, quantity: str, to: str) -> None:
        """The width of a strategy is being chosen, by "params" or "flops", to match another one."""

    def compiling(self, strategy: str) -> None:
        """A strategy's programs are being compiled."""

    def training(self, strategy: str, seed: int, progress: TrainingProgress) -> None:
        """A chunk of steps is done, of one of the runs in training."""
        self._running[f"{strategy}, seed {seed}"] = progress.epoch

    def finished(self, run: Run) -> None:
        """A run is stored."""
        self._count(run)
        self.note(describe(run))

    def elsewhere(self, run: Run) -> None:
        """Another process has stored a run that was to be made here."""
        self._count(run)
        self.note(f"{describe(run)}; by another process")

    def kept(self, runs: int) -> None:
        """A number of runs was complete already."""
        self.note(f"runs complete already: {runs}")

    def note(self, line: str) -> None:
        """A remark in one line."""
        self._console.out(line, highlight=False)

    def _count(self, run: Run) -> None:
        self._done += _is_trained(run)
        self._running.pop(f"{run.strategy}, seed {run.seed}", None)

    @property
    def _epochs_done(self) -> float:
        return self._done * self._epochs + sum(self._running.values(), 0.0)

    def _state(self, progress: TrainingProgress) -> str:
        """Returns the state of a run: epoch, loss, validation accuracy, speed."""
        accuracy = "" if progress.validation_accuracy is None else f", validation {progress.validation_accuracy:.1%}"
        return (
            f"epoch {progress.epoch:.1f}/{self._epochs}, loss {progress.loss:.3f}{accuracy}, "
            f"{progress.examples_per_second:,.0f} examples/s"
        )


def make_display(console: Console) -> Display:
    """Returns the live display where `console` is a terminal, plain lines elsewhere."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


class PlainDisplay(Display):
    """One line per run, and in long runs a line every `PLAIN_INTERVAL` seconds."""

    def __init__(self, console: Console):
        super().__init__(console)
        self._started = self._spoke = time.monotonic()
        self._matching = False

    def begin(self, runs: int, epochs: int) -> None:
        super().begin(runs, epochs)
        self._started = time.monotonic()
        if runs:
            self.note(f"runs to train: {runs}, epochs of each: {epochs}")

    def matching(self, strategy: str, quantity: str, to: str) -> None:
        if not self._matching:
            self.note(f"choosing widths that match the {quantity} of {to}")
        elif self._is_silent():
            self.note(f"choosing the width of {strategy}")
        self._matching = True

    def training(self, strategy: str, seed: int, progress: TrainingProgress) -> None:
        super().training(strategy, seed, progress)
        if self._is_silent():
            self.note(f"{strategy}, seed {seed}: {self._state(progress)}{self._left()}")

    def finished(self, run: Run) -> None:
        self._count(run)
        counter = f"[{self._done}/{self._total}] " if _is_trained(run) else ""
        self.note(f"{counter}{describe(run)}{self._left()}")

    def note(self, line: str) -> None:
        super().note(line)
        self._spoke = time.monotonic()

    def _is_silent(self) -> bool:
        return time.monotonic() - self._spoke > PLAIN_INTERVAL

    def _left(self) -> str:
        done, total = self._epochs_done, self._total * self._epochs
        if done == 0 or done >= total:
            return ""
        seconds = (time.monotonic() - self._started) / done * (total - done)
        return f"; about {seconds:.0f} s left"


class LiveDisplay(Display):
    """A bar over the whole study, and the state of the present run beside it."""

    def __init__(self, console: Console):
        super().__init__(console)
        self._progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("study", total=None, state="loading data")

    def __enter__(self) -> "LiveDisplay":
        self._progress.start()
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._progress.stop()

    def begin(self, runs: int, epochs: int) -> None:
        super().begin(runs, epochs)
        self._progress.update(self._task, total=runs * epochs)

    def matching(self, strategy: str, quantity: str, to: str) -> None:
        self._progress.update(self._task, state=f"choosing the width of {strategy}: {quantity} of {to}")

    def compiling(self, strategy: str) -> None:
        self._progress.update(self._task, description=strategy, state="compiling")

    def training(self, strategy: str, seed: int, progress: TrainingProgress) -> None:
        super().training(strategy, seed, progress)
        others = f", {len(self._running) - 1} more" if len(self._running) > 1 else ""
        self._progress.update(
            self._task,
            description=f"{strategy}, seed {seed}{others}",
            completed=self._epochs_done,
            state=self._state(progress),
        )

    def _count(self, run: Run) -> None:
        super()._count(run)
        self._progress.update(self._task, completed=self._epochs_done)


def describe(run: Run) -> str:
    """Returns one line about a finished run."""
    target, cost = run.identity.get("target"), run.cost
    name = f"{run.strategy}, seed {run.seed}"
    if target == "class":
        name += ", learning the class"
    elif target == "cost":
        name = f"{run.strategy}, costs"
    elif target == "tuning":
        rate, decay = (run.identity["training"][key] for key in ("learning_rate", "weight_decay"))
        name = f"{run.strategy}, trial with learning rate {rate:g}, weight decay {decay:g}"
    if run.status == "failed":
        return f"{name}: failed, {run.reason}"
    if target == "tuning":
        return f"{name}: validation {100 * run.metrics['validation_accuracy']:.2f} %"
    if target == "cost":
        seconds = cost.get("compile_s") or math.nan
        compiling = f"compiles in {seconds:.1f} s, " if math.isfinite(seconds) else ""
        latency = f", latency {1e3 * cost['latency_s']:.2f} ms" if "latency_s" in cost else ""
        return f"{name}: {compiling}trains {cost['train_examples_per_s']:,.0f} examples/s{latency}"
    seconds = f", {cost['train_seconds']:.1f} s" if "train_seconds" in cost else ""
    return f"{name}: test {100 * run.metrics['test_accuracy']:.2f} %{seconds}"


def _is_trained(run: Run) -> bool:
    """Returns whether a run is that of a training, complete or failed: no measurement, and not made from others."""
    is_treated = run.identity.get("training", {}).get("remedy", {}).get("name", "none") != "none"
    return run.identity.get("target") != "cost" and (is_treated or "members" not in run.identity)
