"""The tests' study as a process of its own: python -m tests.run_study SOURCE OUT STRATEGIES SEEDS [WORKERS]."""

import dataclasses
import signal
import sys
from pathlib import Path

import pytest

import fusion_bench
from tests.studies import make_config, make_quick

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    source, out, strategies, seeds, *workers = sys.argv[1:]
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        config = make_config(Path(source), Path(out), strategies=tuple(strategies.split(",")), seeds=int(seeds))
        fusion_bench.run(dataclasses.replace(config, workers=int(*workers or "1")))
