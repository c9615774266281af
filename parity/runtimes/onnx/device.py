"""ONNX Runtime's execution providers: their options, and checks of what a session has."""

from __future__ import annotations

import contextlib
import ctypes
import re
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NotImplemented_

from parity.defaults import find_thread_limit
from parity.errors import PrecisionError, ProviderFallbackError, RequirementError, UsageError
from parity.processes import probe
from parity.runtimes.onnx.about import ABOUT

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

_COMPUTE_OPERATORS = {
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "FusedConv",
    "FusedGemm",
    "FusedMatMul",
}
"""Operators that are no shape arithmetic: with a GPU session, on the CPU they are a fallback."""


def providers(device: str, precision: str) -> list[Any]:
    """Return the providers for a session, with their options, as `InferenceSession` takes them."""
    if device == "cpu":
        return [CPU]
    options = {
        "device_id": "0",
        "use_tf32": "1" if precision == "tf32" else "0",
        # The default, EXHAUSTIVE, times the algorithms anew in every session and takes the
        # fastest, which is not always the same one (onnxruntime#19822).
        "cudnn_conv_algo_search": "DEFAULT",
        "arena_extend_strategy": "kSameAsRequested",
    }
    return [(CUDA, options), CPU]


def require_device(device: str) -> None:
    """Raise `RequirementError` with what this build of ONNX Runtime lacks for `device`."""
    if device == "cpu":
        return
    lines = probe.find_problems("onnx", gpu=False)
    if lines:
        raise RequirementError(lines[0])
    if CUDA not in ort.get_available_providers():
        raise RequirementError(
            f"onnx: onnxruntime {ort.__version__} is a CPU build; {ABOUT.gpu_remedy}"
        )
    _preload_cuda()


def session_options(device: str) -> ort.SessionOptions:
    """Return session options that are as deterministic as ONNX Runtime can be."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = find_thread_limit()
    if device == "gpu":
        options.use_deterministic_compute = True
        # Records the provider of each node, which `node_placement` reads.
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def create_probe_session(device: str, precision: str) -> ort.InferenceSession:
    """Return a session with one node, to read which providers and options a session has here."""
    return create_session(relu_model(), session_options(device), device, precision)


def relu_model(dtype: str = "FLOAT", operator: str = "Relu") -> bytes:
    """Return a serialised model with one unary node, of one of `TensorProto`'s types."""
    ends = [
        onnx.helper.make_tensor_value_info(name, getattr(onnx.TensorProto, dtype), [1])
        for name in ("x", "y")
    ]
    node = onnx.helper.make_node(operator, ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:])
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    serialised: bytes = model.SerializeToString()
    return serialised


def create_session(
    model: bytes, options: ort.SessionOptions, device: str, precision: str
) -> ort.InferenceSession:
    """Return a session on `device`; raises `UsageError` for a precision without kernels."""
    try:
        return ort.InferenceSession(model, options, providers=providers(device, precision))
    except (NotImplemented_, InvalidGraph, Fail) as error:
        low = precision in ("float16", "bfloat16")
        # On the GPU, a node that no provider takes ends in this general error.
        unplaced = re.search(r"Provider type for .* node .* is not set", str(error))
        if low and (unplaced or not isinstance(error, Fail)):
            text = unplaced.group() if unplaced else str(error)
            reason = " ".join(text.split())[:160]
            raise UsageError(
                f"onnx: ONNX Runtime has no {precision} kernels for this graph on the {device}: "
                f"{reason}"
            ) from error
        raise


def require_provider(session: Any, device: str, precision: str) -> dict[str, Any]:
    """Return a session's flags; raises `ProviderFallbackError` unless it runs on `device`.

    Also raises `PrecisionError` for a flag that did not take effect.
    `onnxruntime.get_available_providers()` lists what was built; only the session knows what was
    loaded (onnxruntime#23372).
    """
    expected = CUDA if device == "gpu" else CPU
    loaded = session.get_providers()
    if not loaded or loaded[0] != expected:
        raise ProviderFallbackError(
            f"onnx: {expected} did not load, the session fell back to "
            f"{', '.join(loaded) or 'nothing'}{_load_error() if device == 'gpu' else ''}"
        )
    if device == "cpu":
        return {}
    actual = session.get_provider_options().get(CUDA, {})
    for name, value in providers(device, precision)[0][1].items():
        if str(actual.get(name)) != value:
            raise PrecisionError(
                f"onnxruntime {ort.__version__}: {name} was set to {value} and is "
                f"{actual.get(name)}: the run would not be the requested one"
            )
    return {f"cuda.{name}": actual[name] for name in ("use_tf32", "cudnn_conv_algo_search")}


def node_placement(session: Any) -> dict[str, Any]:
    """Return the number of nodes of each provider, and the operators of those on the CPU."""
    count: dict[str, int] = {}
    on_cpu: list[str] = []
    read = getattr(session, "get_provider_graph_assignment_info", None)
    if read is None:
        return {}
    for part in read():
        nodes = part.get_nodes()
        count[part.ep_name] = count.get(part.ep_name, 0) + len(nodes)
        if part.ep_name == CPU:
            on_cpu += [_get_op_type(node) for node in nodes]
    return {"nodes": count, "cpu_operators": sorted(set(on_cpu))}


def require_no_compute_fallback(placement: dict[str, Any]) -> None:
    """Raise `ProviderFallbackError` if a node that is no shape arithmetic is on the CPU."""
    operators = sorted(_COMPUTE_OPERATORS & set(placement.get("cpu_operators", ())))
    if operators:
        raise ProviderFallbackError(
            f"onnx: {', '.join(operators)} nodes were placed on {CPU}: {CUDA} has no kernel for "
            "them in this precision"
        )


def _get_op_type(node: Any) -> str:
    return str(getattr(node, "op_type", None) or getattr(node, "operator_type", ""))


def _preload_cuda() -> None:
    """Load the CUDA libraries of NVIDIA's packages, which are not on the linker's path."""
    preload = getattr(ort, "preload_dlls", None)
    if preload is not None:
        with contextlib.suppress(Exception):
            preload()


def _load_error() -> str:
    """Return why the CUDA provider's libraries cannot be loaded; an empty text if they can."""
    folder = Path(ort.__file__).parent / "capi"
    for name in ("libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"):
        try:
            ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            return f": {error}"
    return ""


def list_built_providers() -> list[str]:
    """Return the CPU and CUDA providers of this build of ONNX Runtime."""
    return [name for name in ort.get_available_providers() if name in (CPU, CUDA)]


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error of ONNX Runtime means that a device has too little memory."""
    text = str(error).lower()
    return any(
        sign in text
        for sign in ("failed to allocate memory", "out of memory", "cuda failure 2", "bad_alloc")
    )
