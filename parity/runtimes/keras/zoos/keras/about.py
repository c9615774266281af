"""Facts about keras.applications that the parent process reads without importing it."""

from __future__ import annotations

from parity.processes.zoos import ZooInfo

ABOUT = ZooInfo(packages=("keras",), extra="keras")
