"""Cache of decoded arrays on disk."""

import json
import os
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import platformdirs

from fusion_bench import files

MANIFEST = "manifest.json"


def cache_directory(cache_dir: Path | None) -> Path:
    """Returns the directory of the cache: as given, else $FUSION_BENCH_CACHE_DIR, else the user's own."""
    usual = os.environ.get("FUSION_BENCH_CACHE_DIR") or platformdirs.user_cache_dir("fusion_bench")
    return cache_dir or Path(usual).expanduser()


def files_stamp(directory: Path) -> str:
    """Returns a digest of the names, sizes and modification times of the files of a directory."""
    paths = sorted(directory.iterdir())
    rows = [f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in paths]
    return files.digest_text("\n".join(rows))


def cached_arrays(entry: Path, stamp: str, build: Callable[[], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """Returns the arrays of a cache entry; builds and stores them if it is missing, stale or damaged.

    Args:
      entry: its directory; the parent is created, readable by its owner only.
      stamp: identifies the data that the arrays were made from; an entry with another stamp is replaced.
      build: makes the arrays, by name; none of them of Python objects.

    Warns:
      UserWarning: they cannot be stored.
    """
    arrays = _read(entry, stamp)
    if arrays is not None:
        return arrays
    arrays = build()
    manifest = {"stamp": stamp, "checksums": {name: _checksum(array) for name, array in arrays.items()}}
    try:
        entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.remove_partial(entry.parent)
        with files.new_folder(entry) as folder:
            for name, array in arrays.items():
                np.save(folder / f"{name}.npy", array, allow_pickle=False)
            (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    except OSError as error:
        warnings.warn(f"decoded data cannot be cached: {error}", stacklevel=2)
    return arrays


def _read(entry: Path, stamp: str) -> dict[str, np.ndarray] | None:
    try:
        manifest = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))
        if manifest["stamp"] != stamp:
            return None
        arrays = {name: np.load(entry / f"{name}.npy", allow_pickle=False) for name in manifest["checksums"]}
        intact = all(_checksum(arrays[name]) == value for name, value in manifest["checksums"].items())
    except (OSError, ValueError, KeyError, TypeError, EOFError, SyntaxError):  # all that a damaged file can raise
        return None
    return arrays if intact else None


def _checksum(array: np.ndarray) -> int:
    header = zlib.crc32(f"{array.dtype.str} {array.shape}".encode())
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, header)
