"""The machine that a comparison ran on, as the report tells it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import Any

import parity


def facts(versions: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """What a figure may depend on: versions by runtime, operating system, processor, threads."""
    return {
        "parity": parity.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": {runtime: dict(held) for runtime, held in versions.items()},
    }


def processor() -> str:
    """The processor's own name, or the architecture where the system does not tell."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
