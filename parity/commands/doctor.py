"""`parity doctor`: the machine's versions, devices, flags and cache, and what is missing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from parity.errors import ParityError, RequirementError, UsageError
from parity.processes import cache, gpus, origin, probe, registry
from parity.processes.children import Children
from parity.processes.machine import environment_facts


@dataclass(frozen=True, slots=True)
class RuntimeStatus:
    """One runtime in its interpreter; `missing` has one line for each problem."""

    runtime: str
    python: str
    versions: Mapping[str, str] = field(default_factory=dict)
    devices: Sequence[str] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)
    missing: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """Everything that `parity doctor` prints."""

    environment: Mapping[str, Any]
    device: str
    gpu: str
    """The GPU, or why there is none."""
    cache: Mapping[str, Any]
    runtimes: Sequence[RuntimeStatus]
    clashes: Sequence[str] = ()
    """One line for each other owner of the names `parity` and `exporters`."""

    @property
    def missing(self) -> list[str]:
        """One line, with a remedy, for each thing that is missing."""
        lines = [line for each in self.runtimes for line in each.missing]
        if self.cache["problem"] is not None:
            lines.append(f"cache: {self.cache['problem']}")
        elif not self.cache["writable"]:
            lines.append(
                f"cache: {self.cache['path']}: cannot be written, so that every run exports and "
                "calibrates again; set PARITY_CACHE to a writable folder"
            )
        return lines

    @property
    def exit_code(self) -> int:
        return 3 if self.missing or self.clashes else 0

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {**asdict(self), "missing": self.missing}


def inspect_machine(
    *, device: str = "auto", python: Mapping[str, str] | None = None, timeout: float = 120.0
) -> MachineStatus:
    """Return the status of every runtime, in its interpreter, and of the machine.

    `python` is {runtime: interpreter}, `timeout` the seconds that one runtime may take. With the
    device "gpu", a runtime that cannot use the GPU has a problem in `missing`. Frameworks are
    imported in children, in parallel.
    """
    gpu, has_gpu = _describe_gpu()
    runtimes = registry.frameworks()
    if device == "gpu" and not has_gpu:
        # No framework can use a GPU that the driver does not find, so none is started.
        return _inspect_without_gpu(gpu, python or {})
    with Children(python=python, timeout=timeout, gpu=device != "cpu" and has_gpu) as children:
        children.start(runtimes)
        with children.threads(len(runtimes)) as pool:
            statuses = list(
                pool.map(lambda name: _inspect_runtime(children, name, device, has_gpu), runtimes)
            )
    return _status(device, gpu, statuses)


def _status(device: str, gpu: str, statuses: Sequence[RuntimeStatus]) -> MachineStatus:
    """Return the status of the machine that these runtimes are on."""
    versions = {each.runtime: each.versions for each in statuses}
    return MachineStatus(
        environment=environment_facts(versions),
        device=device,
        gpu=gpu,
        cache=inspect_cache(),
        runtimes=statuses,
        clashes=origin.find_clashes(),
    )


def _describe_gpu() -> tuple[str, bool]:
    """Return (the GPU or why there is none, whether there is one)."""
    try:
        return str(gpus.find_gpu()), True
    except RequirementError as error:
        return str(error), False


def _inspect_without_gpu(gpu: str, python: Mapping[str, str]) -> MachineStatus:
    """Return the status of a machine without a GPU; `gpu` is the reason."""
    statuses = []
    for runtime in registry.frameworks():
        installation = probe.probe_interpreter(runtime, python.get(runtime))
        lines = probe.describe_problems(runtime, installation, gpu=True)
        statuses.append(
            RuntimeStatus(
                runtime=runtime,
                python=installation.python,
                versions=installation.versions,
                missing=[f"{line}; {gpu}" for line in lines] or [f"{runtime}: {gpu}"],
            )
        )
    return _status("gpu", gpu, statuses)


def _inspect_runtime(children: Children, runtime: str, device: str, has_gpu: bool) -> RuntimeStatus:
    """Return the versions, devices and flags of one child, or its error in `missing`."""
    survey_device = "gpu" if device == "gpu" or (device == "auto" and has_gpu) else "cpu"
    child = children[runtime]
    try:
        hello = child.hello()
    except ParityError as error:
        return RuntimeStatus(runtime, child.python, missing=[str(error)])
    python, versions = hello["python"], hello["versions"]
    try:
        survey = child.call("inspect_device", device=survey_device)
    except ParityError as error:
        return RuntimeStatus(runtime, python, versions, missing=[str(error)])
    # With "auto", a GPU that this runtime cannot use is no problem.
    lines = [*survey["package_problems"], *(survey["device_problems"] if device != "auto" else ())]
    return RuntimeStatus(
        runtime=runtime,
        python=python,
        versions=versions,
        devices=survey["devices"],
        flags=survey["flags"],
        missing=list(dict.fromkeys(lines)),
    )


def inspect_cache() -> dict[str, Any]:
    """Return the cache's path, size in bytes, whether it is writable, and its problem or None."""
    path, problem = cache.cache_folder(), None
    with contextlib.suppress(OSError):
        path.mkdir(parents=True, exist_ok=True)
    try:
        cache.require_own_folder()
    except UsageError as error:
        problem = str(error)
    facts = {"path": str(path), "bytes": cache.total_bytes(), "writable": _is_writable(path)}
    return {**facts, "problem": problem}


def _is_writable(path: Path) -> bool:
    return path.is_dir() and os.access(path, os.W_OK)


def format_status(status: MachineStatus) -> list[str]:
    """Return the status as lines of text."""
    machine = status.environment
    lines = [
        f"parity    {machine['parity']}, Python {machine['python']}, {machine['system']}, "
        f"{machine['machine']}",
        f"processor {machine['processor']}, {machine['cores']} cores",
        f"GPU       {status.gpu}",
        f"cache     {status.cache['path']}, {status.cache['bytes'] / 1e6:.0f} MB"
        + ("" if status.cache["writable"] else ", cannot be written"),
    ]
    for each in status.runtimes:
        versions = ", ".join(f"{name} {version}" for name, version in each.versions.items())
        lines += ["", f"{each.runtime:<9} {versions or 'no versions known'}, Python {each.python}"]
        if each.devices:
            lines.append(f"  devices   {', '.join(each.devices)}")
        # A flag may be the empty string, such as TensorFlow's jit.
        lines += [f"  {name} = {value or repr(value)}" for name, value in each.flags.items()]
    lines += ["", *(f"clash     {line}" for line in status.clashes)]
    lines += [f"missing   {line}" for line in status.missing]
    if not status.missing:
        lines.append("nothing is missing")
    return lines
