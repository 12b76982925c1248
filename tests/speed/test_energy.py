"""Energy, from a made-up NVML: which device's counter is read, and when there is none."""

import sys
from collections.abc import Hashable
from types import SimpleNamespace

import pytest

from fusion_bench.speed.compiled import Case, Compiled
from fusion_bench.speed.energy import open_meter
from fusion_bench.speed.measure import _measure_energy
from fusion_bench.training.timing import TimedLoop

MODELS = {0: "Card A", 1: "Card B", "GPU-b": "Card B", "MIG-x": "Card B MIG"}


class NVMLError(Exception):
    """As NVML's own."""


def make_nvml(counts=True):
    """Returns a module with two cards, whose counters read 1,000 mJ more each time."""
    read = dict.fromkeys(MODELS, 0)

    def energy(handle):
        if not counts:
            raise NVMLError("not supported")
        read[handle] += 1000
        return read[handle]

    def by_index(number):
        if number not in MODELS:
            raise NVMLError("no such device")
        return SimpleHandle(number)

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=by_index,
        nvmlDeviceGetHandleByUUID=lambda name: SimpleHandle(name),
        nvmlDeviceGetName=lambda handle: MODELS[handle.name].encode(),
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: energy(handle.name),
        read=read,
    )


class SimpleHandle:
    """NVML's handle of a device."""

    def __init__(self, name):
        self.name = name


def card(number, kind, platform="gpu"):
    return SimpleNamespace(platform=platform, local_hardware_id=number, device_kind=kind)


@pytest.fixture
def nvml(monkeypatch):
    module = make_nvml()
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return module


@pytest.mark.parametrize(
    ("visible", "number", "kind", "read"),
    [(None, 0, "Card A", 0), (None, 1, "Card B", 1), ("1,0", 0, "Card B", 1), ("GPU-b", 0, "Card B", "GPU-b")],
)
def test_the_devices_own_counter_is_read(nvml, monkeypatch, visible, number, kind, read):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    meter = open_meter(card(number, kind))
    assert meter is not None
    before = meter()
    assert meter() - before == 1.0
    assert {name for name, count in nvml.read.items() if count} == {read}


@pytest.mark.parametrize(
    ("visible", "device"),
    [
        (None, card(0, "TFRT_CPU_0", "cpu")),
        (None, card(0, "Card B")),  # NVML calls it something else
        (None, card(7, "Card A")),
        (None, card(None, "Card A")),
        ("1", card(1, "Card B")),
        ("MIG-x", card(0, "Card B")),
    ],
)
def test_a_device_that_is_not_certain_has_no_meter(nvml, monkeypatch, visible, device):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert open_meter(device) is None


def test_without_a_counter_or_the_package_there_is_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", make_nvml(counts=False))
    assert open_meter(card(0, "Card A")) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert open_meter(card(0, "Card A")) is None


def test_joules_are_those_of_an_example_at_the_fastest_batch():
    """A pass at 50 examples/s for a second is 50 examples in 5 steps of 10; the meter counts 4 J a step."""
    taken = []

    slow, fast = (Case("concat", "train", size) for size in (2, 10))
    passes = {case: TimedLoop(taken.append, case.batch_size) for case in (slow, fast)}
    taken.clear()
    samples: dict[Hashable, list[float]] = {slow: [10.0, 10.0], fast: [40.0, 50.0, 60.0]}
    compiled = Compiled(timed=passes, params={"concat": 1})
    joules = _measure_energy(compiled, samples, lambda: 4.0 * sum(taken), 2, lambda text: None)
    assert joules == {fast: [0.4, 0.4]}
    assert taken == [1, 5, 1, 5]
