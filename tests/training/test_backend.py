"""Settings of JAX that change results, and those that a study cannot run with."""

import jax
import pytest

from fusion_bench.errors import UserError
from fusion_bench.training import backend


@pytest.fixture
def set_jax(monkeypatch):
    """Returns a function that sets something in JAX for the length of a test."""
    before = {}

    def set_jax(name, value):
        before[name] = getattr(jax.config, name)
        jax.config.update(name, value)

    yield set_jax
    for name, value in before.items():
        jax.config.update(name, value)


CHANGING = [
    ("jax_default_prng_impl", "rbg"),
    ("jax_enable_x64", True),
    ("jax_default_matmul_precision", "float32"),
    ("jax_threefry_partitionable", False),
    ("jax_random_seed_offset", 3),
]


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in ("XLA_FLAGS", "NPROC", *backend._VARIABLES):
        monkeypatch.delenv(name, raising=False)


def test_nothing_is_named_where_nothing_is_set():
    assert backend.numerics() == {}
    assert set(backend._USUAL) <= set(jax.config.values)
    assert set(backend._NEEDED) <= set(jax.config.values)


@pytest.mark.parametrize(("name", "value"), CHANGING)
def test_what_changes_results_is_named_and_can_be_set_in_another_process(set_jax, name, value):
    set_jax(name, value)
    found = backend.numerics()
    assert found == {name: value}
    backend.use_numerics({})
    assert backend.numerics() == {}
    backend.use_numerics(found)
    assert getattr(jax.config, name) == value


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_dump_to=/tmp/x"}, {}),
        (
            {"XLA_FLAGS": "--xla_b=1 --xla_dump_hlo_as_text --xla_cpu_enable_fast_math=true"},
            {"XLA_FLAGS": "--xla_b=1 --xla_cpu_enable_fast_math=true"},
        ),
        (
            {"XLA_FLAGS": "--xla_cpu_enable_fast_math=true  --xla_b=1"},
            {"XLA_FLAGS": "--xla_b=1 --xla_cpu_enable_fast_math=true"},
        ),
        ({"NVIDIA_TF32_OVERRIDE": "0"}, {"NVIDIA_TF32_OVERRIDE": "0"}),
        ({"LIBTPU_INIT_ARGS": ""}, {}),
    ],
)
def test_variables_of_the_environment(monkeypatch, variables, found):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert backend.numerics() == found


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("jax_disable_jit", True, "JAX's setting JAX_DISABLE_JIT is True; a study needs False"),
        (
            "jax_numpy_dtype_promotion",
            "strict",
            "JAX's setting JAX_NUMPY_DTYPE_PROMOTION is strict; a study needs standard",
        ),
        ("jax_numpy_rank_promotion", "raise", "JAX's setting JAX_NUMPY_RANK_PROMOTION is raise; a study needs allow"),
    ],
)
def test_a_setting_that_no_study_can_run_with_is_refused(set_jax, name, value, line):
    set_jax(name, value)
    with pytest.raises(UserError) as caught:
        backend.start()
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("asked", "error", "line"),
    [
        (None, RuntimeError("no TPU\nfound"), "on this machine (no TPU)"),
        ("cuda", AssertionError(), "for JAX_PLATFORMS=cuda; leave that out, or install what it needs (AssertionError)"),
    ],
)
def test_a_platform_that_is_not_there(monkeypatch, set_jax, asked, error, line):
    def devices():
        raise error

    monkeypatch.setattr(jax, "devices", devices)
    set_jax("jax_platforms", asked)
    with pytest.raises(UserError) as caught:
        backend.start()
    assert str(caught.value) == f"JAX finds no device {line}"
