"""What makes files last, and tells whether they still are what they were."""

import hashlib
import os
from pathlib import Path


def sync(path: Path) -> None:
    """Waits until a file's content, or a directory's list of files, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """As `sync`, for all that is in a folder, and the folder."""
    for path in (*folder.rglob("*"), folder):
        sync(path)


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file, or of the names and contents of all files in a folder, as hexadecimal digits."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(part for part in path.rglob("*") if part.is_file())
    lines = [f"{part.relative_to(path).as_posix()} {digest(part)}\n" for part in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
