"""A helper: no subject, and listed nowhere."""

from parity.processes.registry import RuntimeInfo

ABOUT = RuntimeInfo(label="Fake", extra="fake")
