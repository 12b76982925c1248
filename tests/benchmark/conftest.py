import pytest

from tests.studies import make_config, run_recorded, write_source


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
