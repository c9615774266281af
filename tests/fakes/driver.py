"""The NVIDIA driver's two libraries, as `ctypes` would give them."""

from __future__ import annotations


class Driver:
    """`libcuda.so.1` with one GPU, or with the fault that it is given."""

    def __init__(self, *, init: int = 0, gpus: int = 1) -> None:
        self.init, self.gpus = init, gpus

    def cuInit(self, flags):  # noqa: N802
        return self.init

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = self.gpus

    def cuDriverGetVersion(self, version):  # noqa: N802
        version._obj.value = 13020

    def cuDeviceGet(self, device, index):  # noqa: N802
        device._obj.value = index

    def cuDeviceGetName(self, name, size, device):  # noqa: N802
        name.value = b"NVIDIA Fake 100"

    def cuDeviceTotalMem_v2(self, memory, device):  # noqa: N802
        memory._obj.value = 80 * 2**30

    def nvmlInit_v2(self):  # noqa: N802
        return 0

    def nvmlSystemGetDriverVersion(self, text, size):  # noqa: N802
        text.value = b"580.65.06"

    def nvmlShutdown(self):  # noqa: N802
        return 0
