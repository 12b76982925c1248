"""Experimental export to LiteRT (TensorFlow Lite), without TensorFlow, by the package litert-converter.

Its requirements exclude those of this package, so it lives in an environment of its own:

    python -m venv litert; litert/bin/pip install litert-converter==0.5.0 ai-edge-litert==2.3.0

There this file runs as a script, which converts StableHLO and predicts. The converter's interface is private to its
authors, so another version may fail.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fusion_bench.deploy.model import Classifier


class LiteRT:
    """A run's model in LiteRT's format, of one example at a time; called with arrays it returns the logits of each row.

    Attributes:
      content: the file.

    Raises:
      UserError: the other environment has no converter, or it cannot convert the strategy.
    """

    def __init__(self, classifier: "Classifier", python: Path):
        import jax

        from fusion_bench.models.portable import portable

        self.python, self.strategy = python, classifier.run.strategy
        shapes = [jax.ShapeDtypeStruct((1, *shape), np.dtype(dtype)) for _, shape, dtype in classifier.arguments]
        with portable():
            exported = jax.export.export(jax.jit(classifier.logits), platforms=["cpu"])(*shapes)
        self.names = [classifier.arguments[index].name for index in exported.module_kept_var_idx]
        self.given = exported.module_kept_var_idx
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "model.mlir"), Path(folder, "model.tflite")
            source.write_text(exported.mlir_module(), encoding="utf-8")
            self._run("convert", source, target, json.dumps(self.names))
            self.content = target.read_bytes()

    def __call__(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            model, inputs, logits = (Path(folder, name) for name in ("model.tflite", "inputs.npz", "logits.npy"))
            model.write_bytes(self.content)
            named: Any = dict(zip(self.names, (arrays[index] for index in self.given), strict=True))
            np.savez(inputs, **named)
            self._run("predict", model, inputs, logits)
            return np.load(logits)

    def _run(self, *arguments: Any) -> None:
        from fusion_bench.errors import UserError, cause

        try:
            done = subprocess.run([self.python, __file__, *arguments], capture_output=True, text=True)
        except OSError as error:
            raise UserError(f"{self.python} cannot be run: {cause(error)}") from error
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"{self.strategy} cannot be exported to LiteRT: {last[:160]}")


def convert(source: str, target: str, names: str) -> None:
    """Converts a module of StableHLO to a file of LiteRT; runs in the other environment."""
    from litert_converter import converter_api_ext as converter  # pyright: ignore[reportMissingImports]
    from litert_converter.mlir import ir, passmanager  # pyright: ignore[reportMissingImports]

    context = ir.Context()
    converter.prepare_mlir_context(context)
    with context:
        module = ir.Module.parse(Path(source).read_text(encoding="utf-8"))
        converter.set_signature(module.operation, "serving_default", json.loads(names), ["logits"])
        merged = converter.merge_modules([module])
        converter.run_convert_to_tfl_passes(merged, passmanager.PassManager(), converter.ConvertToTFLConfig())
        Path(target).write_bytes(converter.export_flatbuffer_to_bytes(merged.operation))


def predict(model: str, inputs: str, logits: str) -> None:
    """Writes the logits of each example of some arrays; runs in the other environment."""
    from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]

    run = Interpreter(model).get_signature_runner("serving_default")
    arrays = dict(np.load(inputs))
    count = len(next(iter(arrays.values())))
    rows = [run(**{name: array[i : i + 1] for name, array in arrays.items()})["logits"] for i in range(count)]
    np.save(logits, np.concatenate(rows))


if __name__ == "__main__":
    {"convert": convert, "predict": predict}[sys.argv[1]](*sys.argv[2:])
