"""Accuracy on captions without some of their words, and on captions of another channel."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from fusion_bench.data.captions.channel import Channel, Sample, make_channel, sample
from fusion_bench.data.captions.partial import (
    bayes_accuracy_without_words,
    drop_words,
    read_by,
    text_ceiling_without_words,
)
from fusion_bench.data.captions.spec import PRESETS
from fusion_bench.data.captions.tokenizer import UNKNOWN
from fusion_bench.data.dataset import Captions, Task
from fusion_bench.diagnostics.base import Diagnostic, Inapplicable, Result, register_diagnostic, spaced, unimodal
from fusion_bench.diagnostics.model import Model, RunKey
from fusion_bench.diagnostics.robustness.references import class_probabilities, compared, retentions
from fusion_bench.diagnostics.texts import captions_of, tokens_of
from fusion_bench.errors import UserError
from fusion_bench.fields import Count
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.metrics.classification import accuracy
from fusion_bench.metrics.robustness import mean_over_severities

DROPPED = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Probabilities with which each word is dropped."""


class CaptionShift(Diagnostic):
    """Base of what is measured on other captions."""

    def __init__(self, *, examples: Count = 2000):
        self.examples = examples

    def companions(self, run: RunKey, others: Sequence[RunKey]) -> list[RunKey]:
        return unimodal(run, others)

    def skip(self, spec: StrategySpec, task: Task) -> str | None:
        texts = [name for name, modality in task.modalities.items() if modality.kind == "tokens"]
        if not texts:
            return "there is no text"
        modality = spec.registration.modality
        return None if modality is None or modality in texts else f"{spec.name} reads {modality} alone"


@register_diagnostic("dropped-words", reference="retention and effective robustness: as corruptions")
class DroppedWords(CaptionShift):
    """Accuracy on captions of which each word is dropped with a probability q, beside exact ceilings.

    A word is a run of letters, digits and "_" of any length. It is left out, as if the caption had been written without
    it; punctuation stays, and a text without any token is one unknown token. The draws depend on the example alone, so
    that all models read the same captions, and a word that is dropped is dropped for each larger q too.

    `accuracy_words_dropped_0.5` is the accuracy for q = 0.5 on `examples` test examples at even distances,
    `accuracy_words_dropped_0.0` that of whole captions, and `accuracy_words_dropped` the mean over q = 0.1, 0.25, 0.5,
    0.75 and 1.

    For captions of a channel, the informative word and the shift word survive with probability 1 - q each,
    independently, and all else tells nothing. `ceiling_words_dropped_0.5` is the best accuracy from such captions
    alone, exactly. `bayes_words_dropped_0.5` is the best that can be done with the image model of the same seed, where
    that is stored: on the same examples, in expectation over what is dropped.

    `retention_words_dropped_text`, `retention_words_dropped_image` and `effective_robustness_words_dropped` are defined
    as those of `corruptions`, for `accuracy_words_dropped`.
    """

    def is_detail(self, name: str) -> bool:
        return name.startswith(("ceiling", "bayes"))

    def compare(self, results: Sequence[Result]) -> list[dict[str, float]]:
        return compared(results, "words_dropped", "accuracy_words_dropped_0.0", self.examples)

    def __call__(self, model: Model, indices: Int[np.ndarray, " example"]) -> dict[str, float]:
        captions, rows = captions_of(model), spaced(len(indices), self.examples)
        examples = indices[rows]
        parts, labels, found = model.encode(examples), model.labels(examples), {}

        def measured(fraction: float) -> float:
            key = "dropped-words", fraction, examples.tobytes()
            if key not in model.cache:
                texts = drop_words([captions.texts[i] for i in examples], fraction, examples=examples)
                model.cache[key] = tokens_of(model, captions, texts)
            text = model.encode_values(captions.modality, model.cache[key])
            return accuracy(model.logits({**parts, captions.modality: text}), labels)

        for fraction in (0.0, *DROPPED):
            found[f"accuracy_words_dropped_{fraction}"] = measured(fraction)
        mean = mean_over_severities([found[f"accuracy_words_dropped_{fraction}"] for fraction in DROPPED])
        found["accuracy_words_dropped"] = mean
        if len(model.modalities) > 1:
            found |= retentions(model, "words_dropped", captions.modality, mean, rows)
        return found | self._ceilings(model, captions, examples, rows)

    def _ceilings(self, model: Model, captions: Captions, examples: np.ndarray, rows: np.ndarray) -> dict[str, float]:
        """Returns the exact accuracies of ideal readers, for captions of a channel."""
        channel = captions.channel
        if channel is None or captions.words is None or captions.shifts is None:
            return {}
        found = {f"ceiling_words_dropped_{q}": text_ceiling_without_words(channel, q) for q in (0.0, *DROPPED)}
        beliefs = class_probabilities(model, rows)
        if beliefs is not None:
            drawn = captions.words[examples], captions.shifts[examples], model.labels(examples)
            for q in (0.0, *DROPPED):
                found[f"bayes_words_dropped_{q}"] = bayes_accuracy_without_words(channel, q, beliefs, *drawn)
        return found


@register_diagnostic("channel-shift", reference="the channels of `fusion-bench list`")
class ChannelShift(CaptionShift):
    """Accuracy on captions of every preset channel, of a model that was trained on captions of one.

    The captions of the test examples are drawn from another channel with the seed of the dataset, and read with the
    tokenizer of the run, which may not know all words, up to the length of its texts. The target is that of the other
    channel: t = (y + k) mod C for the shift k that it has drawn. It is measured on `examples` test examples at even
    distances.

    `accuracy_on_half` is the accuracy on captions of the channel `half`, and `unknown_on_half` the fraction of captions
    with an unknown token. Beside it stand two accuracies of ideal readers with the calibrated image model of the same
    seed, where it is stored: `bayes_on_half` decides with the table of `half`, `mismatched_bayes_on_half` with that of
    the channel of training. So information that is gone (a low `bayes_on_half`) is told apart from a reader that does
    not know the channel. A word or a shift that the channel of training never has is read as if it were not there;
    without both, the image decides alone.
    """

    def is_detail(self, name: str) -> bool:
        return not name.startswith("accuracy")

    def __call__(self, model: Model, indices: Int[np.ndarray, " example"]) -> dict[str, float]:
        captions, rows = captions_of(model), spaced(len(indices), self.examples)
        trained_on, examples, dataset = captions.channel, indices[rows], model.dataset
        if trained_on is None or captions.seed is None:
            raise Inapplicable("captions from a file have no channel")
        parts, beliefs, found = model.encode(examples), class_probabilities(model, rows), {}
        for name in PRESETS:
            try:
                channel = make_channel(name, dataset.class_names, trained_on.prior)
            except UserError:  # its partition is not one of these classes
                continue
            key = "channel-shift", name, examples.tobytes()
            if key not in model.cache:
                drawn = of_examples(sample(channel, dataset.classes, captions.seed), examples)
                model.cache[key] = drawn, tokens_of(model, captions, drawn.texts)
            drawn, tokens = model.cache[key]
            logits = model.logits({**parts, captions.modality: model.encode_values(captions.modality, tokens)})
            found[f"accuracy_on_{name}"] = accuracy(logits, drawn.targets)
            found[f"unknown_on_{name}"] = float((tokens == UNKNOWN).any(1).mean())
            if beliefs is not None:
                found[f"bayes_on_{name}"] = bayes_accuracy(channel, channel, beliefs, drawn)
                found[f"mismatched_bayes_on_{name}"] = bayes_accuracy(trained_on, channel, beliefs, drawn)
        return found


def bayes_accuracy(
    reader: Channel, writer: Channel, beliefs: Float[np.ndarray, "example class"], drawn: Sample
) -> float:
    """Returns the accuracy of the Bayes decision with the table of one channel on captions of another.

    Args:
      reader: the channel whose table decides.
      writer: the channel of the captions.
      beliefs: p(y | x) of each example.
      drawn: words, shifts and targets of each example.
    """
    known = read_by(reader, writer, drawn.words, drawn.shifts)
    return accuracy(reader.bayes_scores(beliefs, *known), drawn.targets)


def of_examples(drawn: Sample, examples: Int[np.ndarray, " example"]) -> Sample:
    """Returns the draws of some examples."""
    texts = tuple(drawn.texts[i] for i in examples)
    return Sample(drawn.words[examples], drawn.shifts[examples], drawn.targets[examples], texts)
