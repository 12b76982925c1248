"""Made-up recordings of digits: a tone for each digit, a little higher or lower for each speaker."""

import io
import tarfile
import wave
from pathlib import Path

import numpy as np

SPEAKERS = ("ann", "ben", "cem", "dia", "eva", "fay")
ARCHIVED = "free-spoken-digit-dataset-1.0.9"


def samples(digit: int, speaker: int, index: int) -> np.ndarray:
    """Returns a tone of a fifth to a third of a second, int16, with noise."""
    rng = np.random.default_rng([digit, speaker, index])
    time = np.arange(rng.integers(1600, 2700)) / 8000
    tone = np.sin(2 * np.pi * (300 + 300 * digit) * (1 + 0.01 * speaker) * time)
    return (8000 * tone + rng.normal(0, 300, len(time))).astype(np.int16)


def encoded(values: np.ndarray, *, channels: int = 1, width: int = 2, rate: int = 8000) -> bytes:
    """Returns a wav file of these numbers."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(values.tobytes())
    return content.getvalue()


def made_up(speakers: tuple[str, ...] = SPEAKERS, count: int = 2) -> dict[str, bytes]:
    """Returns files by name: so many recordings of each digit by each speaker."""
    return {
        f"{digit}_{name}_{index}.wav": encoded(samples(digit, number, index))
        for digit in range(10)
        for number, name in enumerate(speakers)
        for index in range(count)
    }


def write_recordings(folder: Path, files: dict[str, bytes]) -> Path:
    """Writes files into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_archive(path: Path, files: dict[str, bytes]) -> Path:
    """Writes an archive in the official layout, with other files beside the recordings."""
    others = {"README.md": b"digits", "recordings/notes.txt": b"none", "other/0_ann_0.wav": b"no recording"}
    with tarfile.open(path, "w:gz") as tar:
        for name, content in {**others, **{f"recordings/{name}": content for name, content in files.items()}}.items():
            member = tarfile.TarInfo(f"{ARCHIVED}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path
