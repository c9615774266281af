"""The devices and precision flags of Keras's backends: TensorFlow, JAX and PyTorch."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import keras

from parity.errors import PrecisionError, RequirementError, UsageError
from parity.processes import probe

NAMES = {"cpu": "cpu:0", "gpu": "gpu:0"}
"""Keras's names of the devices, the same for every backend."""


def import_backend() -> Any:
    """Return the module of Keras's backend: tensorflow, jax or torch."""
    return importlib.import_module(keras.backend.backend())


def device_scope(device: str) -> AbstractContextManager[Any]:
    """While open, tensors and variables are created on `device`."""
    context: AbstractContextManager[Any] = keras.device(NAMES[device])
    return context


def require_float64() -> None:
    """Raise `UsageError` unless the backend can compute in float64 throughout.

    Keras's type promotion gives float32 for float64 and float32 with JAX and PyTorch, so that batch
    normalisation runs in float32 in a float64 model, silently (5e-8 away).
    """
    name = keras.backend.backend()
    if keras.backend.result_type("float64", "float32") != "float64":
        raise UsageError(f"Keras computes batch normalisation in float32 on {name}")


def pin_flags(precision: str, device: str, *, xla: bool = False) -> dict[str, Any]:
    """Set every flag of the backend that affects the arithmetic, read each back, return them.

    Raises `PrecisionError` for a flag that did not take effect.
    """
    flags: dict[str, Any] = _PINS[keras.backend.backend()](precision == "tf32", device, precision)
    return {**flags, "xla": xla}


def read_flags() -> dict[str, Any]:
    """Return every flag of the backend that affects the arithmetic, as it is now."""
    flags: dict[str, Any] = _FLAGS[keras.backend.backend()]()
    return flags


def _pin_tensorflow(tf32: bool, device: str, precision: str) -> dict[str, Any]:
    tf = import_backend()
    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    # False is the default, but a user's TF_XLA_FLAGS may say otherwise.
    tf.config.optimizer.set_jit(False)
    if device == "gpu":
        tf.config.experimental.enable_op_determinism()
        for gpu in tf.config.list_physical_devices("GPU"):
            # TensorFlow refuses to change this once it has used the GPU: a model was built on it.
            if not _grows_memory(gpu):
                tf.config.experimental.set_memory_growth(gpu, True)
    flags = _tensorflow_flags()
    _require_flags(flags, {"tensor_float_32": tf32, "jit": ""})
    return flags


def _grows_memory(gpu: Any) -> bool:
    """Return whether TensorFlow takes the GPU's memory as it needs it.

    `get_memory_growth` does not see the variable that a child on a GPU is started with.
    """
    own = import_backend().config.experimental.get_memory_growth(gpu)
    return bool(own) or os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH") == "true"


def _tensorflow_flags() -> dict[str, Any]:
    tf = import_backend()
    flags = {
        "tensor_float_32": tf.config.experimental.tensor_float_32_execution_enabled(),
        "jit": tf.config.optimizer.get_jit(),
    }
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        flags["memory_growth"] = all(map(_grows_memory, gpus))
    return flags


def _pin_jax(tf32: bool, device: str, precision: str) -> dict[str, Any]:
    jax = import_backend()
    wanted = "tensorfloat32" if tf32 else "float32"
    # A precision above the operands' own is an error to XLA's CPU in bfloat16.
    if precision in ("float16", "bfloat16"):
        wanted = "default"
    jax.config.update("jax_default_matmul_precision", wanted)
    flags = _jax_flags()
    _require_flags(flags, {"jax_default_matmul_precision": wanted})
    return flags


def _jax_flags() -> dict[str, Any]:
    jax = import_backend()
    return {
        "jax_default_matmul_precision": jax.config.jax_default_matmul_precision,
        "jax_enable_x64": jax.config.jax_enable_x64,
    }


def _pin_torch(tf32: bool, device: str, precision: str) -> dict[str, Any]:
    from parity.runtimes.torch import device as torch_device

    return torch_device.pin_flags(precision, device)


def _torch_flags() -> dict[str, Any]:
    from parity.runtimes.torch import device as torch_device

    return torch_device.read_flags()


_PINS = {"tensorflow": _pin_tensorflow, "jax": _pin_jax, "torch": _pin_torch}
_FLAGS = {"tensorflow": _tensorflow_flags, "jax": _jax_flags, "torch": _torch_flags}


def _require_flags(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raise `PrecisionError` for the first flag whose actual value is not the expected one."""
    for name, value in expected.items():
        if actual[name] != value:
            module = import_backend()
            raise PrecisionError(
                f"{module.__name__} {module.__version__}: {name} was set to {value} and is "
                f"{actual[name]}: the precision would not be the requested one"
            )


def require_device(device: str) -> None:
    """Raise `RequirementError` with what the backend lacks for `device`."""
    if device == "cpu":
        return
    name = keras.backend.backend()
    if name == "torch":
        from parity.runtimes.torch import device as torch_device

        torch_device.find_device("gpu")
        return
    if len(list_devices()) > 1:
        return
    version = import_backend().__version__
    if name == "jax":
        raise RequirementError(
            f"keras: jax {version} finds no GPU; pip install a CUDA build (jax[cuda12])"
        )
    lines = probe.find_problems("keras", gpu=True)
    if lines:
        raise RequirementError(lines[0])
    raise RequirementError(f"keras: tensorflow {version} finds no GPU that it can use")


def list_devices() -> list[str]:
    """Return the names of the devices that the backend can compute on here."""
    name = keras.backend.backend()
    if name == "tensorflow":
        gpus = import_backend().config.list_physical_devices("GPU")
        return ["cpu", *(gpu.name.removeprefix("/physical_device:") for gpu in gpus)]
    if name == "torch":
        from parity.runtimes.torch import device as torch_device

        return torch_device.list_devices()
    try:
        gpus = import_backend().devices("gpu")
    except RuntimeError:
        gpus = []
    return ["cpu", *map(str, gpus)]


def device_of(tensor: Any) -> str:
    """Return the device of a tensor, as the backend names it."""
    name = keras.backend.backend()
    if name == "jax":
        return ", ".join(sorted(str(device) for device in tensor.devices()))
    return str(tensor.device)


def describe_device(device: str) -> dict[str, Any]:
    """Return the GPU's name and the versions of its libraries; empty on the CPU."""
    if device == "cpu":
        return {}
    name = keras.backend.backend()
    if name == "torch":
        from parity.runtimes.torch import device as torch_device

        return torch_device.describe_device(torch_device.find_device("gpu"))
    if name == "tensorflow":
        tf = import_backend()
        build = tf.sysconfig.get_build_info()
        gpu = tf.config.list_physical_devices("GPU")[0]
        details = tf.config.experimental.get_device_details(gpu)
        return {
            "card": details.get("device_name", gpu.name),
            "capability": ".".join(map(str, details.get("compute_capability", ()))),
            "cuda": build.get("cuda_version", ""),
            "cudnn": build.get("cudnn_version", ""),
        }
    gpu = import_backend().devices("gpu")[0]
    return {"card": gpu.device_kind, "platform": gpu.client.platform_version.splitlines()[0]}


def compile_xla(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Compile a function of one tensor with XLA; raises `UsageError` on a backend without XLA."""
    name = keras.backend.backend()
    if name == "tensorflow":
        compiled: Callable[[Any], Any] = import_backend().function(function, jit_compile=True)
        return compiled
    if name == "jax":
        jitted: Callable[[Any], Any] = import_backend().jit(function)
        return jitted
    raise UsageError("keras: --xla compiles with TensorFlow or JAX, not with Keras's torch backend")


def release_memory() -> None:
    """Free unused device memory; TensorFlow and JAX keep theirs until the process ends."""
    if keras.backend.backend() == "torch":
        from parity.runtimes.torch import device as torch_device

        torch_device.release_memory()


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error of any backend means that a device has too little memory."""
    text = f"{type(error).__name__} {error}".lower()
    signs = ("resourceexhausted", "resource_exhausted", "out of memory", "outofmemory")
    return any(sign in text for sign in signs)
