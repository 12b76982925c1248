"""Energy, where the device reports it: NVIDIA's NVML, through the optional package nvidia-ml-py."""

import os
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Meter(Protocol):
    """Counts the energy that a device has taken, all of the device's, idle or not."""

    def joules(self) -> float:
        """Returns what was taken since some fixed time."""
        ...


def open_meter(device: Any) -> Meter | None:
    """Returns the meter of a jax device; None where there is none that is known to be its own."""
    if device.platform not in ("gpu", "cuda"):
        return None
    try:
        import pynvml  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        meter = _NvmlMeter(pynvml, _handle(pynvml, device))
        meter.joules()
    except (pynvml.NVMLError, ValueError, IndexError, TypeError):  # no driver, a slice of a device, or no counter
        return None
    return meter


class _NvmlMeter:
    def __init__(self, nvml: Any, handle: Any):
        self._nvml, self._handle = nvml, handle

    def joules(self) -> float:
        return self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1000


def _handle(nvml: Any, device: Any) -> Any:
    """Returns NVML's handle of a device, which CUDA_VISIBLE_DEVICES may have renumbered.

    Raises:
      ValueError: it is not known which one it is.
    """
    number = int(device.local_hardware_id)  # type: ignore[arg-type]  # None is refused like a wrong number
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    name = visible.split(",")[number].strip() if visible else str(number)
    handle = nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdecimal() else None
    handle = handle or nvml.nvmlDeviceGetHandleByUUID(name)
    model = nvml.nvmlDeviceGetName(handle)
    if (model.decode() if isinstance(model, bytes) else model) != device.device_kind:
        raise ValueError(f"NVML calls it {model!r}, jax {device.device_kind!r}")
    return handle
