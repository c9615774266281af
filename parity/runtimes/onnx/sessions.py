"""ONNX Runtime sessions: how they are created, and runs in chunks of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from exporters import graph as onnx_graph
from exporters.graph import precision as onnx_precision
from parity.runtimes.export import convert_export_errors
from parity.runtimes.onnx import device as onnx_device

Array = NDArray[Any]

CLOSE = 1e-3
"""Relative; kernels for other batch sizes sum in another order, a frozen batch mixes samples."""


@dataclass(frozen=True)
class SessionSettings:
    """How a session is created, and how many samples it runs at a time (all by default)."""

    device: str = "cpu"
    precision: str = "float32"
    optimise: bool = True
    chunk_size: int | None = None
    threads: int = 0
    """The threads within an operator; 0 is the limit of this process, else all cores."""
    exact_operands: bool = False
    """Whether products with quantised weights keep their other operand in floating point.

    ONNX Runtime quantises it otherwise, where the graph does not. A part of a graph, cut behind a
    `DequantizeLinear`, would be computed so although the whole graph is not.
    """


def create_session(
    model: onnx_graph.WeightedModel, settings: SessionSettings
) -> tuple[ort.InferenceSession, dict[str, Any]]:
    """Return a session and its flags; raises `ProviderFallbackError` if it would run elsewhere."""
    if settings.precision in onnx_precision.TYPES:
        with convert_export_errors("onnx"):
            model = onnx_precision.convert(model, settings.precision)
    options = onnx_device.session_options(settings.device)
    if not settings.optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if settings.threads:
        options.intra_op_num_threads = settings.threads
    # Idle threads would spin on the cores that the other children compute on.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if settings.exact_operands:
        # 1 is the accuracy of float32; the default is that of int8.
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    skeleton, tensors = onnx_graph.split_off_large_tensors(model)
    # Weights in the message itself would be copied three times on their way into the session.
    options.add_external_initializers(
        list(tensors), [ort.OrtValue.ortvalue_from_numpy(array) for array in tensors.values()]
    )
    session = onnx_device.create_session(
        skeleton.SerializeToString(), options, settings.device, settings.precision
    )
    return session, onnx_device.require_provider(session, settings.device, settings.precision)


def run_in_chunks(
    session: ort.InferenceSession,
    names: Sequence[str],
    feeds: Mapping[str, Array],
    chunk_size: int | None,
) -> list[Array]:
    """Return the outputs `names` of a session that runs `chunk_size` samples at a time.

    None runs all of them at once. The last chunk is filled up with copies of its last sample, for a
    graph that takes no fewer.
    """
    if chunk_size is None:
        outputs: list[Array] = session.run(list(names), dict(feeds))
        return outputs
    count = len(next(iter(feeds.values())))
    chunks = []
    for start in range(0, count, chunk_size):
        chunk = {
            name: _fill_chunk(array[start : start + chunk_size], chunk_size)
            for name, array in feeds.items()
        }
        chunks.append(session.run(list(names), chunk))
    return [np.concatenate(parts)[:count] for parts in zip(*chunks, strict=True)]


def find_batch_problems(
    session: ort.InferenceSession, output: str, data: Array, counts: Sequence[int]
) -> list[str]:
    """Return a line for each batch size that a session cannot be run on.

    Its samples must be the same as when they are run `counts[0]` at a time.
    """
    name = session.get_inputs()[0].name
    problems, first_sample = [], None
    for count in counts:
        batch = np.resize(data, (count, *data.shape[1:]))
        try:
            (actual,) = session.run([output], {name: batch})
        except Exception as error:  # noqa: BLE001 (its errors have no class in common)
            problems.append(f"N={count}: {' '.join(str(error).split())[:160]}")
            continue
        if len(actual) != count:
            problems.append(f"N={count}: its output has the shape {actual.shape}")
        elif first_sample is None:
            first_sample = actual[0]
        else:
            tolerance = CLOSE * float(np.abs(first_sample).max())
            if not np.allclose(actual[0], first_sample, rtol=0.0, atol=tolerance):
                problems.append(
                    f"N={count}: the first image gives other values than at N={counts[0]}"
                )
    return problems


def _fill_chunk(chunk: Array, size: int) -> Array:
    missing = size - len(chunk)
    return chunk if missing == 0 else np.concatenate([chunk, np.repeat(chunk[-1:], missing, 0)])
