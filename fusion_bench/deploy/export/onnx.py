"""Export to ONNX, by jax2onnx, and its check in onnxruntime."""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from fusion_bench.deploy.card import as_json, describe
from fusion_bench.deploy.model import Classifier
from fusion_bench.errors import UserError, cause
from fusion_bench.logs import quiet
from fusion_bench.models.portable import portable

if TYPE_CHECKING:
    import onnx

INSTALL = "pip install 'fusion-bench-jax[onnx]'"
CARD, TOKENIZER = "fusion_bench.card", "fusion_bench.tokenizer."
"""Keys of the model's metadata: the card as JSON, and each tokenizer's JSON, by the modality."""


def to_onnx(classifier: Classifier) -> "onnx.ModelProto":
    """Returns a run's model as ONNX: raw arrays of `Classifier.arguments` in, logits out, of any batch size.

    Its metadata have the card and the tokenizers.

    Raises:
      UserError: jax2onnx is not installed, or cannot convert the strategy.
    """
    try:
        import jax2onnx
    except ImportError as error:
        raise UserError(f"export to ONNX needs jax2onnx ({cause(error)}): {INSTALL}") from error
    inputs: list[Any] = [_Shape(("batch", *shape), np.dtype(dtype)) for _, shape, dtype in classifier.arguments]
    names = [argument.name for argument in classifier.arguments]
    with portable(), quiet("onnx_ir"), quiet("jax2onnx"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the converter's own arithmetic
        try:
            model: Any = jax2onnx.to_onnx(
                classifier.logits,
                inputs,
                model_name=classifier.run.strategy,
                input_names=names,
                output_names=["logits"],
            )
        except Exception as error:  # a converter fails with errors of any type
            raise UserError(f"{classifier.run.strategy} cannot be exported to ONNX: {cause(error)}") from error
    return stamped(model, metadata(classifier, describe(classifier)))


def stamped(model: "onnx.ModelProto", values: Mapping[str, str]) -> "onnx.ModelProto":
    """Gives a model these metadata alone, and returns it."""
    del model.metadata_props[:]
    for key, value in values.items():
        model.metadata_props.add(key=key, value=value)
    return model


def metadata(classifier: Classifier, card: Mapping[str, Any]) -> dict[str, str]:
    """Returns a card and the tokenizers as texts, by their keys."""
    tokenizers = {f"{TOKENIZER}{name}": made.to_str() for name, made in classifier.loaded.tokenizers.items()}
    return {CARD: as_json(card), **tokenizers}


class Session:
    """A model in onnxruntime, on the CPU; called with arrays in the order of its inputs it returns the logits."""

    def __init__(self, content: bytes, threads: int = 0):
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(f"running ONNX needs onnxruntime ({cause(error)}): {INSTALL}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.names = [node.name for node in self.session.get_inputs()]

    def __call__(self, arrays: Sequence[np.ndarray]) -> Float[np.ndarray, "batch class"]:
        (logits,) = self.session.run(None, dict(zip(self.names, arrays, strict=True)))
        return np.asarray(logits)


class _Shape:
    """A shape with the name of the batch's size, and a type, as jax2onnx reads them from any object."""

    def __init__(self, shape: tuple[int | str, ...], dtype: np.dtype):
        self.shape, self.dtype = shape, dtype
