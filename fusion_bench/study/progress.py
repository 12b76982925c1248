"""What a study shows while it runs: a live display on a terminal, plain lines elsewhere."""

import math
import time
from types import TracebackType
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from fusion_bench.store import Run
from fusion_bench.training.loop import Progress as TrainingProgress

PLAIN_INTERVAL = 15.0
"""Seconds between plain lines within one run."""


@runtime_checkable
class Display(Protocol):
    """Told of a study's events, in order."""

    def __enter__(self) -> "Display": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def begin(self, runs: int, epochs: int) -> None:
        """Says how many runs of how many epochs are left to train."""

    def matching(self, strategy: str, quantity: str, to: str) -> None:
        """The width of a strategy is being chosen, by "params" or "flops", to match another one."""

    def compiling(self, strategy: str) -> None:
        """A strategy's programs are being compiled."""

    def training(self, strategy: str, seed: int, progress: TrainingProgress) -> None:
        """A chunk of steps is done."""

    def finished(self, run: Run) -> None:
        """A run is stored."""

    def elsewhere(self, run: Run) -> None:
        """Another process has stored a run that was to be made here."""

    def kept(self, runs: int) -> None:
        """So many runs were complete already."""

    def note(self, line: str) -> None:
        """Something out of the ordinary, in one line."""


def make_display(console: Console) -> Display:
    """Returns the live display where `console` is a terminal, plain lines elsewhere."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


def describe(run: Run) -> str:
    """Returns one line about a finished run."""
    name = f"{run.strategy}, seed {run.seed}"
    if run.identity.get("target") == "class":
        name += ", learning the class"
    if run.identity.get("target") == "cost":
        name = f"{run.strategy}, costs"
    if run.identity.get("target") == "tuning":
        return f"{run.strategy}, tried: {_tried(run)}"
    if run.status == "failed":
        return f"{name}: failed, {run.reason}"
    if run.identity.get("target") == "cost":
        return f"{name}: {_measured(run)}"
    line = f"{name}: test {100 * run.metrics['test_accuracy']:.2f} %"
    if "train_seconds" in run.cost:
        line += f", {run.cost['train_seconds']:.1f} s"
    return line


def _measured(run: Run) -> str:
    """Returns the measured costs of a strategy in a few words."""
    cost = run.cost
    parts = [f"trains {cost['train_examples_per_s']:,.0f} examples/s"]
    if math.isfinite(compiled := cost.get("compile_s") or math.nan):
        parts.insert(0, f"compiles in {compiled:.1f} s")
    if "latency_s" in cost:
        parts.append(f"latency {1e3 * cost['latency_s']:.2f} ms")
    return ", ".join(parts)


def _tried(run: Run) -> str:
    training = run.identity["training"]
    setting = f"learning rate {training['learning_rate']:g}, weight decay {training['weight_decay']:g}"
    if run.status == "failed":
        return f"{setting}: failed, {run.reason}"
    return f"{setting}: validation {100 * run.metrics['validation_accuracy']:.2f} %"


class PlainDisplay:
    """One line a run; in long runs a line now and then."""

    def __init__(self, console: Console):
        self._console = console
        self._started = self._spoke = time.monotonic()
        self._total = self._done = self._epochs = 0
        self._strategy = ""
        self._matching = False

    def __enter__(self) -> "PlainDisplay":
        return self

    def __exit__(self, kind, error, trace) -> None:
        pass

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
        self._spoke = time.monotonic()

    def begin(self, runs: int, epochs: int) -> None:
        self._started, self._done = time.monotonic(), 0
        self._total, self._epochs = runs, epochs
        if runs:
            self._print(f"runs to train: {runs}, epochs of each: {epochs}")

    def matching(self, strategy: str, quantity: str, to: str) -> None:
        if not self._matching:
            self._print(f"choosing widths: {quantity} as {to}")
        elif time.monotonic() - self._spoke > PLAIN_INTERVAL:
            self._print(f"choosing the width of {strategy}")
        self._matching = True

    def compiling(self, strategy: str) -> None:
        self._strategy = strategy

    def training(self, strategy: str, seed: int, progress: TrainingProgress) -> None:
        self._strategy = strategy
        if time.monotonic() - self._spoke > PLAIN_INTERVAL:
            self._print(
                f"{strategy}, seed {seed}: {describe_progress(progress, self._epochs)}"
                f"{self._left(progress.epoch / self._epochs)}"
            )

    def finished(self, run: Run) -> None:
        self._done += _is_trained(run)
        counter = f"[{self._done}/{self._total}] " if _is_trained(run) else ""
        self._print(f"{counter}{describe(run)}{self._left(0.0)}")

    def elsewhere(self, run: Run) -> None:
        self._done += _is_trained(run)
        self._print(f"{describe(run)}; by another process")

    def kept(self, runs: int) -> None:
        self._print(f"runs complete already: {runs}")

    def note(self, line: str) -> None:
        self._print(line)

    def _left(self, part: float) -> str:
        done = self._done + part
        if done == 0 or done >= self._total:
            return ""
        seconds = (time.monotonic() - self._started) / done * (self._total - done)
        return f"; about {seconds:.0f} s left"


class LiveDisplay:
    """A bar over the whole study, and the state of the present run beside it."""

    def __init__(self, console: Console):
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
        self._epochs = self._done = 0
        self._strategy = ""

    def __enter__(self) -> "LiveDisplay":
        self._progress.start()
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._progress.stop()

    def begin(self, runs: int, epochs: int) -> None:
        self._epochs, self._done = epochs, 0
        self._progress.update(self._task, total=runs * epochs)

    def matching(self, strategy: str, quantity: str, to: str) -> None:
        self._progress.update(self._task, state=f"choosing the width of {strategy}: {quantity} as {to}")

    def compiling(self, strategy: str) -> None:
        self._strategy = strategy
        self._progress.update(self._task, description=strategy, state="compiling")

    def training(self, strategy: str, seed: int, progress: TrainingProgress) -> None:
        self._strategy = strategy
        self._progress.update(
            self._task,
            description=f"{strategy}, seed {seed}",
            completed=self._done * self._epochs + progress.epoch,
            state=describe_progress(progress, self._epochs),
        )

    def finished(self, run: Run) -> None:
        self._done += _is_trained(run)
        self._progress.update(self._task, completed=self._done * self._epochs)
        self.note(describe(run))

    def elsewhere(self, run: Run) -> None:
        self._done += _is_trained(run)
        self._progress.update(self._task, completed=self._done * self._epochs)
        self.note(f"{describe(run)}; by another process")

    def kept(self, runs: int) -> None:
        self.note(f"runs complete already: {runs}")

    def note(self, line: str) -> None:
        self._progress.console.print(line, highlight=False, markup=False, soft_wrap=True)


def describe_progress(progress: TrainingProgress, epochs: int) -> str:
    """Returns the state of a run: epoch, loss, validation accuracy, speed."""
    accuracy = "" if progress.validation_accuracy is None else f", validation {progress.validation_accuracy:.1%}"
    return (
        f"epoch {progress.epoch:.1f}/{epochs}, loss {progress.loss:.3f}{accuracy}, "
        f"{progress.examples_per_second:,.0f} examples/s"
    )


def _is_trained(run: Run) -> bool:
    """Returns whether a run is of a training, complete or failed: not measured, not made of others."""
    identity = run.identity
    return identity.get("target") != "cost" and "members" not in identity
