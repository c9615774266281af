"""Where every subject computes: what was asked for, what there is, and why it is not the GPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from parity.errors import MissingRuntimeError, ParityError, UsageError
from parity.processes import cards, probe, registry
from parity.processes.interpreters import select_interpreter
from parity.processes.subjects import parse_child_name

if TYPE_CHECKING:
    from parity.comparison.request import Request
    from parity.processes.children import Children


class DeviceMissing(MissingRuntimeError):
    """No GPU for a runtime that was asked to use one: one line for each runtime."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("; ".join(self.lines))


@dataclass(frozen=True, slots=True)
class Placement:
    """The device of each subject, `cpu` or `gpu`; `note` says what `auto` came to, and why."""

    devices: Mapping[str, str]
    note: str | None = None
    card: cards.Card | None = None
    unsure: tuple[str, ...] = ()
    """Subjects that were placed on the GPU on the driver's word; their runtimes are not asked."""
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By child, the card and the libraries as its runtime sees them."""

    @property
    def gpu(self) -> bool:
        """Whether any child may see the card."""
        return "gpu" in self.devices.values()


def plan(request: Request, *, find: cards.Load | None = None) -> Placement:
    """Place the subjects before anything is started, which takes milliseconds.

    Raises `DeviceMissing` if a GPU was asked for and there is none, and `UsageError` for a
    precision that a subject's device does not have.
    """
    wanted = {name: found.device or request.device for name, found in request.parsed.items()}
    placed = Placement(wanted)
    if set(wanted.values()) != {"cpu"}:
        placed = _on_card(request, wanted, find)
    for name, device in placed.devices.items():
        _check_precision(name, request.parsed[name].runtime, device, request.precision)
    return placed


def _on_card(request: Request, wanted: Mapping[str, str], find: cards.Load | None) -> Placement:
    try:
        card = cards.find_card() if find is None else cards.find_card(find)
    except MissingRuntimeError as error:
        if "gpu" in wanted.values():
            names = [name for name, device in wanted.items() if device == "gpu"]
            raise DeviceMissing(_lines(request, names, str(error))) from None
        devices = {name: "cpu" if device == "auto" else device for name, device in wanted.items()}
        return Placement(devices, f"device auto: on the CPU, since there is {error}")
    lines = _lines(request, [name for name, device in wanted.items() if device == "gpu"])
    if lines:
        raise DeviceMissing(lines)
    auto = [name for name, device in wanted.items() if device == "auto"]
    lacking = _lines(request, auto)
    if lacking:
        return _fallen_back(Placement(wanted, card=card), lacking)
    devices = {name: "gpu" if device == "auto" else device for name, device in wanted.items()}
    asked = tuple(name for name, device in devices.items() if device == "gpu")
    note = f"device auto: on the GPU, {card.name}" if auto else None
    return Placement(devices, note, card, asked)


def _fallen_back(placed: Placement, lines: Iterable[str]) -> Placement:
    devices = {n: "cpu" if device == "auto" else device for n, device in placed.devices.items()}
    return Placement(
        devices,
        f"device auto: on the CPU, since not every runtime can use the GPU: {'; '.join(lines)}",
        placed.card,
        tuple(name for name, device in devices.items() if device == "gpu"),
    )


def _lines(request: Request, subjects: Iterable[str], why: str | None = None) -> list[str]:
    """For each child of these subjects what its packages lack for a GPU, without importing any.

    With `why`, the reason that holds for all of them, every child has a line.
    """
    lines = []
    for child in dict.fromkeys(map(request.child, subjects)):
        found = parse_child_name(child)
        told: list[str] = []
        if found.backend is None:
            python = select_interpreter(child, request.python)
            told = probe.describe_problems(
                found.runtime, probe.probe_interpreter(found.runtime, python), gpu=True
            )
            told = [line.replace(f"{found.runtime}:", f"{child}:", 1) for line in told]
        if why is not None:
            told = [f"{line}; {why}" for line in told] or [f"{child}: {why}"]
        lines += told
    return lines


def confirm(placed: Placement, request: Request, children: Children) -> Placement:
    """Ask the runtimes themselves, once they are started, whether they can use the card.

    Raises `DeviceMissing` where one that was told to cannot; what `auto` had put on the GPU goes
    to the CPU together.
    """
    names = dict.fromkeys(map(request.child, placed.unsure))
    if not names:
        return placed

    def ask(name: str) -> dict[str, Any] | ParityError:
        try:
            children[name].hello()
            return children[name].call("require", device="gpu")
        except ParityError as error:
            return error

    with children.threads(len(names)) as pool:
        answers = dict(zip(names, pool.map(ask, names), strict=True))
    lacking = {name: str(a) for name, a in answers.items() if isinstance(a, ParityError)}
    told = {
        request.child(name): lacking[request.child(name)]
        for name in placed.unsure
        if request.child(name) in lacking and not _is_auto(request, name)
    }
    if told:
        raise DeviceMissing(told.values())
    facts = {name: a for name, a in answers.items() if not isinstance(a, ParityError)}
    if lacking:
        devices = {
            name: "cpu" if _is_auto(request, name) else device
            for name, device in placed.devices.items()
        }
        note = "device auto: on the CPU, since not every runtime can use the GPU: "
        return Placement(devices, note + "; ".join(lacking.values()), placed.card, (), facts)
    return replace(placed, unsure=(), facts=facts)


def _is_auto(request: Request, name: str) -> bool:
    return (request.parsed[name].device or request.device) == "auto"


def _check_precision(name: str, runtime: str, device: str, precision: str) -> None:
    if device == "gpu" or precision == "float32":
        return
    if precision == "tf32":
        raise UsageError(
            f"{name}: tf32 is arithmetic of NVIDIA cards, which the CPU does not have: ask for "
            "--device gpu, or for --precision float32 or bfloat16"
        )
    if precision not in registry.get(runtime).cpu_precisions:
        raise UsageError(
            f"{name}: {registry.label(runtime)}'s CPU provider has no {precision} convolution: "
            "leave it out (--subjects keras,torch), or ask for --device gpu"
        )
