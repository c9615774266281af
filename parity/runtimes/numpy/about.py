"""What the parent process must know of NumPy, which helps to measure captures."""

from __future__ import annotations

from parity.processes.registry import RuntimeInfo

ABOUT = RuntimeInfo(label="NumPy")
