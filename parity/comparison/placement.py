"""The device of every subject: the request, the available hardware, and the fallback to CPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from parity.errors import ParityError, RequirementError, UsageError
from parity.processes import gpus, probe, registry
from parity.processes.interpreters import select_interpreter
from parity.processes.subjects import parse_child_name

if TYPE_CHECKING:
    from parity.comparison.request import Request
    from parity.processes.children import Children


class DeviceMissing(RequirementError):
    """No usable GPU for a runtime that must use one; `lines` has a line for each runtime."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("; ".join(self.lines))


@dataclass(frozen=True, slots=True)
class Placement:
    """The device of each subject, `cpu` or `gpu`; `note` explains the choice of `auto`."""

    devices: Mapping[str, str]
    note: str | None = None
    gpu: gpus.Gpu | None = None
    unconfirmed: tuple[str, ...] = ()
    """Subjects that the driver allows on the GPU, before their runtimes confirm it."""
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By child, the GPU and the libraries that its runtime reports."""

    @property
    def uses_gpu(self) -> bool:
        """Whether any subject runs on the GPU."""
        return "gpu" in self.devices.values()


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """The device that is wanted for a subject, `auto`, `cpu` or `gpu`, and the child that runs it.

    Before the children are named, `child` may be the runtime.
    """

    name: str
    runtime: str
    child: str
    device: str


def plan_placement(request: Request, *, load_driver: gpus.Load | None = None) -> Placement:
    """Place the subjects of a comparison with a layer table; see `place_subjects`."""
    return place_subjects(
        _list_requests(request),
        precision=request.precision,
        python=request.python,
        load_driver=load_driver,
    )


def place_subjects(
    subjects: Sequence[DeviceRequest],
    *,
    precision: str,
    python: Mapping[str, str],
    load_driver: gpus.Load | None = None,
) -> Placement:
    """Place the subjects before any child is started; this takes milliseconds.

    Raises `DeviceMissing` if a GPU was requested and there is none, and `UsageError` for a
    precision that a subject's device does not have.
    """
    placement = Placement({subject.name: subject.device for subject in subjects})
    if {subject.device for subject in subjects} - {"cpu"}:
        placement = _place_on_gpu(subjects, python, load_driver)
    refusals = {
        subject.name: reason
        for subject in subjects
        if (reason := _refuse_precision(subject, placement.devices[subject.name], precision))
    }
    if refusals:
        name, reason = next(iter(refusals.items()))
        others = ",".join(s.name for s in subjects if s.name not in refusals)
        remedy = f"leave it out (--subjects {others}), or " if others else ""
        raise UsageError(f"{name}: {reason.format(remedy=remedy)}")
    return placement


def _place_on_gpu(
    subjects: Sequence[DeviceRequest],
    python: Mapping[str, str],
    load_driver: gpus.Load | None,
) -> Placement:
    requested = {subject.name: subject.device for subject in subjects}
    on_gpu = [subject for subject in subjects if subject.device == "gpu"]
    try:
        gpu = gpus.find_gpu() if load_driver is None else gpus.find_gpu(load_driver)
    except RequirementError as error:
        if on_gpu:
            raise DeviceMissing(_find_gpu_problems(on_gpu, python, str(error))) from None
        devices = {
            name: "cpu" if device == "auto" else device for name, device in requested.items()
        }
        return Placement(devices, f"device auto: on the CPU, since there is {error}")
    lines = _find_gpu_problems(on_gpu, python)
    if lines:
        raise DeviceMissing(lines)
    auto = [subject for subject in subjects if subject.device == "auto"]
    problems = _find_gpu_problems(auto, python)
    if problems:
        return _move_auto_to_cpu(Placement(requested, gpu=gpu), problems)
    devices = {name: "gpu" if device == "auto" else device for name, device in requested.items()}
    unconfirmed = tuple(name for name, device in devices.items() if device == "gpu")
    note = f"device auto: on the GPU, {gpu.name}" if auto else None
    return Placement(devices, note, gpu, unconfirmed)


def _move_auto_to_cpu(placement: Placement, lines: Iterable[str]) -> Placement:
    devices = {n: "cpu" if device == "auto" else device for n, device in placement.devices.items()}
    return Placement(
        devices,
        f"device auto: on the CPU, since not every runtime can use the GPU: {'; '.join(lines)}",
        placement.gpu,
        tuple(name for name, device in devices.items() if device == "gpu"),
    )


def _find_gpu_problems(
    subjects: Iterable[DeviceRequest], python: Mapping[str, str], reason: str | None = None
) -> list[str]:
    """Describe what the packages of the subjects' children lack for a GPU; imports no framework.

    With `reason`, which holds for all children, every child has a line.
    """
    lines = []
    for child in dict.fromkeys(subject.child for subject in subjects):
        name = parse_child_name(child)
        problems: list[str] = []
        if name.backend is None:
            interpreter = select_interpreter(child, python)
            problems = probe.describe_problems(
                name.runtime, probe.probe_interpreter(name.runtime, interpreter), gpu=True
            )
            problems = [line.replace(f"{name.runtime}:", f"{child}:", 1) for line in problems]
        if reason is not None:
            problems = [f"{line}; {reason}" for line in problems] or [f"{child}: {reason}"]
        lines += problems
    return lines


def confirm_placement(placement: Placement, request: Request, children: Children) -> Placement:
    """Ask the runtimes of a comparison with a layer table; see `confirm_devices`."""
    return confirm_devices(placement, _list_requests(request), children)


def confirm_devices(
    placement: Placement, subjects: Sequence[DeviceRequest], children: Children
) -> Placement:
    """Ask the runtimes, once they are started, whether they can use the GPU.

    Raises `DeviceMissing` if one that must use it cannot. If one placed by `auto` cannot, all
    subjects placed by `auto` move to the CPU.
    """
    asked = [subject for subject in subjects if subject.name in placement.unconfirmed]
    names = dict.fromkeys(subject.child for subject in asked)
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
        subject.child: refusals[subject.child]
        for subject in asked
        if subject.child in refusals and subject.device != "auto"
    }
    if errors:
        raise DeviceMissing(errors.values())
    facts = {name: a for name, a in answers.items() if not isinstance(a, ParityError)}
    if refusals:
        auto = {subject.name for subject in subjects if subject.device == "auto"}
        devices = {
            name: "cpu" if name in auto else device for name, device in placement.devices.items()
        }
        note = "device auto: on the CPU, since not every runtime can use the GPU: "
        return Placement(devices, note + "; ".join(refusals.values()), placement.gpu, (), facts)
    return replace(placement, unconfirmed=(), facts=facts)


def _list_requests(request: Request) -> list[DeviceRequest]:
    return [
        DeviceRequest(name, each.runtime, request.child(name), each.device or request.device)
        for name, each in request.subjects_by_name.items()
    ]


def _refuse_precision(subject: DeviceRequest, device: str, precision: str) -> str | None:
    """Return why a subject cannot compute in a precision, with a place for a remedy, or None."""
    if device == "gpu" or precision == "float32":
        return None
    if precision == "tf32":
        return (
            "tf32 needs an NVIDIA GPU, and this subject runs on the CPU: use "
            "--device gpu, or --precision float32 or bfloat16"
        )
    if precision not in registry.get(subject.runtime).cpu_precisions:
        return (
            f"{registry.label(subject.runtime)}'s CPU provider has no {precision} convolution: "
            "{remedy}use --device gpu"
        )
    return None
