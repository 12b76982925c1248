"""Files and folders that appear whole or not at all, and digests of their contents.

Everything is written under a hidden name beside its final one, synchronised to the disk, and renamed. The hidden name
holds machine and process, so that leftovers of killed processes can be distinguished from work in progress.
"""

import contextlib
import errno
import hashlib
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from fusion_bench.errors import DiskFull, UserError, cause

PARTIAL = ".partial-"
"""The beginning of the name of everything that is not complete."""


def write_text(path: Path, text: str) -> None:
    """Writes a text file as `encode` gives it, replacing an older one; its folder is made if it is missing.

    Raises:
      OSError: the disk is full, or the folder cannot be written to.
    """
    write_bytes(path, encode(text))


def encode(text: str) -> bytes:
    """Returns a text in UTF-8; what a file's name that is not UTF-8 has brought into it becomes JSON's escapes."""
    return text.encode("utf-8", "backslashreplace")


def recorded(text: str) -> str:
    """Returns a text as it is recorded: one that every library takes, even if it is of a name that is not UTF-8."""
    return encode(text).decode("utf-8")


def recorded_name(path: str | Path) -> str:
    """Returns the name of a file, which tells what data are, without its folder, which tells where they are."""
    return recorded(Path(path).name)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, replacing an older one; its folder is made if it is missing.

    Raises:
      OSError: the disk is full, or the folder cannot be written to.
    """
    partial = _partial(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.write_bytes(content)
        _sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Gives an empty folder to write into, which is renamed to `path` at the end of the context.

    A file or folder of that name is replaced. If the body raises, nothing has changed.

    Raises:
      OSError: the disk is full, or the folder above cannot be written to.
    """
    partial = _partial(path)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        for part in (*partial.rglob("*"), partial):
            _sync(part)
        if path.is_dir():  # a directory that is not empty cannot be replaced, only moved aside
            aside = _partial(path.with_name(f"old-{path.name}"))
            path.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        partial.rename(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder(folder: Path, name: str) -> Iterator[Path]:
    """Gives an empty folder below `folder` that is removed at the end of the context.

    Raises:
      OSError: the disk is full, or the folder cannot be written to.
    """
    scratch = _partial(folder / name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_partial(folder)
    try:
        scratch.mkdir()
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns an OSError inside the context into one line: `what`, and the cause.

    Raises:
      DiskFull: there is no space left.
      UserError: there is another cause.
    """
    try:
        yield
    except OSError as error:
        kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else UserError
        raise kind(f"{what}: {cause(error)}") from error


def copy_missing(source: Path, target: Path, pattern: str) -> None:
    """Copies the files of a folder that another folder lacks.

    Raises:
      UserError: the other folder cannot be written to.
    """
    for path in sorted(source.glob(pattern)):
        copy = target / path.name
        if not copy.exists():
            with explained(f"{copy} cannot be written"):
                write_bytes(copy, path.read_bytes())


def remove_partial(folder: Path) -> None:
    """Removes what killed processes of this machine have left half-written in a folder."""
    for path in folder.glob(f"{PARTIAL}*"):
        process = path.name.rpartition("-")[2]
        if not process.isdecimal() or not path.name.endswith(_owner(int(process))):
            continue  # another machine's, on a shared disk
        if int(process) == os.getpid() or not _is_alive(int(process)):
            path.unlink(missing_ok=True) if path.is_file() else shutil.rmtree(path, ignore_errors=True)


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file, or of the names and contents of all files in a folder, as hexadecimal digits."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    found = sorted(part for part in path.rglob("*") if part.is_file())
    lines = [f"{part.relative_to(path).as_posix()} {digest(part)}\n" for part in found]
    return digest_text("".join(lines))


def digest_text(text: str) -> str:
    """Returns the SHA-256 of a text in UTF-8, or of a path as the system has it, as hexadecimal digits."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _sync(path: Path) -> None:
    """Waits until a file's content, or a directory's list of files, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _partial(path: Path) -> Path:
    return path.with_name(f"{PARTIAL}{path.name}{_owner(os.getpid())}")


def _owner(process: int) -> str:
    """Ending of the hidden names of a process."""
    return f"@{platform.node()}-{process}"


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
