"""A run that was interrupted goes on from its last saved epoch."""

import dataclasses

import jax
import jax.numpy as jnp

from fusion_bench.benchmark.progress import Display
from fusion_bench.store import Damaged, Unfinished
from fusion_bench.training.loop import EpochMetrics, Snapshot


@dataclasses.dataclass(frozen=True)
class RunKeeper:
    """Keeps the training of one run in the store: a `Keeper` of the training loop.

    Attributes:
      unfinished: where.
      display: is told of what is out of the ordinary.
      name: of the run, for the display.
    """

    unfinished: Unfinished
    display: Display
    name: str

    def load(self, like: Snapshot) -> Snapshot | None:
        """Returns the training as it was saved; None where nothing was, or nothing that is whole and like `like`."""
        try:
            stored = self.unfinished.load((like.state, like.best))
            if stored is None:
                return None
            snapshot = _snapshot(*stored)
        except Damaged as error:
            self.display.note(f"{self.name}: starts anew, as its unfinished training cannot be read: {error}")
            return None
        self.display.note(f"{self.name}: goes on after epoch {len(snapshot.curve)}")
        return snapshot

    def save(self, snapshot: Snapshot) -> None:
        """Saves the training; where that is not possible it goes on all the same."""
        facts = {
            "curve": [dataclasses.asdict(entry) for entry in snapshot.curve],
            "selected": snapshot.selected,
            "train_seconds": snapshot.train_seconds,
            "device_seconds": snapshot.device_seconds,
        }
        try:
            self.unfinished.save(len(snapshot.curve), (snapshot.state, snapshot.best), facts)
        except OSError as error:
            self.display.note(
                f"{self.name}: its unfinished training cannot be saved: {error.strerror or error}"
            )


def _snapshot(arrays, facts) -> Snapshot:
    # Copies, of which the device is the only owner: the state will be donated.
    state, best = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), arrays)
    try:
        curve = tuple(EpochMetrics(**entry) for entry in facts.pop("curve"))
        return Snapshot(state, best, curve, **facts)
    except (KeyError, TypeError) as error:
        raise Damaged(str(error)) from error
