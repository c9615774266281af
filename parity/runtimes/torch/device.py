"""PyTorch's devices, and its precision flags: set through every API that a release has."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from parity.errors import PrecisionError, RequirementError
from parity.runtimes.torch.about import ABOUT

DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}

_FP32_PRECISION_OBJECTS = (
    "torch.backends",
    "torch.backends.cuda.matmul",
    "torch.backends.cudnn",
    "torch.backends.cudnn.conv",
    "torch.backends.cudnn.rnn",
    "torch.backends.mkldnn.matmul",
    "torch.backends.mkldnn.conv",
    "torch.backends.mkldnn.rnn",
)
"""The objects with the newer switch, `fp32_precision`, from the widest scope to the narrowest.

`torch.backends.mkldnn` itself is left out: in PyTorch 2.13 setting it sets `torch.backends`, and
with that cuDNN and cuBLAS too.
"""

_ALLOW_TF32_OBJECTS = ("torch.backends.cuda.matmul", "torch.backends.cudnn")
"""The objects with the older switch, `allow_tf32`."""


def pin_flags(precision: str, device: str) -> dict[str, Any]:
    """Set every flag that affects the arithmetic, read each one back, and return them.

    Raises `PrecisionError` for a flag that did not take effect.
    """
    tf32 = precision == "tf32"
    wanted: dict[str, Any] = {}
    # Either switch alone leaves convolutions as they were in some releases, and a mix of the two
    # that disagrees raises (pytorch#179445): both are set, the older one first.
    for path in _ALLOW_TF32_OBJECTS:
        wanted[f"{path}.allow_tf32"] = tf32
    for path in _FP32_PRECISION_OBJECTS:
        if hasattr(_find_object(path), "fp32_precision"):
            # oneDNN knows TF32 too, on processors that have it; on the CPU it is never wanted.
            cpu = ".mkldnn" in path
            wanted[f"{path}.fp32_precision"] = "tf32" if tf32 and not cpu else "ieee"
    if device == "gpu":
        wanted["torch.backends.cudnn.benchmark"] = False
        wanted["torch.backends.cudnn.deterministic"] = True
        torch.use_deterministic_algorithms(True, warn_only=True)
    with _ignore_warnings():
        for name, value in wanted.items():
            _set_flag(name, value)
    found = read_flags()
    for name, value in wanted.items():
        if found.get(name) != value:
            raise PrecisionError(
                f"torch {torch.__version__}: {name} was set to {value} and is "
                f"{found.get(name)}: the precision would not be the requested one"
            )
    return found


def read_flags() -> dict[str, Any]:
    """Return every flag that affects the arithmetic, as PyTorch reports it."""
    names = [f"{path}.allow_tf32" for path in _ALLOW_TF32_OBJECTS]
    names += [
        f"{path}.fp32_precision"
        for path in _FP32_PRECISION_OBJECTS
        if hasattr(_find_object(path), "fp32_precision")
    ]
    names += ["torch.backends.cudnn.benchmark", "torch.backends.cudnn.deterministic"]
    found = {}
    with _ignore_warnings():
        for name in names:
            try:
                found[name] = _get_flag(name)
            except RuntimeError as error:
                # The older switch raises when the two disagree.
                found[name] = f"unreadable: {' '.join(str(error).split())[:80]}"
    found["deterministic_algorithms"] = torch.are_deterministic_algorithms_enabled()
    return found


def find_device(device: str) -> torch.device:
    """Return the device, after a test that it works; raises `RequirementError`."""
    if device == "cpu":
        return torch.device("cpu")
    if torch.version.cuda is None:
        raise RequirementError(
            f"torch: torch {torch.__version__} is a CPU build; {ABOUT.gpu_remedy}"
        )
    try:
        torch.cuda.init()
        probe = torch.zeros(1, device="cuda")
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RequirementError(
            f"torch: CUDA {torch.version.cuda} does not start: {reason}"
        ) from None
    return probe.device


def describe_device(device: torch.device) -> dict[str, Any]:
    """Return the GPU's name and the versions of its libraries; empty on the CPU."""
    if device.type == "cpu":
        return {}
    properties = torch.cuda.get_device_properties(device)
    return {
        "card": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "cudnn": str(torch.backends.cudnn.version()),
    }


def list_devices() -> list[str]:
    """Return the names of the devices that PyTorch can compute on here."""
    found = ["cpu"]
    with contextlib.suppress(RuntimeError, AssertionError):
        found += [
            f"cuda:{index} {torch.cuda.get_device_name(index)}"
            for index in range(torch.cuda.device_count())
        ]
    return found


def synchronize(device: torch.device) -> None:
    """Wait until the GPU has finished its work, so that a clock read next measures it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release_memory() -> None:
    """Free the GPU's memory that no tensor uses."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error of PyTorch means that a device has too little memory."""
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error).lower()


@contextlib.contextmanager
def _ignore_warnings() -> Iterator[None]:
    """Ignore the deprecation warnings of the older switches."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _find_object(path: str) -> Any:
    """Return the object at a dotted path that starts with torch; None where there is none."""
    found: Any = torch
    for name in path.split(".")[1:]:
        found = getattr(found, name, None)
    return found


def _set_flag(name: str, value: Any) -> None:
    path, _, attribute = name.rpartition(".")
    setattr(_find_object(path), attribute, value)


def _get_flag(name: str) -> Any:
    path, _, attribute = name.rpartition(".")
    return getattr(_find_object(path), attribute)
