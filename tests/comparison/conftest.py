"""What several tests of placement share."""

from __future__ import annotations

import pytest

from parity.processes import probe, registry


@pytest.fixture
def gpu_builds(monkeypatch):
    """Every runtime's packages are built for a GPU and complete, until a test takes one away."""
    builds = {runtime: {"cuda": "12.9"} for runtime in registry.frameworks()}

    def probe_interpreter(runtime, python=None):
        versions = dict.fromkeys(registry.get(runtime).package_names, "1.0")
        return probe.Installation(versions=versions, **builds[runtime])

    monkeypatch.setattr(probe, "probe_interpreter", probe_interpreter)
    return builds
