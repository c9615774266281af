"""The runner of cells in the processes of an executor."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity.commands.cell_address import describe_hardware
from parity.commands.comparison_runner import ComparisonRunner
from parity.comparison.graphs.request import GraphRequest
from parity.comparison.request import Request
from parity.processes.environments import EnvironmentRequest, ensure_environment
from parity.report import codec

FACTORY = "parity.commands.cell_runner:CellRunner"
"""The name of the class, by which an executor makes runners."""

CPU_MACHINE = "parity.commands.cell_runner:describe_cpu_machine"
GPU_MACHINE = "parity.commands.cell_runner:describe_gpu_machine"
"""The names of the functions that describe a machine, without and with its GPU."""


@dataclass(frozen=True)
class CellTask:
    """A comparison, the working folder that modules are found from, and its environments."""

    request: Request | GraphRequest
    folder: str
    environments: tuple[EnvironmentRequest, ...] = ()
    gpu: bool = False


class CellRunner:
    """Runs the comparisons of cells; cells of published models share children."""

    def __init__(self) -> None:
        self._runner = ComparisonRunner()

    def run(self, task: CellTask) -> dict[str, Any]:
        """Return the report as JSON data, and the machine's kind; raises a `ParityError`."""
        if Path(task.folder).is_dir():
            os.chdir(task.folder)
        # On another machine of a cluster they may not exist yet.
        python = find_pythons(task.environments)
        request = dataclasses.replace(task.request, python={**task.request.python, **python})
        report = self._runner.run(request)
        return {"report": codec.to_json(report), "hardware": describe_hardware(gpu=task.gpu)}

    def close(self) -> None:
        """End the children."""
        self._runner.close()


def find_pythons(environments: tuple[EnvironmentRequest, ...]) -> Mapping[str, str]:
    """Return the interpreter by runtime of environments, which are created if they do not exist.

    Raises `InterpreterError` with the installer's message.
    """
    return {each.runtime: str(ensure_environment(each)[0]) for each in environments}


def describe_cpu_machine() -> dict[str, str | None]:
    """Return the kind of this machine, for cells that use no GPU."""
    return describe_hardware(gpu=False)


def describe_gpu_machine() -> dict[str, str | None]:
    """Return the kind of this machine and of its GPU."""
    return describe_hardware(gpu=True)
