"""PyTorch's devices, and its precision flags: set through every API that a release has."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from parity.errors import FlagError, MissingRuntimeError
from parity.runtimes.torch.about import ABOUT

DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}

_NEW = (
    "torch.backends",
    "torch.backends.cuda.matmul",
    "torch.backends.cudnn",
    "torch.backends.cudnn.conv",
    "torch.backends.cudnn.rnn",
    "torch.backends.mkldnn.matmul",
    "torch.backends.mkldnn.conv",
    "torch.backends.mkldnn.rnn",
)
"""What has the newer switch, `fp32_precision`, from the widest to the narrowest.

`torch.backends.mkldnn` itself is left out: in PyTorch 2.13 setting it sets `torch.backends`, and
with that cuDNN and cuBLAS too.
"""

_LEGACY = ("torch.backends.cuda.matmul", "torch.backends.cudnn")
"""What has the older switch, `allow_tf32`."""


def pin(precision: str, device: str) -> dict[str, Any]:
    """Set every flag that decides the arithmetic, and read each of them back.

    Raises `FlagError` for a flag that did not take.
    """
    tf32 = precision == "tf32"
    wanted: dict[str, Any] = {}
    # Either switch alone leaves convolutions as they were in some releases, and a mix of the two
    # that disagrees raises (pytorch#179445): both are set, the older one first.
    for path in _LEGACY:
        wanted[f"{path}.allow_tf32"] = tf32
    for path in _NEW:
        if hasattr(_at(path), "fp32_precision"):
            # oneDNN knows TF32 too, on processors that have it; on the CPU it is never wanted.
            cpu = ".mkldnn" in path
            wanted[f"{path}.fp32_precision"] = "tf32" if tf32 and not cpu else "ieee"
    if device == "gpu":
        wanted["torch.backends.cudnn.benchmark"] = False
        wanted["torch.backends.cudnn.deterministic"] = True
        torch.use_deterministic_algorithms(True, warn_only=True)
    with _quiet():
        for name, value in wanted.items():
            _set(name, value)
    found = flags()
    for name, value in wanted.items():
        if found.get(name) != value:
            raise FlagError(
                f"torch {torch.__version__}: {name} was set to {value} and is "
                f"{found.get(name)}: the precision would not be the one asked for"
            )
    return found


def flags() -> dict[str, Any]:
    """Every flag that decides the arithmetic, as PyTorch reads it back."""
    names = [f"{path}.allow_tf32" for path in _LEGACY]
    names += [f"{path}.fp32_precision" for path in _NEW if hasattr(_at(path), "fp32_precision")]
    names += ["torch.backends.cudnn.benchmark", "torch.backends.cudnn.deterministic"]
    found = {}
    with _quiet():
        for name in names:
            try:
                found[name] = _get(name)
            except RuntimeError as error:
                # What the older switch says when the two disagree.
                found[name] = f"unreadable: {' '.join(str(error).split())[:80]}"
    found["deterministic_algorithms"] = torch.are_deterministic_algorithms_enabled()
    return found


def place(device: str) -> torch.device:
    """The device, proved to be usable; raises `MissingRuntimeError` with what is missing."""
    if device == "cpu":
        return torch.device("cpu")
    if torch.version.cuda is None:
        raise MissingRuntimeError(
            f"torch: torch {torch.__version__} is a CPU build; {ABOUT.gpu_remedy}"
        )
    try:
        torch.cuda.init()
        probe = torch.zeros(1, device="cuda")
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise MissingRuntimeError(
            f"torch: CUDA {torch.version.cuda} does not start: {reason}"
        ) from None
    return probe.device


def facts(device: torch.device) -> dict[str, Any]:
    """The card as PyTorch sees it, and the libraries that it computes with; empty on the CPU."""
    if device.type == "cpu":
        return {}
    properties = torch.cuda.get_device_properties(device)
    return {
        "card": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "cudnn": str(torch.backends.cudnn.version()),
    }


def devices() -> list[str]:
    """What PyTorch can compute on here."""
    found = ["cpu"]
    with contextlib.suppress(RuntimeError, AssertionError):
        found += [
            f"cuda:{index} {torch.cuda.get_device_name(index)}"
            for index in range(torch.cuda.device_count())
        ]
    return found


def wait(device: torch.device) -> None:
    """Let the card finish, so that a clock read now means something."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release() -> None:
    """Give back the card's memory that no tensor holds."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error).lower()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The older switches warn that they are old."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _at(path: str) -> Any:
    found: Any = torch
    for name in path.split(".")[1:]:
        found = getattr(found, name, None)
    return found


def _set(name: str, value: Any) -> None:
    path, _, attribute = name.rpartition(".")
    setattr(_at(path), attribute, value)


def _get(name: str) -> Any:
    path, _, attribute = name.rpartition(".")
    return getattr(_at(path), attribute)
