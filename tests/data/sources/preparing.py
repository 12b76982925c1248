"""Preparation of a TFDS set in a process of its own, from a small archive in the place of a download."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import pathlib, sys
import tensorflow_datasets as tfds
from fusion_bench.config import DataConfig
from fusion_bench.data.sources import cifar10, digits, preparation

archive, data_dir = map(pathlib.Path, sys.argv[1:])
asked = []
def download(self, url):  # all that is replaced: fetching, and checking the sum of what was fetched
    asked.append(url)
    return archive
tfds.download.DownloadManager.download = download
preparation._check_reachable = lambda url: None
{statement}
print(*asked, "tensorflow" in sys.modules)
"""


def prepare(statement: str, archive: Path, data_dir: Path) -> str:
    """Runs a statement that prepares `data_dir`; returns the addresses asked for, and whether TensorFlow was loaded."""
    command = [sys.executable, "-c", SCRIPT.format(statement=statement), str(archive), str(data_dir)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
