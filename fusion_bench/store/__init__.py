"""Runs on disk: written once and whole, read as records.

Each run is a folder, DIR/runs/RUN_ID/, with run.json (the record), curve.csv (a row an epoch),
predictions.npz (logits and labels), tokenizer-NAME.json of each text, and checkpoint/ (the model's variables, by
orbax).
Beside them, hidden: locks of the runs that are being made, and the state of trainings that are not complete.
"""

from fusion_bench.store.merge import Merged, merge
from fusion_bench.store.record import Damaged, Run, run_id, setting
from fusion_bench.store.store import Store

__all__ = ["Damaged", "Merged", "Run", "Store", "merge", "run_id", "setting"]
