"""What a machine has for `parity`: versions, devices, precision flags, cache, what is missing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from parity.errors import ParityError, RuntimeMissing, UsageError
from parity.processes import cache, cards, probe
from parity.processes.children import Children
from parity.processes.machine import facts as environment_facts

RUNTIMES = ("keras", "torch", "onnx")


@dataclass(frozen=True, slots=True)
class Patient:
    """One runtime in the interpreter that serves it; `missing` is empty if it works."""

    runtime: str
    python: str
    versions: Mapping[str, str] = field(default_factory=dict)
    devices: Sequence[str] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)
    missing: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Checkup:
    """Everything that `parity doctor` prints."""

    environment: Mapping[str, Any]
    device: str
    card: str
    """The card, or why there is none."""
    cache: Mapping[str, Any]
    runtimes: Sequence[Patient]

    @property
    def missing(self) -> list[str]:
        """One line for each thing that is missing, with its remedy."""
        lines = [line for patient in self.runtimes for line in patient.missing]
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


def examine(
    *, device: str = "auto", python: Mapping[str, str] | None = None, timeout: float = 120.0
) -> Checkup:
    """Ask every runtime, in the interpreter given for it, what it is and what it lacks.

    With the device `gpu` a runtime that cannot compute there lacks something. Frameworks are
    imported in children, side by side.
    """
    card, found = _card()
    if device == "gpu" and not found:
        # No framework can find what the driver does not have, so none is asked to use it.
        return _without(card, python or {})
    with Children(python=python, timeout=timeout, gpu=device != "cpu" and found) as children:
        children.start(RUNTIMES)
        with children.threads(len(RUNTIMES)) as pool:
            patients = list(
                pool.map(lambda name: _patient(children, name, device, found), RUNTIMES)
            )
    versions = {patient.runtime: patient.versions for patient in patients}
    return Checkup(environment_facts(versions), device, card, cache_facts(), patients)


def _card() -> tuple[str, bool]:
    try:
        return str(cards.card()), True
    except RuntimeMissing as error:
        return str(error), False


def _without(card: str, python: Mapping[str, str]) -> Checkup:
    patients = []
    for runtime in RUNTIMES:
        found = probe.of(runtime, python.get(runtime))
        lines = probe.told(runtime, found, gpu=True)
        patients.append(
            Patient(
                runtime=runtime,
                python=found["python"],
                versions=found["versions"],
                missing=[f"{line}; {card}" for line in lines] or [f"{runtime}: {card}"],
            )
        )
    versions = {patient.runtime: patient.versions for patient in patients}
    return Checkup(environment_facts(versions), "gpu", card, cache_facts(), patients)


def _patient(children: Children, runtime: str, device: str, card: bool) -> Patient:
    """What one child says of itself; a child that cannot be had is what is missing."""
    where = "gpu" if device == "gpu" or (device == "auto" and card) else "cpu"
    child = children[runtime]
    try:
        hello = child.hello()
        held = child.call("survey", device=where)
    except ParityError as error:
        return Patient(runtime, child.python, missing=[str(error)])
    # A card that this runtime cannot use is no fault where nobody asked for it.
    lines = [*held["missing"], *(held["lacking"] if device != "auto" else ())]
    return Patient(
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


def lines(checkup: Checkup) -> list[str]:
    """The check-up as text, one fact a line."""
    machine = checkup.environment
    told = [
        f"parity    {machine['parity']}, Python {machine['python']}, {machine['system']}, "
        f"{machine['machine']}",
        f"processor {machine['processor']}, {machine['cores']} cores",
        f"card      {checkup.card}",
        f"cache     {checkup.cache['path']}, {checkup.cache['bytes'] / 1e6:.0f} MB"
        + ("" if checkup.cache["writable"] else ", cannot be written"),
    ]
    for patient in checkup.runtimes:
        versions = ", ".join(f"{name} {version}" for name, version in patient.versions.items())
        told += ["", f"{patient.runtime:<9} {versions or 'not there'}, Python {patient.python}"]
        if patient.devices:
            told.append(f"  devices   {', '.join(patient.devices)}")
        told += [f"  {name} = {value}" for name, value in patient.flags.items()]
    told += ["", *(f"missing   {line}" for line in checkup.missing)]
    if not checkup.missing:
        told.append("nothing is missing")
    return told
