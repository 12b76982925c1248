"""The captions that a model reads, and others in their place."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from fusion_bench.data.captions.tokenizer import encode
from fusion_bench.data.dataset import Captions
from fusion_bench.diagnostics.base import Inapplicable
from fusion_bench.diagnostics.model import Model


def captions_of(model: Model) -> Captions:
    """Returns the captions that a model reads.

    Raises:
      Inapplicable: there are none, or it does not read them.
    """
    captions = model.dataset.captions
    if captions is None:
        raise Inapplicable("the data have no captions")
    if captions.modality not in model.modalities:
        raise Inapplicable(f"the model reads {model.modalities[0]} alone, and {captions.modality} is changed")
    return captions


def tokens_of(model: Model, captions: Captions, texts: Sequence[str]) -> Int32[np.ndarray, "example token"]:
    """Returns texts in the tokens of the training texts, of their length."""
    name = captions.modality
    return encode(model.dataset.tokenizers[name], texts, model.dataset.modalities[name].spec.shape[0])
