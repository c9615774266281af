"""Facts about NumPy as a runtime, whose children help to measure captures."""

from __future__ import annotations

from parity.processes.registry import RuntimeInfo

ABOUT = RuntimeInfo(label="NumPy")
