"""Runs on disk: written once and whole, read as records.

Each run is a folder, DIR/runs/RUN_ID/, with run.json (the record), curve.csv (one row per epoch), predictions.npz
(logits and labels), tokenizer-NAME.json of each text and checkpoint/ (the model's variables, written by orbax). Hidden
files beside them are the locks of runs in progress and the saved states of incomplete trainings.
"""

from fusion_bench.store.merge import Merged, merge
from fusion_bench.store.record import Damaged, Run, run_id, setting
from fusion_bench.store.store import Store

__all__ = ["Damaged", "Merged", "Run", "Store", "merge", "run_id", "setting"]
