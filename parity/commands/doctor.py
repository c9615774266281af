"""What a machine has for `parity`: versions, devices, precision flags, cache, what is missing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from parity.errors import ParityError, RuntimeMissing, UsageError
from parity.processes import cache, cards, probe, registry
from parity.processes.children import Children
from parity.processes.machine import environment_facts


@dataclass(frozen=True, slots=True)
class RuntimeStatus:
    """One runtime in the interpreter that serves it; `missing` is empty if it works."""

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
    card: str
    """The card, or why there is none."""
    cache: Mapping[str, Any]
    runtimes: Sequence[RuntimeStatus]

    @property
    def missing(self) -> list[str]:
        """One line for each thing that is missing, with its remedy."""
        lines = [line for each in self.runtimes for line in each.missing]
        if self.cache["problem"] is not None:
            lines.append(f"cache: {self.cache['problem']}")
        elif not self.cache["writable"]:
            lines.append(
                f"cache: {self.cache['path']} cannot be written, so that every run exports and "
                "calibrates anew; set PARITY_CACHE to a folder that can be"
            )
        return lines

    @property
    def exit_code(self) -> int:
        return 3 if self.missing else 0

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {**asdict(self), "missing": self.missing}


def inspect_machine(
    *, device: str = "auto", python: Mapping[str, str] | None = None, timeout: float = 120.0
) -> MachineStatus:
    """Ask every runtime, in the interpreter given for it, what it is and what it lacks.

    With the device `gpu` a runtime that cannot compute there lacks something. Frameworks are
    imported in children, side by side.
    """
    card, found = _card()
    runtimes = registry.frameworks()
    if device == "gpu" and not found:
        # No framework can find what the driver does not have, so none is asked to use it.
        return _status_without_card(card, python or {})
    with Children(python=python, timeout=timeout, gpu=device != "cpu" and found) as children:
        children.start(runtimes)
        with children.threads(len(runtimes)) as pool:
            statuses = list(
                pool.map(lambda name: _ask_runtime(children, name, device, found), runtimes)
            )
    versions = {each.runtime: each.versions for each in statuses}
    return MachineStatus(environment_facts(versions), device, card, cache_facts(), statuses)


def _card() -> tuple[str, bool]:
    try:
        return str(cards.find_card()), True
    except RuntimeMissing as error:
        return str(error), False


def _status_without_card(card: str, python: Mapping[str, str]) -> MachineStatus:
    statuses = []
    for runtime in registry.frameworks():
        found = probe.probe_interpreter(runtime, python.get(runtime))
        lines = probe.describe_problems(runtime, found, gpu=True)
        statuses.append(
            RuntimeStatus(
                runtime=runtime,
                python=found.python,
                versions=found.versions,
                missing=[f"{line}; {card}" for line in lines] or [f"{runtime}: {card}"],
            )
        )
    versions = {each.runtime: each.versions for each in statuses}
    return MachineStatus(environment_facts(versions), "gpu", card, cache_facts(), statuses)


def _ask_runtime(children: Children, runtime: str, device: str, card: bool) -> RuntimeStatus:
    """Ask one child for its versions, devices and flags; its error is what is missing."""
    where = "gpu" if device == "gpu" or (device == "auto" and card) else "cpu"
    child = children[runtime]
    try:
        hello = child.hello()
        held = child.call("inspect_device", device=where)
    except ParityError as error:
        return RuntimeStatus(runtime, child.python, missing=[str(error)])
    # A card that this runtime cannot use is no fault where nobody asked for it.
    lines = [*held["missing"], *(held["lacking"] if device != "auto" else ())]
    return RuntimeStatus(
        runtime=runtime,
        python=hello["python"],
        versions=hello["versions"],
        devices=held["devices"],
        flags=held["flags"],
        missing=list(dict.fromkeys(lines)),
    )


def cache_facts() -> dict[str, Any]:
    """Where the cache is, its entries' bytes, whether it can be written, whose else it may be."""
    path, problem = cache.root(), None
    with contextlib.suppress(OSError):
        path.mkdir(parents=True, exist_ok=True)
    try:
        cache.require_ours()
    except UsageError as error:
        problem = str(error)
    facts = {"path": str(path), "bytes": cache.size(), "writable": _writable(path)}
    return {**facts, "problem": problem}


def _writable(path: Path) -> bool:
    return path.is_dir() and os.access(path, os.W_OK)


def format_lines(status: MachineStatus) -> list[str]:
    """Return the status as text, one fact a line."""
    machine = status.environment
    told = [
        f"parity    {machine['parity']}, Python {machine['python']}, {machine['system']}, "
        f"{machine['machine']}",
        f"processor {machine['processor']}, {machine['cores']} cores",
        f"card      {status.card}",
        f"cache     {status.cache['path']}, {status.cache['bytes'] / 1e6:.0f} MB"
        + ("" if status.cache["writable"] else ", cannot be written"),
    ]
    for each in status.runtimes:
        versions = ", ".join(f"{name} {version}" for name, version in each.versions.items())
        told += ["", f"{each.runtime:<9} {versions or 'not there'}, Python {each.python}"]
        if each.devices:
            told.append(f"  devices   {', '.join(each.devices)}")
        told += [f"  {name} = {value}" for name, value in each.flags.items()]
    told += ["", *(f"missing   {line}" for line in status.missing)]
    if not status.missing:
        told.append("nothing is missing")
    return told
