import subprocess
import sys
import textwrap

import numpy as np
import pytest

from fusion_bench.config import DataConfig
from fusion_bench.data.sources.base import load_raw, sources
from fusion_bench.data.sources.shapes import NUM_TEST, NUM_TRAIN
from fusion_bench.errors import UserError

HEAVY = ["jax", "tensorflow_datasets", "pandas", "tokenizers", "sklearn", "PIL"]


def test_the_default_is_shapes():
    raw = load_raw(DataConfig())
    assert raw.name == "shapes"
    assert list(raw.modalities) == ["image"]
    assert np.unique(raw.split, return_counts=True)[1].tolist() == [NUM_TEST, NUM_TRAIN]


def test_audio_is_asked_for():
    assert list(load_raw(DataConfig(audio=True)).modalities) == ["image", "audio"]


def test_audio_belongs_to_shapes(tmp_path):
    with pytest.raises(UserError, match="audio is an option of shapes alone; cifar10 has none"):
        load_raw(DataConfig(source="cifar10", audio=True, data_dir=tmp_path))


def test_a_file_is_a_source(tmp_path):
    np.savez(tmp_path / "mine.npz", sensor=np.zeros((10, 2)), label=np.arange(10) % 2)
    raw = load_raw(DataConfig(source=str(tmp_path / "mine.npz")))
    assert list(raw.modalities) == ["sensor"]


def test_cifar10_is_given_its_directory(tmp_path):
    with pytest.raises(UserError, match=r"no directory .*nowhere"):
        load_raw(DataConfig(source="cifar10", data_dir=tmp_path / "nowhere"))


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown data source 'cifar'; did you mean cifar10\?"):
        load_raw(DataConfig(source="cifar"))


def test_every_source_has_a_line():
    assert all(source.summary and "\n" not in source.summary for source in sources().values())


def test_sources_are_listed_without_a_heavy_import():
    code = f"""
        import sys
        from fusion_bench.data.sources.base import sources
        print(len(sources()), [name for name in {HEAVY} if name in sys.modules])
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(sources())), "[]"]
