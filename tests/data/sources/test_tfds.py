"""Prepared TFDS directories, which are made here as they are read: where TensorFlow cannot be imported."""

import io
import json
import re
import shutil
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fusion_bench.config import DataConfig
from fusion_bench.data.load import load_dataset
from fusion_bench.data.sources.base import class_names, load_raw
from fusion_bench.errors import UserError

NAMES = ("left", "right", "middle")
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (18, 5, 6, 1), np.uint8)
COLOUR = [RNG.integers(0, 256, (8 + 2 * (row % 2), 12, 3), np.uint8) for row in range(6)]
SQUARE = RNG.integers(0, 256, (6, 4, 4, 3), np.uint8)


class NoTensorFlow:
    """Finds every module but TensorFlow, as if that were not installed."""

    finders = tuple(sys.meta_path)

    def find_spec(self, name, path=None, target=None):
        found = (finder.find_spec(name, path, target) for finder in self.finders)
        return None if name.partition(".")[0] == "tensorflow" else next(filter(None, found), None)


@pytest.fixture(scope="module", autouse=True)
def no_tensorflow():
    assert "tensorflow" not in sys.modules
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "meta_path", [NoTensorFlow()])
        yield


def png(pixels, mode=None):
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).convert(mode).save(file, format="PNG")
    return file.getvalue()


def labelled(images, **more):
    return [{"image": png(image), "label": row % 3, **more} for row, image in enumerate(images)]


def prepare(root, name, *, config=None, version="1.0.0", supervised=None, features=None, **splits):
    """Prepares a set of the given examples; `features` replace the usual ones, None takes one away."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.registered import skip_registration

    label = tfds.features.ClassLabel(names=NAMES)
    features = {"image": tfds.features.Image(), "label": label, **(features or {})}
    features = {name: feature for name, feature in features.items() if feature is not None}

    with skip_registration():

        class Builder(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version(version)
            BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

            def _info(self):
                given = tfds.features.FeaturesDict(features)
                return tfds.core.DatasetInfo(builder=self, features=given, supervised_keys=supervised)

            def _split_generators(self, dl_manager):
                return {split: enumerate(examples) for split, examples in splits.items()}

            def _generate_examples(self):
                raise NotImplementedError

    Builder.name = name
    Builder(data_dir=root, file_format="array_record").download_and_prepare()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A directory with one prepared set for every case."""
    from tensorflow_datasets import features

    root = tmp_path_factory.mktemp("tfds")
    both: Any = {"train": labelled(SQUARE), "test": labelled(SQUARE)}
    grey = {"image": features.Image(shape=(5, 6, 1))}
    parts: Any = {"train": labelled(GREY[:9]), "test": labelled(GREY[9:14]), "validation": labelled(GREY[14:])}
    prepare(root, "grey", features=grey, **parts, extra=labelled(GREY[:3]))
    numbered = [{**example, "id": f"{9 - row}"} for row, example in enumerate(parts["train"])]
    prepare(root, "numbered", features={**grey, "id": features.Text()}, train=numbered, test=numbered)
    prepare(root, "mixed", train=labelled(COLOUR), test=labelled(COLOUR))
    modes = [{"image": png(SQUARE[row], mode), "label": row} for row, mode in enumerate(("L", "RGBA", "P"))]
    prepare(root, "modes", train=modes, test=modes)
    prepare(root, "versions", version="1.9.0", **both)
    prepare(root, "versions", version="1.10.0", train=labelled(SQUARE[:5]), test=both["test"])
    prepare(root, "configs", config="plain", **both)
    prepare(root, "configs", config="fancy", train=labelled(SQUARE[:4]), test=both["test"])
    prepare(root, "untested", train=labelled(SQUARE), validation=labelled(SQUARE))
    prepare(root, "unlabelled", train=labelled(SQUARE), test=[{"image": png(SQUARE[0]), "label": -1}])
    masked = labelled(SQUARE, mask=png(SQUARE[0]))
    mask = {"mask": features.Image()}
    prepare(root, "masked", features=mask, supervised=("image", "label"), train=masked, test=masked)
    prepare(root, "pairs", features=mask, train=masked, test=masked)
    several = [{"image": png(SQUARE[0]), "labels": [0, 1]}]
    labels = {"label": None, "labels": features.Sequence(features.ClassLabel(names=NAMES))}
    prepare(root, "several", features=labels, train=several, test=several)
    deep = [{"image": np.zeros((4, 4, 1), np.uint16).tobytes(), "label": 0}]
    sixteen = {"image": features.Image(shape=(4, 4, 1), dtype=np.uint16)}
    prepare(root, "deep", features=sixteen, train=deep, test=deep)
    vectors = [{"image": [1.0, 2.0], "label": 0}]
    prepare(
        root, "vectors", features={"image": features.Tensor(shape=(2,), dtype=np.float32)}, train=vectors, test=vectors
    )
    return root


@pytest.fixture
def read(data_dir, tmp_path):
    return lambda name, **options: load_raw(
        DataConfig(f"tfds:{name}", data_dir, cache_dir=tmp_path / "cache", **options)
    )


def rows(array):
    """Returns the examples of an array in an order of their own: TFDS stores them shuffled."""
    return sorted(row.tobytes() for row in array)


def test_splits_labels_and_names_are_those_of_the_builder(read):
    raw = read("grey")
    image = raw.modalities["image"]
    assert not image.augment  # nobody knows what a flip does to these classes
    assert (image.kind, image.values.shape, image.values.dtype) == ("grid", (18, 5, 6, 1), np.uint8)
    for split, expected in {"train": GREY[:9], "validation": GREY[14:], "test": GREY[9:14]}.items():
        of_split = raw.split == split
        assert rows(image.values[of_split]) == rows(expected)
        for pixels, label in zip(image.values[of_split], raw.labels[of_split], strict=True):
            (position,) = [row for row, other in enumerate(expected) if np.array_equal(pixels, other)]
            assert label == position % 3
    assert raw.class_names == NAMES
    assert raw.labels.dtype == np.int32
    assert (raw.name, raw.description) == ("tfds:grey", "TFDS grey/1.0.0")


def test_ids_decide_the_order(read):
    images = read("numbered").modalities["image"].values
    np.testing.assert_array_equal(images, np.concatenate([GREY[8::-1], GREY[8::-1]]))


def triangle_filter(old, new):
    """Weights [new, old] of a triangle as wide as two pixels of the smaller of both images, by its definition."""
    scale = old / new
    offsets = (np.arange(old) + 0.5)[None] - (np.arange(new) + 0.5)[:, None] * scale
    weights = np.maximum(0, 1 - np.abs(offsets) / max(scale, 1))
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("size", [4, 16])
def test_images_of_several_sizes_are_resized_bilinearly(read, size):
    raw = read("mixed", image_size=size)
    got = raw.modalities["image"].values[raw.split == "test"]
    assert got.shape == (6, size, size, 3)
    assert raw.description == f"TFDS mixed/1.0.0, {size}x{size}"
    for pixels in COLOUR:
        down, across = triangle_filter(len(pixels), size), triangle_filter(12, size)
        expected = np.einsum("ih,jw,hwc->ijc", down, across, pixels.astype(float))
        assert np.abs(got - expected).max((1, 2, 3)).min() <= 1.5  # Pillow rounds after each axis


def test_every_file_becomes_an_image_of_the_features_channels(read):
    """Greyscale, transparent and palette files in a set of colour images, as ImageNet has."""
    raw = read("modes")
    images = raw.modalities["image"].values
    of_label = {label: images[raw.labels == label][0] for label in range(3)}
    assert images.shape == (6, 4, 4, 3)
    assert (of_label[0] == of_label[0][..., :1]).all()
    np.testing.assert_array_equal(of_label[1], SQUARE[1])
    palette = Image.open(io.BytesIO(png(SQUARE[2], "P"))).convert("RGB")
    np.testing.assert_array_equal(of_label[2], np.asarray(palette))


@pytest.mark.parametrize(
    ("name", "train"),
    [
        ("versions", 5),  # 1.10.0 is above 1.9.0
        ("versions:1.9.0", 6),
        ("versions:1.9.*", 6),
        ("configs/fancy", 4),
        ("configs/plain:1.0.0", 6),
        ("masked", 6),
    ],
)
def test_config_and_version_may_be_said(read, name, train):
    raw = read(name)
    assert (raw.split == "train").sum() == train
    assert raw.name == f"tfds:{name.partition(':')[0]}"


@pytest.mark.parametrize("given", ["grey", "grey/1.0.0", ".."])
def test_a_set_is_found_near_the_directory_that_is_given(data_dir, tmp_path, given):
    copy = shutil.copytree(data_dir / "grey", tmp_path / "sets" / "grey").parent
    raw = load_raw(DataConfig("tfds:grey", copy / given, cache_dir=tmp_path / "cache"))
    assert raw.name == "tfds:grey"


FAULTS = {
    "absent": "has no prepared absent; make it with `tfds build absent --file_format=array_record`",
    "versions:2.0.0": "has no prepared versions:2.0.0, but ",
    "configs": "tfds:configs is prepared as fancy, plain; say which: tfds:configs/fancy",
    "../grey": "tfds:../grey cannot be a TFDS name; tfds:NAME or tfds:NAME/CONFIG:VERSION is right",
    "mixed": "has images of 8x12 and 10x12 pixels; choose one image size",
    "untested": "has no split test; its splits are train, validation",
    "unlabelled": "has examples without a label in its split test",
    "pairs": "needs one Image and one ClassLabel, and its features are: image Image, label ClassLabel, mask Image",
    "several": "needs one Image and one ClassLabel, and its features are: image Image, labels Sequence",
    "vectors": "needs one Image and one ClassLabel, and its features are: image Tensor, label ClassLabel",
    "deep": "image is uint16 [4, 4, 1]; uint8 [H, W, 1, 3 or 4] is right",
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_no_set_of_labelled_images_is_one_line(read, name, tmp_path):
    with pytest.raises(UserError) as caught:
        read(name)
    line = re.sub(r"(8x12) and (10x12)|(10x12) and (8x12)", "8x12 and 10x12", str(caught.value))
    assert FAULTS[name] in line
    assert "\n" not in line
    assert not (tmp_path / "cache").exists()


def test_another_format_needs_tensorflow(data_dir, tmp_path):
    folder = shutil.copytree(data_dir / "grey" / "1.0.0", tmp_path / "grey" / "1.0.0")
    info = json.loads((folder / "dataset_info.json").read_text()) | {"fileFormat": "tfrecord"}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    message = "grey/1.0.0 is in tfrecord, which needs TensorFlow; prepare it as array_record"
    with pytest.raises(UserError, match=message):
        load_raw(DataConfig("tfds:grey", tmp_path))


def test_an_image_size_is_of_tfds_alone():
    with pytest.raises(UserError, match=r"image_size is .*; it is an option of tfds:NAME only"):
        load_raw(DataConfig(image_size=8))


def test_the_second_load_reads_the_cache_and_not_tfds(data_dir, read, tmp_path):
    first, small = read("grey"), read("grey", image_size=3)  # both are kept
    code = f"""
        import pathlib, sys
        from fusion_bench.config import DataConfig
        from fusion_bench.data.sources.base import load_raw
        data_dir, cache_dir = map(pathlib.Path, ({str(data_dir)!r}, {str(tmp_path / "cache")!r}))
        for size in (None, 3):
            raw = load_raw(DataConfig("tfds:grey", data_dir, cache_dir=cache_dir, image_size=size))
            print(raw.modalities["image"].values.sum(), *raw.class_names, "tensorflow_datasets" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    sums = [str(raw.modalities["image"].values.sum()) for raw in (first, small)]
    assert done.stdout.split() == [sums[0], *NAMES, "False", sums[1], *NAMES, "False"]
    assert done.stderr == ""


def test_captions_are_laid_over_the_images(data_dir, tmp_path):
    config = DataConfig("tfds:grey", data_dir, captions="clean", cache_dir=tmp_path)
    dataset = load_dataset(config)
    assert dataset.captions is not None
    assert list(dataset.modalities) == ["image", "text"]
    for text, label in zip(dataset.captions.texts, dataset.labels, strict=True):
        assert f"{NAMES[label]}_" in text  # a word of the generic lexicon
    assert class_names(config) == NAMES
