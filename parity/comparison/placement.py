"""The device of every subject: the request, the available hardware, and the fallback to CPU."""

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
    """No usable GPU for a runtime that must use one; `lines` has a line for each runtime."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("; ".join(self.lines))


@dataclass(frozen=True, slots=True)
class Placement:
    """The device of each subject, `cpu` or `gpu`; `note` explains the choice of `auto`."""

    devices: Mapping[str, str]
    note: str | None = None
    card: cards.Card | None = None
    unconfirmed: tuple[str, ...] = ()
    """Subjects that the driver allows on the GPU, before their runtimes confirm it."""
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By child, the card and the libraries that its runtime reports."""

    @property
    def gpu(self) -> bool:
        """Whether any subject runs on the GPU."""
        return "gpu" in self.devices.values()


def plan_placement(request: Request, *, load_driver: cards.Load | None = None) -> Placement:
    """Place the subjects before any child is started; this takes milliseconds.

    Raises `DeviceMissing` if a GPU was requested and there is none, and `UsageError` for a
    precision that a subject's device does not have.
    """
    requested = {
        name: subject.device or request.device for name, subject in request.subjects_by_name.items()
    }
    placement = Placement(requested)
    if set(requested.values()) != {"cpu"}:
        placement = _place_on_card(request, requested, load_driver)
    for name, device in placement.devices.items():
        _check_precision(name, request.subjects_by_name[name].runtime, device, request.precision)
    return placement


def _place_on_card(
    request: Request, requested: Mapping[str, str], load_driver: cards.Load | None
) -> Placement:
    try:
        card = cards.find_card() if load_driver is None else cards.find_card(load_driver)
    except MissingRuntimeError as error:
        if "gpu" in requested.values():
            names = [name for name, device in requested.items() if device == "gpu"]
            raise DeviceMissing(_describe_gpu_problems(request, names, str(error))) from None
        devices = {
            name: "cpu" if device == "auto" else device for name, device in requested.items()
        }
        return Placement(devices, f"device auto: on the CPU, since there is {error}")
    lines = _describe_gpu_problems(
        request, [name for name, device in requested.items() if device == "gpu"]
    )
    if lines:
        raise DeviceMissing(lines)
    auto = [name for name, device in requested.items() if device == "auto"]
    problems = _describe_gpu_problems(request, auto)
    if problems:
        return _fall_back_to_cpu(Placement(requested, card=card), problems)
    devices = {name: "gpu" if device == "auto" else device for name, device in requested.items()}
    on_gpu = tuple(name for name, device in devices.items() if device == "gpu")
    note = f"device auto: on the GPU, {card.name}" if auto else None
    return Placement(devices, note, card, on_gpu)


def _fall_back_to_cpu(placement: Placement, lines: Iterable[str]) -> Placement:
    devices = {n: "cpu" if device == "auto" else device for n, device in placement.devices.items()}
    return Placement(
        devices,
        f"device auto: on the CPU, since not every runtime can use the GPU: {'; '.join(lines)}",
        placement.card,
        tuple(name for name, device in devices.items() if device == "gpu"),
    )


def _describe_gpu_problems(
    request: Request, subjects: Iterable[str], reason: str | None = None
) -> list[str]:
    """Describe what the packages of the subjects' children lack for a GPU; imports no framework.

    With `reason`, which holds for all children, every child has a line.
    """
    lines = []
    for child in dict.fromkeys(map(request.child, subjects)):
        name = parse_child_name(child)
        problems: list[str] = []
        if name.backend is None:
            python = select_interpreter(child, request.python)
            problems = probe.describe_problems(
                name.runtime, probe.probe_interpreter(name.runtime, python), gpu=True
            )
            problems = [line.replace(f"{name.runtime}:", f"{child}:", 1) for line in problems]
        if reason is not None:
            problems = [f"{line}; {reason}" for line in problems] or [f"{child}: {reason}"]
        lines += problems
    return lines


def confirm_placement(placement: Placement, request: Request, children: Children) -> Placement:
    """Ask the runtimes, once they are started, whether they can use the card.

    Raises `DeviceMissing` if one that must use it cannot. If one placed by `auto` cannot, all
    subjects placed by `auto` move to the CPU.
    """
    names = dict.fromkeys(map(request.child, placement.unconfirmed))
    if not names:
        return placement

    def ask(name: str) -> dict[str, Any] | ParityError:
        try:
            children[name].hello()
            return children[name].call("require_device", device="gpu")
        except ParityError as error:
            return error

    with children.threads(len(names)) as pool:
        answers = dict(zip(names, pool.map(ask, names), strict=True))
    refusals = {name: str(a) for name, a in answers.items() if isinstance(a, ParityError)}
    errors = {
        request.child(name): refusals[request.child(name)]
        for name in placement.unconfirmed
        if request.child(name) in refusals and not _is_auto(request, name)
    }
    if errors:
        raise DeviceMissing(errors.values())
    facts = {name: a for name, a in answers.items() if not isinstance(a, ParityError)}
    if refusals:
        devices = {
            name: "cpu" if _is_auto(request, name) else device
            for name, device in placement.devices.items()
        }
        note = "device auto: on the CPU, since not every runtime can use the GPU: "
        return Placement(devices, note + "; ".join(refusals.values()), placement.card, (), facts)
    return replace(placement, unconfirmed=(), facts=facts)


def _is_auto(request: Request, name: str) -> bool:
    return (request.subjects_by_name[name].device or request.device) == "auto"


def _check_precision(name: str, runtime: str, device: str, precision: str) -> None:
    if device == "gpu" or precision == "float32":
        return
    if precision == "tf32":
        raise UsageError(
            f"{name}: tf32 needs an NVIDIA GPU, and this subject runs on the CPU: use "
            "--device gpu, or --precision float32 or bfloat16"
        )
    if precision not in registry.get(runtime).cpu_precisions:
        raise UsageError(
            f"{name}: {registry.label(runtime)}'s CPU provider has no {precision} convolution: "
            "leave it out (--subjects keras,torch), or use --device gpu"
        )
