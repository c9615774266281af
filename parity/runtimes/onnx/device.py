"""ONNX Runtime's execution providers: what is asked of them, and what a session really has."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidGraph
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NotImplemented_

from parity.errors import FlagError, MissingRuntimeError, ProviderFallbackError, UsageError
from parity.processes import probe
from parity.runtimes.onnx.about import ABOUT

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

_HEAVY = {"Conv", "ConvTranspose", "Gemm", "MatMul", "FusedConv", "FusedGemm", "FusedMatMul"}
"""Operators that no shape arithmetic needs: on the CPU they are a fallback."""


def providers(device: str, precision: str) -> list[Any]:
    """The providers of a session, with their options, as `InferenceSession` takes them."""
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


def check(device: str) -> None:
    """Raise `MissingRuntimeError` with what this build of ONNX Runtime lacks for `device`."""
    if device == "cpu":
        return
    lines = probe.find_problems("onnx", gpu=False)
    if lines:
        raise MissingRuntimeError(lines[0])
    if CUDA not in ort.get_available_providers():
        raise MissingRuntimeError(
            f"onnx: onnxruntime {ort.__version__} is a CPU build; {ABOUT.gpu_remedy}"
        )
    _preload()


def options(device: str) -> ort.SessionOptions:
    """Session options with everything pinned that can be."""
    made = ort.SessionOptions()
    made.log_severity_level = 3
    if device == "gpu":
        made.use_deterministic_compute = True
        # What is recorded says which provider each node was given.
        made.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return made


def smallest(device: str, precision: str) -> ort.InferenceSession:
    """A session of one node, to see what a session is given here."""
    return start(relu(), options(device), device, precision)


def relu(kind: str = "FLOAT", operator: str = "Relu") -> bytes:
    """The smallest model there is."""
    ends = [
        onnx.helper.make_tensor_value_info(name, getattr(onnx.TensorProto, kind), [1])
        for name in ("x", "y")
    ]
    node = onnx.helper.make_node(operator, ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:])
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    serialised: bytes = model.SerializeToString()
    return serialised


def start(
    model: bytes, chosen: ort.SessionOptions, device: str, precision: str
) -> ort.InferenceSession:
    """A session on `device`; raises `UsageError` for a precision without kernels."""
    try:
        return ort.InferenceSession(model, chosen, providers=providers(device, precision))
    except (NotImplemented_, InvalidGraph) as error:
        if precision in ("float16", "bfloat16"):
            reason = " ".join(str(error).split())[:160]
            raise UsageError(
                f"onnx: ONNX Runtime has no {precision} kernels for this graph on the {device}: "
                f"{reason}"
            ) from error
        raise


def prove(session: Any, device: str, precision: str) -> dict[str, Any]:
    """The flags that a session holds; raises `ProviderFallbackError` if it runs elsewhere.

    `onnxruntime.get_available_providers()` says what was built; only the session knows what was
    loaded (onnxruntime#23372).
    """
    wanted = CUDA if device == "gpu" else CPU
    found = session.get_providers()
    if not found or found[0] != wanted:
        raise ProviderFallbackError(
            f"onnx: {wanted} did not load, the session fell back to "
            f"{', '.join(found) or 'nothing'}{_why() if device == 'gpu' else ''}"
        )
    if device == "cpu":
        return {}
    held = session.get_provider_options().get(CUDA, {})
    for name, value in providers(device, precision)[0][1].items():
        if str(held.get(name)) != value:
            raise FlagError(
                f"onnxruntime {ort.__version__}: {name} was set to {value} and is "
                f"{held.get(name)}: the run would not be the one asked for"
            )
    return {f"cuda.{name}": held[name] for name in ("use_tf32", "cudnn_conv_algo_search")}


def placement(session: Any) -> dict[str, Any]:
    """How many nodes each provider was given, and the operators of those on the CPU."""
    count: dict[str, int] = {}
    on_cpu: list[str] = []
    read = getattr(session, "get_provider_graph_assignment_info", None)
    if read is None:
        return {}
    for part in read():
        nodes = part.get_nodes()
        count[part.ep_name] = count.get(part.ep_name, 0) + len(nodes)
        if part.ep_name == CPU:
            on_cpu += [_operator(node) for node in nodes]
    return {"nodes": count, "cpu_operators": sorted(set(on_cpu))}


def require_placed(placed: dict[str, Any]) -> None:
    """Raise `ProviderFallbackError` when the work itself, not shape arithmetic, is on the CPU."""
    heavy = sorted(_HEAVY & set(placed.get("cpu_operators", ())))
    if heavy:
        raise ProviderFallbackError(
            f"onnx: {', '.join(heavy)} nodes were placed on {CPU}: {CUDA} has no kernel for them "
            "in this precision"
        )


def _operator(node: Any) -> str:
    return str(getattr(node, "op_type", None) or getattr(node, "operator_type", ""))


def _preload() -> None:
    """Load the CUDA libraries of NVIDIA's packages, which are not on the linker's path."""
    preload = getattr(ort, "preload_dlls", None)
    if preload is not None:
        with contextlib.suppress(Exception):
            preload()


def _why() -> str:
    """Which library the CUDA provider could not load, by loading it as a plain library."""
    folder = Path(ort.__file__).parent / "capi"
    for name in ("libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"):
        try:
            ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            return f": {error}"
    return ""


def devices() -> list[str]:
    """What this build of ONNX Runtime has providers for."""
    return [name for name in ort.get_available_providers() if name in (CPU, CUDA)]


def is_out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return any(
        sign in text
        for sign in ("failed to allocate memory", "out of memory", "cuda failure 2", "bad_alloc")
    )
