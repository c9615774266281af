"""The machine that a comparison runs on: versions, operating system, processor."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import Any

from parity.version import __version__


def environment_facts(versions: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return what a result may depend on: versions, operating system, processor, cores.

    `versions` are those of each child's packages, by the child's name.
    """
    return {
        "parity": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "versions": {child: dict(packages) for child, packages in versions.items()},
    }


def processor_name() -> str:
    """Return the processor's model name, or the architecture where the system has no name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
