"""Facts about transformers that the parent process reads without importing it."""

from __future__ import annotations

from parity.processes.zoos import ZooInfo

ABOUT = ZooInfo(
    packages=("transformers",),
    extra="zoo",
    holds_folders=True,
    variables={
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    },
)
