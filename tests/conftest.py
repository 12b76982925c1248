"""Shared by all tests: repeatable hypothesis examples, and caches that do not outlive the session."""

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator

import hypothesis
import pytest

if "PYTEST_XDIST_WORKER" not in os.environ:
    # What one test has compiled, others read, in all processes of the session. jax looks here when it is imported,
    # which test modules do before any fixture runs.
    compiled = tempfile.mkdtemp(prefix="fusion-bench-tests-")
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# Traces are millions of objects that live as long as the session; to look through them took a sixth of its time.
gc.set_threshold(100_000, 20, 100)

# a compilation inside an example takes longer than any sensible deadline
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


from fusion_bench.cli import main  # noqa: E402
from fusion_bench.training.compile_cache import without_cache  # noqa: E402
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
    with without_cache():  # its compilation is timed
        return run_recorded(make_config(source, tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="session")
def shifted(source, tmp_path_factory):
    """A finished study whose captions shift the label; only post-hoc fusion was asked for."""
    out = tmp_path_factory.mktemp("shifted")
    return run_recorded(make_config(source, out, strategies=("late-posthoc",), captions="mixed"))


@pytest.fixture
def call(capsys, monkeypatch):
    """Returns a function that calls the command line: exit status, standard output, standard error."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments):
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return exit_.value.code or 0, printed.out, printed.err

    return call


@pytest.fixture
def refuse(call, tmp_path):
    """Returns a function that runs what cannot be run, and gives the one line that says why."""

    def refuse(*arguments, command="run"):
        out = ("--out", tmp_path / "out") if command == "run" and "--out" not in arguments else ()
        status, printed, line = call(command, *arguments, *out)
        assert status == 2
        assert printed == ""
        assert line.startswith("fusion-bench: ")
        assert line.count("\n") == 1
        assert not (tmp_path / "out").exists()
        return line

    return refuse


@pytest.fixture(scope="module")  # while it is open its driver has the thread's event loop, which other modules need
def browser():
    """Debian's chromium, driven by playwright."""
    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("there is no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()
