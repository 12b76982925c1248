"""Energy, where the device reports it: NVIDIA's NVML, through the optional package nvidia-ml-py."""

import os
from collections.abc import Callable
from typing import Any


def open_meter(device: Any) -> Callable[[], float] | None:
    """Returns a function that reads the energy counter of a jax device, in joules; None without a counter."""
    if device.platform not in ("gpu", "cuda"):
        return None
    try:
        import pynvml  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None

    def joules() -> float:
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000

    try:
        pynvml.nvmlInit()
        handle = _handle(pynvml, device)
        joules()
    except (pynvml.NVMLError, ValueError, IndexError, TypeError):  # no driver, a slice of a device, or no counter
        return None
    return joules


def _handle(nvml: Any, device: Any) -> Any:
    """Returns NVML's handle of a device, which CUDA_VISIBLE_DEVICES may have renumbered.

    Raises:
      ValueError: NVML's device of that number is another one.
    """
    number = int(device.local_hardware_id)  # type: ignore[arg-type]  # None is refused like a wrong number
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    name = visible.split(",")[number].strip() if visible else str(number)
    handle = nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdecimal() else nvml.nvmlDeviceGetHandleByUUID(name)
    model = nvml.nvmlDeviceGetName(handle)
    if (model.decode() if isinstance(model, bytes) else model) != device.device_kind:
        raise ValueError(f"NVML calls it {model!r}, jax {device.device_kind!r}")
    return handle
