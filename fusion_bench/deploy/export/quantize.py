"""Weights of 8 bits in an ONNX model, by onnxruntime, and what this costs in accuracy."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fusion_bench.data.dataset import Dataset
from fusion_bench.deploy.export.onnx import INSTALL, Session
from fusion_bench.deploy.model import Classifier
from fusion_bench.errors import UserError, cause
from fusion_bench.logs import quiet
from fusion_bench.metrics.classification import accuracy

if TYPE_CHECKING:
    import onnx

BATCH = 64


class Accuracies(NamedTuple):
    """Test accuracies of one model in two forms, and on how many examples."""

    before: float
    after: float
    count: int


def quantize(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Returns a model whose matrices and kernels are int8, the scale of activations being computed in each batch.

    Constants are folded first: kernels are transposed in the graph, and only those that are stored as they are used
    become int8. Dynamic quantisation needs no examples. With fixed scales (`quantize_static`) early-token lost 11
    points of test accuracy on shapes, and the graph of tensor was refused.
    """
    try:
        import onnx
        import onnxruntime
        from onnxruntime import quantization
    except ImportError as error:
        raise UserError(f"quantisation needs onnxruntime ({cause(error)}): {INSTALL}") from error
    with tempfile.TemporaryDirectory() as folder, quiet("root"):  # it advises what fixed scales would need
        folded, path = Path(folder, "folded.onnx"), Path(folder, "int8.onnx")
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        quantization.quantize_dynamic(folded, path, weight_type=quantization.QuantType.QInt8)
        return onnx.load(path)


def compare(classifier: Classifier, dataset: Dataset, before: bytes, after: bytes) -> Accuracies:
    """Returns the accuracies of two ONNX models on the test split, in batches of the same examples."""
    before_and_after = [_accuracy(classifier, dataset, content) for content in (before, after)]
    return Accuracies(before_and_after[0], before_and_after[1], len(dataset.splits["test"]))


def _accuracy(classifier: Classifier, dataset: Dataset, content: bytes) -> float:
    session, test = Session(content), dataset.splits["test"]
    batches = [test[start : start + BATCH] for start in range(0, len(test), BATCH)]
    logits = np.concatenate([session(classifier.stored(dataset, rows)) for rows in batches])
    return accuracy(logits, dataset.labels[test])
