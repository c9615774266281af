"""Facts about timm that the parent process reads without importing it."""

from __future__ import annotations

from parity.processes.zoos import ZooInfo

ABOUT = ZooInfo(
    packages=("timm",),
    extra="zoo",
    variables={"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
)
