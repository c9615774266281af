"""Children that are asked whether they can use a GPU, and start no process."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from parity.errors import RequirementError
from parity.processes.children import Children


class GpuChildren(Children):
    """Children of which those in `failing` cannot use the GPU; `asked` are all names."""

    def __init__(self, failing: Collection[str] = ()) -> None:
        super().__init__()
        self.failing = failing
        self.asked: list[str] = []

    def __getitem__(self, name: str) -> Any:
        self.asked.append(name)
        return GpuChild(name, name in self.failing)


class GpuChild:
    """A child that answers `require_device` alone."""

    def __init__(self, name: str, fails: bool) -> None:
        self.name, self.fails = name, fails

    def hello(self) -> dict[str, Any]:
        return {}

    def call(self, operation: str, **arguments: Any) -> dict[str, str]:
        assert (operation, arguments) == ("require_device", {"device": "gpu"})
        if self.fails:
            raise RequirementError(f"{self.name}: CUDA does not start")
        return {"card": "NVIDIA Fake 100"}
