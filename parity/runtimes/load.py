"""The operations that load a model and describe it."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

from parity.network.architectures import from_json
from parity.network.table import LayerTable, Row
from parity.runtimes.devices import inspect_device
from parity.runtimes.framework import Framework
from parity.version import __version__


class LoadOperations(Framework):
    """Loads the one model of a child."""

    def hello(self) -> dict[str, Any]:
        """Return the versions; see `hello_answer`."""
        return hello_answer(self.versions())

    def inspect_device(self, *, device: str) -> dict[str, Any]:
        """Return the devices and the flags of a float32 run; see `devices.inspect_device`."""
        return inspect_device(self, device)

    def load(
        self, *, spec: dict[str, Any] | None = None, callable_path: str | None = None
    ) -> dict[str, Any]:
        """Build the registered twin of `spec`, or call the user's `module:callable`."""
        started = time.perf_counter()
        self.spec = None if spec is None else from_json(spec)
        if callable_path is not None:
            self.model = self.build_from_callable(callable_path)
        else:
            assert self.spec is not None
            self.model = self.build(self.spec)
            self.table = self.spec.table()
        return {"seconds": time.perf_counter() - started}

    def use_table(self, *, table: dict[str, Any]) -> None:
        """Find layers by `table` from now on."""
        self.table = LayerTable.from_json(table)

    def describe(self, *, input_shape: list[int]) -> dict[str, Any]:
        """Return the model's layers and its number of parameters; `input_shape` is (C, H, W)."""
        layers = self.describe_layers(input_shape)
        return {"layers": layers, "parameters": self.count_parameters()}

    def find_rows(self, names: Sequence[str]) -> list[Row]:
        """Return the table's rows of these names, in the names' order."""
        return [self.table.by_name(name) for name in names]


def hello_answer(versions: Mapping[str, str]) -> dict[str, Any]:
    """Return the versions of `parity`, of Python and of the runtime's packages."""
    return {
        "parity": __version__,
        "python": platform.python_version(),
        "versions": dict(versions),
    }
