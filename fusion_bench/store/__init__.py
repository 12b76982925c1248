"""Runs on disk: written once and whole, read as records.

Each run is a folder, DIR/runs/RUN_ID/, with run.json (the record), curve.csv (a row an epoch),
predictions.npz (logits and labels), tokenizer.json and checkpoint/ (the model's variables, by orbax).
"""

from fusion_bench.store.record import Run, run_id, setting
from fusion_bench.store.store import Store

__all__ = ["Run", "Store", "run_id", "setting"]
