import numpy as np
import pytest
from scipy.special import log_softmax

from fusion_bench.data.load import load_dataset
from fusion_bench.metrics.calibration import fit_temperature
from fusion_bench.study.reference import bayes_logits


@pytest.mark.parametrize(("study", "target"), [("plain", "label"), ("shifted", "class")])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_reference_is_the_sum_over_classes(study, target, split, request):
    done = request.getfixturevalue(study)
    dataset = load_dataset(done.config.data)
    captions, num_classes = dataset.captions, dataset.num_classes
    assert captions is not None
    assert captions.channel is not None
    image = done.store.predictions(done.stored("image-only", target=target).id)
    np.testing.assert_array_equal(image["test_labels"], dataset.classes[dataset.splits["test"]])
    temperature = fit_temperature(image["validation_logits"], image["validation_labels"])
    log_probabilities = log_softmax(image[f"{split}_logits"].astype(np.float64) / temperature, axis=1)
    table = captions.channel.table  # P(w, k, t | y)
    words, shifts = np.asarray(captions.words), np.asarray(captions.shifts)

    expected = np.zeros((len(log_probabilities), num_classes))
    for row, index in enumerate(dataset.splits[split]):
        word, shift = words[index], shifts[index]
        for t in range(num_classes):
            for y in range(num_classes):
                expected[row, t] += np.exp(log_probabilities[row, y]) * table[y, word, shift, t]

    stored = done.store.predictions(done.stored("bayes-reference").id)
    np.testing.assert_array_equal(stored[f"{split}_labels"], dataset.labels[dataset.splits[split]])
    possible = expected > 0
    np.testing.assert_allclose(stored[f"{split}_logits"][possible], np.log(expected[possible]), atol=1e-5, rtol=1e-6)
    assert np.isfinite(stored[f"{split}_logits"]).all()
    assert (stored[f"{split}_logits"].argmax(1) == expected.argmax(1)).all()


def test_a_perfect_image_model_is_always_right(shifted):
    """The target is a function of the class and the shift, which the caption tells."""
    dataset = load_dataset(shifted.config.data)
    assert dataset.captions is not None
    validation, test = dataset.splits["validation"], dataset.splits["test"]
    sure = 20 * np.eye(dataset.num_classes)
    logits = bayes_logits(
        dataset.captions,
        test,
        sure[dataset.classes[test]],
        sure[dataset.classes[validation]],
        dataset.classes[validation],
    )
    assert (logits.argmax(1) == dataset.labels[test]).all()
