"""`fusion-bench export`: a stored model as a file that other programs run."""

import dataclasses
import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.console import Console
from tyro.conf import Positional

from fusion_bench import files
from fusion_bench.cli.flags import OPTIONS, option
from fusion_bench.config import DataConfig
from fusion_bench.errors import UserError
from fusion_bench.fields import Checked

if TYPE_CHECKING:
    from fusion_bench.deploy.model import Classifier


@dataclasses.dataclass(frozen=True)
class ExportCommand(Checked):
    """Write a stored model as ONNX, StableHLO or a web page; its logits are compared with the run's before."""

    directory: Annotated[Positional[Path], option("DIR")]
    """The --out directory of `fusion-bench run`."""
    run: Annotated[Positional[str], option("RUN")]
    """The run: its identifier, or the beginning of it, such as concat-s0."""
    out: Annotated[Path, option("FILE")]
    """The file; for --format web a folder, which any static server can serve."""
    format: Literal["onnx", "stablehlo", "web", "litert"] = "onnx"
    """onnx: for ONNX Runtime, also on phones. stablehlo: for JAX on CPU, GPU and TPU. web: a page that
    runs the model in the browser. litert: for LiteRT, one example at a time; experimental."""
    quantize: Literal["none", "int8"] = "none"
    """int8: weights of 8 bits, for onnx and web; its test accuracy is printed beside that before."""
    runtime: Annotated[Path | None, option("DIR|FILE.tgz", "fetched with npm once, then kept")] = None
    """The npm package onnxruntime-web, for --format web: its folder, or the file of `npm pack onnxruntime-web`."""
    litert_python: Annotated[Path | None, option("FILE", "none")] = None
    """Python of an environment with litert-converter and ai-edge-litert, for --format litert."""
    data_dir: Annotated[Path | None, OPTIONS[DataConfig]["data_dir"]] = None
    """Directory of prepared TFDS data, on which --quantize measures the accuracy."""
    source: Annotated[str, option("FILE.npz", "none", name="data")] = ""
    """Path of the data file that the run was trained on, for --quantize; a run records only the file's name."""
    captions: Annotated[str, option("FILE", "none")] = ""
    """Path of the caption file that the run was trained on, for --quantize."""


def run(command: ExportCommand, console: Console) -> int:
    """Returns the exit status."""
    from fusion_bench.training import backend

    if command.format in ("stablehlo", "litert") and command.quantize != "none":
        raise UserError("--quantize int8 is for --format onnx or web")
    if command.format == "litert" and command.litert_python is None:
        raise UserError("--format litert needs --litert-python, the Python of an environment with litert-converter")
    backend.start()
    from fusion_bench.deploy.model import load_classifier

    if command.format != "web" and command.out.is_dir():
        raise UserError(f"{command.out} is a folder; --out is a file")
    classifier = load_classifier(command.directory, command.run)
    with files.explained(f"{command.out} cannot be written"):
        write = {"stablehlo": _write_stablehlo, "litert": _write_litert}.get(command.format, _write_onnx)
        write(command, classifier, console)
    return 0


def _write_onnx(command: ExportCommand, classifier: "Classifier", console: Console) -> None:
    from fusion_bench.deploy.card import describe
    from fusion_bench.deploy.export import check, onnx

    card = describe(classifier)
    model = onnx.to_onnx(classifier)
    content = model.SerializeToString()
    _say(console, check.check(classifier, onnx.Session(content), str(command.out)))
    if command.quantize == "int8":
        from fusion_bench.deploy.export.quantize import compare, quantize
        from fusion_bench.store.loaded import load_data

        smaller = quantize(model)
        quantized = smaller.SerializeToString()
        places = DataConfig(command.source, command.data_dir, command.captions)
        found = compare(classifier, load_data(classifier.run, places), content, quantized)
        console.out(
            f"test accuracy {100 * found.before:.2f} % before, {100 * found.after:.2f} % with int8 weights, "
            f"n = {found.count:,}; {len(content):,} and {len(quantized):,} bytes"
        )
        card |= {"quantization": "int8", "test_accuracy": found.after}
        content = onnx.stamped(smaller, onnx.metadata(classifier, card)).SerializeToString()
    if command.format == "web":
        from fusion_bench.deploy.export.web import write_web

        write_web(classifier, content, command.out, command.runtime, card)
        console.out(f"written to {command.out}; python -m http.server --directory {command.out} serves it")
        return
    files.write_bytes(command.out, content)
    console.out(f"written to {command.out}, {len(content):,} bytes; card and tokenizers are in its metadata")


def _write_stablehlo(command: ExportCommand, classifier: "Classifier", console: Console) -> None:
    from fusion_bench.deploy.export import check, stablehlo

    content = stablehlo.to_stablehlo(classifier)
    _say(console, check.check(classifier, stablehlo.Program(content), str(command.out)))
    expires = datetime.datetime.now(datetime.UTC).date() + stablehlo.VALID
    about = {"platforms": stablehlo.PLATFORMS, "expires": expires.isoformat()}
    _write_beside(command.out, content, classifier, about, console)
    console.out(f"for {', '.join(stablehlo.PLATFORMS)}; JAX reads it until about {expires}, export it anew after that")


def _write_litert(command: ExportCommand, classifier: "Classifier", console: Console) -> None:
    from fusion_bench.deploy.export import check
    from fusion_bench.deploy.export.litert import LiteRT

    assert command.litert_python is not None
    model = LiteRT(classifier, command.litert_python)
    _say(console, check.check(classifier, model, str(command.out)))
    _write_beside(command.out, model.content, classifier, {"batch": 1, "arguments": model.names}, console)


def _write_beside(
    path: Path, content: bytes, classifier: "Classifier", about: Mapping[str, Any], console: Console
) -> None:
    """Writes a file, and beside it FILE.card.json with the card and the tokenizers."""
    from fusion_bench.deploy.card import describe
    from fusion_bench.deploy.export.onnx import metadata

    beside = path.with_name(path.name + ".card.json")
    files.write_bytes(path, content)
    files.write_bytes(beside, json.dumps({**about, **metadata(classifier, describe(classifier))}, indent=2).encode())
    console.out(f"written to {path}, {len(content):,} bytes; card and tokenizers are in {beside}")


def _say(console: Console, difference: float) -> None:
    from fusion_bench.deploy.export.check import BATCHES

    console.out(
        f"logits differ by at most {difference:.1e} from the run's, in batches of {', '.join(map(str, BATCHES))}"
    )
