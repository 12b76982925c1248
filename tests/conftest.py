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


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the tests and the user out of each other's decoded images and prepared datasets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUSION_BENCH_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("TFDS_DATA_DIR", raising=False)
        yield
