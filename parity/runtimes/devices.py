"""The devices of every runtime: where an output is, a batch that is too large, what is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from parity.errors import DeviceMemoryError, MissingRuntimeError
from parity.processes import probe


class MemoryLimited(Protocol):
    """A runtime that can run out of a device's memory."""

    name: str

    def is_out_of_memory(self, error: Exception) -> bool: ...

    def release(self) -> None: ...


def batch_too_large(
    runtime: MemoryLimited, batch: int, device: str, attempt: Callable[[int], Any]
) -> DeviceMemoryError:
    """Return the error of a batch that a device has too little memory for, with one that fits.

    `attempt` runs a number of items; half as many are tried each time.
    """
    fits = batch // 2
    while fits:
        runtime.release()
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


def require_output_on(runtime: str, device: str, where: str) -> dict[str, Any]:
    """Return where the final output is; raises `MissingRuntimeError` if it is not on `device`.

    `where` is the framework's own name of the place.
    """
    on_gpu = any(sign in where.lower() for sign in ("cuda", "gpu"))
    if (device == "gpu") != on_gpu:
        raise MissingRuntimeError(
            f"{runtime}: asked to compute on the {device.upper()}, but the output is on "
            f"'{where}': nothing was judged"
        )
    return {"output": where}


class Inspectable(Protocol):
    """A runtime as `parity doctor` sees it."""

    name: str

    def pin(self, precision: str, device: str) -> dict[str, Any]: ...

    def devices(self) -> list[str]: ...

    def require(self, *, device: str) -> dict[str, Any]: ...


def survey(runtime: Inspectable, device: str) -> dict[str, Any]:
    """Return a runtime's devices, the flags of a float32 run on `device`, and what is missing.

    "lacking" is what keeps it from computing on `device`.
    """
    lacking = []
    try:
        runtime.require(device=device)
    except MissingRuntimeError as error:
        lacking.append(str(error))
    return {
        "devices": runtime.devices(),
        "flags": runtime.pin("float32", "cpu" if lacking else device),
        "missing": probe.find_problems(runtime.name),
        "lacking": lacking,
    }
