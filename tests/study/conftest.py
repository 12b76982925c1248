"""What tests of executors compare with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.studies import ALONE

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def alone(source, tmp_path_factory):
    """A study of one process on one core."""
    out = tmp_path_factory.mktemp("alone")
    command = [sys.executable, "-m", "tests.run_study", str(source), str(out), ",".join(ALONE), "2"]
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # of this thread, from which the process has it
    try:
        subprocess.run(command, cwd=ROOT, check=True)
    finally:
        os.sched_setaffinity(0, cores)
    return out
