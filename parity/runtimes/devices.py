"""Checks of a device that are the same for every runtime: memory, output, flags."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from parity.errors import DeviceMemoryError, RequirementError
from parity.processes import probe


class MemoryLimited(Protocol):
    """A runtime that can run out of a device's memory."""

    name: str

    def is_out_of_memory(self, error: Exception) -> bool: ...

    def release_memory(self) -> None: ...


def make_batch_memory_error(
    runtime: MemoryLimited, batch: int, device: str, attempt: Callable[[int], Any]
) -> DeviceMemoryError:
    """Return the error for a batch that needs too much memory; it names a batch that fits.

    `attempt` runs the given number of items; it is called with half of `batch`, a quarter, and so
    on. Raises any other error of `attempt`.
    """
    fits = batch // 2
    while fits:
        runtime.release_memory()
        try:
            attempt(fits)
        except Exception as error:
            if not runtime.is_out_of_memory(error):
                raise
            fits //= 2
        else:
            break
    remedy = f"a batch of {fits} fits: --batch {fits}" if fits else "not even one item fits"
    where = "GPU" if device == "gpu" else "machine"
    return DeviceMemoryError(
        f"{runtime.name}: the {where} has too little memory for a batch of {batch}; {remedy}"
    )


@contextmanager
def report_batch_memory(
    runtime: MemoryLimited, batch: int, device: str, attempt: Callable[[int], Any]
) -> Iterator[None]:
    """Raise the error of `make_batch_memory_error` if the body runs out of memory."""
    try:
        yield
    except Exception as error:
        if not runtime.is_out_of_memory(error):
            raise
        raise make_batch_memory_error(runtime, batch, device, attempt) from error


def require_output_on(runtime: str, device: str, output_device: str) -> dict[str, Any]:
    """Return the device of the final output; raises `RequirementError` if it is not `device`.

    `output_device` is the framework's own name of it.
    """
    if not is_device(output_device, device):
        raise RequirementError(
            f"{runtime}: the {device.upper()} was requested, but the output is on "
            f"'{output_device}': nothing was judged"
        )
    return {"output": output_device}


def require_weights_on(runtime: str, device: str, weight_devices: Mapping[str, str]) -> None:
    """Raise `RequirementError` unless every weight, by name, is on `device`."""
    for name, own in weight_devices.items():
        if not is_device(own, device):
            raise RequirementError(
                f"{runtime}: the {device.upper()} was requested, but {name} is on '{own}': nothing "
                "was trained"
            )


def is_device(name: str, device: str) -> bool:
    """Return whether a framework's own name of a device is one of "cpu" or "gpu"."""
    return (device == "gpu") == any(sign in name.lower() for sign in ("cuda", "gpu"))


class Inspectable(Protocol):
    """A runtime whose devices and flags can be listed."""

    name: str

    def pin_flags(self, precision: str, device: str) -> dict[str, Any]: ...

    def list_devices(self) -> list[str]: ...

    def require_device(self, *, device: str) -> dict[str, Any]: ...


def inspect_device(runtime: Inspectable, device: str) -> dict[str, Any]:
    """Pin the flags of a float32 run on `device` and return them, with the devices and problems.

    "package_problems" are those of the runtime's packages; "device_problems" say why it cannot
    compute on `device`. With one of these, the flags are those of a run on the CPU.
    """
    device_problems = []
    try:
        runtime.require_device(device=device)
    except RequirementError as error:
        device_problems.append(str(error))
    return {
        "devices": runtime.list_devices(),
        "flags": runtime.pin_flags("float32", "cpu" if device_problems else device),
        "package_problems": probe.find_problems(runtime.name),
        "device_problems": device_problems,
    }
