"""The NVIDIA GPU, read through its driver's libraries without any framework."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from parity.errors import RequirementError

DRIVER, MANAGEMENT = "libcuda.so.1", "libnvidia-ml.so.1"

NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE of the CUDA driver API."""

Load = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU; `bytes` is its memory, `cuda` the newest CUDA version its driver supports."""

    name: str
    bytes: int
    count: int
    cuda: str
    driver: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        driver = f", driver {self.driver}" if self.driver else ""
        more = f" (1 of {self.count})" if self.count > 1 else ""
        return f"{self.name}{more}, {self.bytes / 2**30:.0f} GiB{driver}, CUDA {self.cuda}"


def find_gpu(load: Load = ctypes.CDLL) -> Gpu:
    """Return the GPU that a framework would use.

    Only the driver API is called, which creates no context and takes no GPU memory. Raises
    `RequirementError` with the reason if there is no GPU.
    """
    try:
        driver = load(DRIVER)
    except OSError as error:
        raise RequirementError(f"no NVIDIA driver ({DRIVER} cannot be loaded)") from error
    code = driver.cuInit(0)
    if code:
        raise RequirementError(_explain_error(code))
    count, version, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    if not count.value:
        raise RequirementError(_explain_error(NO_DEVICE))
    driver.cuDriverGetVersion(ctypes.byref(version))
    driver.cuDeviceGet(ctypes.byref(device), 0)
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    driver.cuDeviceGetName(name, 256, device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    # The driver API encodes CUDA 13.0 as 13000.
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Gpu(name.value.decode(), memory.value, count.value, cuda, _driver_version(load))


def _explain_error(code: int) -> str:
    """Return why there is no GPU, from the error code of the CUDA driver API."""
    if code != NO_DEVICE:
        return f"the NVIDIA driver does not start (cuInit error {code}): is it newer than the GPU?"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return f"no GPU: CUDA_VISIBLE_DEVICES='{visible}' hides all"
    return "no GPU: the NVIDIA driver finds none"


def _driver_version(load: Load) -> str | None:
    """Return the driver's version from the management library; None without it."""
    try:
        management = load(MANAGEMENT)
    except OSError:
        return None
    text = ctypes.create_string_buffer(96)
    if management.nvmlInit_v2():
        return None
    management.nvmlSystemGetDriverVersion(text, 96)
    management.nvmlShutdown()
    return text.value.decode() or None
