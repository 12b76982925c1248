"""What all tests share: repeatable hypothesis examples, and no cache that outlives the session."""

import os
from collections.abc import Iterator

import hypothesis
import pytest

# jax reads it when it is imported, which test modules do before any fixture runs
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

# a compilation inside an example takes longer than any sensible deadline
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


from tests.studies import make_config, run_recorded, write_source  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the tests and the user out of each other's decoded images and prepared datasets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUSION_BENCH_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("TFDS_DATA_DIR", raising=False)
        yield


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("source") / "tiny.npz")


@pytest.fixture(scope="session")
def plain(source, tmp_path_factory):
    """A finished study whose labels are the classes. Tests that go on from it copy its directory."""
    return run_recorded(make_config(source, tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="session")
def shifted(source, tmp_path_factory):
    """A finished study whose captions shift the label; only post-hoc fusion was asked for."""
    out = tmp_path_factory.mktemp("shifted")
    return run_recorded(make_config(source, out, strategies=("late-posthoc",), captions="mixed"))
