"""A classifier as a folder of static files: a page, and the model in ONNX Runtime, in the reader's own browser."""

import gzip
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion_bench import files
from fusion_bench.data.cache import cache_directory
from fusion_bench.deploy import page
from fusion_bench.deploy.card import as_json, describe
from fusion_bench.deploy.examples import is_picture
from fusion_bench.deploy.model import Classifier
from fusion_bench.errors import UserError, cause

CARD = "card.json"
PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
RUNTIME = {"ort.wasm.bundle.min.mjs": "ort.js", "ort-wasm-simd-threaded.wasm": "ort.wasm.gz"}
"""Files of the package that are needed, and what they are in the folder.

The folder has no .mjs, which servers may give a type that browsers refuse, and a fourth of the WebAssembly's bytes.
"""


def write_web(
    classifier: Classifier,
    model: bytes,
    folder: Path,
    runtime: Path | None = None,
    card: Mapping[str, Any] | None = None,
) -> None:
    """Writes a folder that any web server can serve; an earlier one of that name is replaced.

    Args:
      classifier: whose card and tokenizers are written.
      model: it as ONNX.
      folder: its parent is made if it is missing.
      runtime: a directory with the files of the npm package onnxruntime-web, or its archive (.tgz). None takes them
        from the cache, where `npm pack` brings them once.
      card: the model's; None describes the classifier.

    Raises:
      UserError: the folder has other files, there is no runtime, or a page can neither take a modality nor go without.
      OSError: the disk is full, or the folder cannot be written to.
    """
    for name, spec in classifier.modalities.items():
        if not (is_picture(spec) or name in classifier.loaded.tokenizers or name in classifier.neutral):
            raise UserError(f"the page cannot take {name}, a {spec.kind}, and the run has no neutral value of it")
    if folder.exists() and not (folder.is_dir() and all(map(_is_ours, folder.iterdir()))):
        raise UserError(f"{folder} has other files; give a new folder")
    needed = find_runtime(runtime)
    with files.new_folder(folder) as new:
        for name in (*page.FILES, "tokens.js"):
            shutil.copyfile(page.FOLDER / name, new / name)
        shutil.copyfile(page.FOLDER / "onnx.js", new / "model.js")
        shutil.copyfile(page.FOLDER / "onnxruntime-LICENSE.txt", new / "onnxruntime-LICENSE.txt")
        (new / CARD).write_text(as_json(card or describe(classifier)), encoding="utf-8")
        for name, tokenizer in classifier.loaded.tokenizers.items():
            (new / f"tokenizer-{name}.json").write_text(tokenizer.to_str(), encoding="utf-8")
        (new / "model.onnx").write_bytes(model)
        for name, content in needed.items():
            (new / name).write_bytes(content)


def _is_ours(path: Path) -> bool:
    """Returns whether a file of a folder is of an earlier export, by its name."""
    fixed = {*page.FILES, "tokens.js", "model.js", "onnxruntime-LICENSE.txt", CARD, "model.onnx", *RUNTIME.values()}
    return path.is_file() and (path.name in fixed or path.match("tokenizer-*.json"))


def find_runtime(given: Path | None) -> Mapping[str, bytes]:
    """Returns the files of ONNX Runtime for browsers by their names in the folder.

    Raises:
      UserError: `given` has not all of them, or nothing is given and npm cannot bring them.
    """
    if given is not None:
        return _packed(_read_archive(given) if given.is_file() else _read_directory(given))
    entry = cache_directory(None) / f"{PACKAGE}-{VERSION}"
    if not entry.is_dir():
        content = _download()
        entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with files.new_folder(entry) as folder:
            for name, value in content.items():
                (folder / name).write_bytes(value)
    return _packed(_read_directory(entry))


def _packed(content: Mapping[str, bytes]) -> dict[str, bytes]:
    return {
        new: gzip.compress(content[name], mtime=0) if new.endswith(".gz") else content[name]
        for name, new in RUNTIME.items()
    }


def _read_directory(directory: Path) -> dict[str, bytes]:
    for folder in (directory, directory / "dist", directory / "package" / "dist"):
        if all((folder / name).is_file() for name in RUNTIME):
            return {name: (folder / name).read_bytes() for name in RUNTIME}
    raise UserError(f"{directory} has not the files {' and '.join(RUNTIME)} of the npm package {PACKAGE}")


def _read_archive(path: Path, version: str | None = None) -> dict[str, bytes]:
    try:
        with tarfile.open(path) as archive:
            found = json.loads(_member(archive, "package/package.json"))
            content = {name: _member(archive, f"package/dist/{name}") for name in RUNTIME}
    except (OSError, EOFError, KeyError, ValueError, tarfile.TarError) as error:
        raise UserError(f"{path} is no archive of the npm package {PACKAGE}: {cause(error)}") from error
    if found.get("name") != PACKAGE or version not in (None, found.get("version")):
        wanted = f"{PACKAGE} {version or ''}".strip()
        raise UserError(f"{path} is {found.get('name')} {found.get('version')}; {wanted} is right")
    return content


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(f"{name} is no file")
    return file.read()


def _download() -> dict[str, bytes]:
    """Returns the package's files as npm gives them, which checks the archive's digest.

    Raises:
      UserError: there is no npm, or it cannot reach its registry.
    """
    wanted = f"{PACKAGE}@{VERSION}"
    way = f"give a folder or archive of the npm package {wanted}"
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"the page needs {PACKAGE}, and there is no npm to fetch it with; {way}")
    with tempfile.TemporaryDirectory() as temporary:
        try:
            subprocess.run(
                [npm, "pack", wanted, "--silent", "--pack-destination", temporary],
                check=True,
                capture_output=True,
                text=True,
                timeout=600,
                cwd=temporary,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise UserError(f"npm cannot fetch {wanted}: {_last_line(error)}; {way}") from error
        archives = list(Path(temporary).glob("*.tgz"))
        if len(archives) != 1:
            raise UserError(f"npm has not written the archive of {wanted}; {way}")
        return _read_archive(archives[0], VERSION)


def _last_line(error: Exception) -> str:
    lines = (getattr(error, "stderr", None) or "").strip().splitlines()
    return lines[-1] if lines else cause(error)
