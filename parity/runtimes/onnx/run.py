"""Runs of ONNX graphs: as deployed, and instrumented so that inner tensors can be captured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from exporters import graph as onnx_graph
from exporters.errors import ExportError
from parity.errors import InputError, TableError
from parity.network import layouts
from parity.network.table import LOGITS, Row
from parity.numerics import capture
from parity.numerics.distance import measure_error
from parity.processes.requests import RunRequest
from parity.runtimes.onnx import device as onnx_device
from parity.runtimes.onnx.feeds import SUFFIX, add_feeds
from parity.runtimes.onnx.graphs import Graph
from parity.runtimes.onnx.sessions import SessionSettings, create_session, run_in_chunks

Array = NDArray[Any]


def capture_graph(
    graph: Graph, data: Array, request: RunRequest, settings: SessionSettings
) -> dict[str, Any]:
    """Write the rows' tensors from an instrumented graph, and the final output of the plain one.

    The plain graph is the one that is deployed; extra outputs keep the optimiser from fusing
    across them, so both are run. "instrumentation_gap" in the answer is the distance of the
    instrumented graph's final output from the plain one's. With `feed`, only an instrumented graph
    is run, each part of which reads the reference's tensors.
    """
    rows = [graph.table.by_name(name) for name in request.rows]
    inner = [row for row in rows if graph.table.tensor_name(row) != LOGITS]
    last = list(graph.table.last_rows("stage").values())[-1]
    answer: dict[str, Any] = {}
    tensors, logits = run_instrumented(graph, inner, data, request.feed, settings)
    if request.feed is None:
        instrumented = logits
        (logits,), answer = run_plain(graph, data, settings)
        error = measure_error(actual=instrumented, expected=logits)
        answer["instrumentation_gap"] = {"max_abs": error.max_abs, "rel_l2": error.rel_l2}
    with capture.CaptureWriter(Path(request.out), request.manifest) as writer:
        for row, tensor in zip(inner, tensors, strict=True):
            writer.add(row.name, to_canonical(tensor, row))
        if last in rows:
            writer.add(last.name, to_canonical(logits, last))
    return answer


def run_plain(
    graph: Graph, data: Array, settings: SessionSettings
) -> tuple[list[Array], dict[str, Any]]:
    """Return the final output of the graph as it is deployed, and the seconds, flags and proof."""
    started = time.perf_counter()
    session, flags = create_session(graph.model(), settings)
    session_seconds = time.perf_counter() - started
    started = time.perf_counter()
    feeds = {session.get_inputs()[0].name: data}
    outputs = run_in_chunks(session, [LOGITS], feeds, settings.chunk_size)
    seconds = time.perf_counter() - started
    proof = {"providers": session.get_providers()}
    if settings.device == "gpu":
        placement = onnx_device.node_placement(session)
        onnx_device.require_no_compute_fallback(placement)
        proof.update(placement)
    return outputs, {
        "seconds": seconds,
        "session_seconds": session_seconds,
        "flags": flags,
        "proof": proof,
    }


def run_instrumented(
    graph: Graph,
    rows: Sequence[Row],
    data: Array,
    feed: str | None,
    settings: SessionSettings,
) -> tuple[list[Array], Array]:
    """Return the tensors of the rows, and the final output.

    With `feed`, a capture of the reference, each part between two rows reads its tensors.
    """
    names = [graph.table.tensor_name(row) for row in rows]
    try:
        model = graph.model(names)
    except ExportError as error:
        raise TableError(f"the exported graph does not hold every layer: {error}") from error
    feeds: dict[str, Array] = {}
    if feed is not None:
        skeleton, read = add_feeds(model.skeleton, names)
        model = onnx_graph.WeightedModel(skeleton, model.tensors)
        values = {value.name: value for value in skeleton.graph.value_info}
        with capture.CaptureReader(Path(feed)) as reader:
            for row, name in zip(rows, names, strict=True):
                if name in read:
                    array = reader.read(row.name).astype(np.float32)
                    feeds[name + SUFFIX] = _restore_unit_axes(array, values.get(name))
    session, _ = create_session(model, settings)
    inputs = {session.get_inputs()[0].name: data, **feeds}
    *tensors, final = run_in_chunks(session, [*names, LOGITS], inputs, settings.chunk_size)
    return tensors, final


def predict(session: ort.InferenceSession, images: Array) -> Array:
    """Return the first output of a session on images (N, C, H, W).

    They are fed with channels last where only that fits the declared shape, and one by one to a
    graph that declares a batch of 1.
    """
    (declared, *others) = session.get_inputs()
    if others:
        names = ", ".join(each.name for each in session.get_inputs())
        raise InputError(f"onnx: the graph takes {names}; expected one input, the images")
    shape = [size if isinstance(size, int) else None for size in declared.shape]
    last = np.ascontiguousarray(layouts.to_nhwc(images))
    if len(shape) == 4 and not _fits(shape, images) and _fits(shape, last):
        images = last
    count = shape[0] if shape and shape[0] else None
    output = session.get_outputs()[0].name
    result: Array = run_in_chunks(session, [output], {declared.name: images}, count)[0]
    return result


def _fits(shape: Sequence[int | None], array: Array) -> bool:
    return all(
        size in (None, actual) for size, actual in zip(shape[1:], array.shape[1:], strict=True)
    )


def to_canonical(tensor: Array, row: Row) -> Array:
    """Return a tensor (N, C, H, W) without the axes of length 1 that its row leaves out."""
    return layouts.drop_axes(tensor, len(row.shape) + 1) if row.shape else tensor


def _restore_unit_axes(array: Array, value: onnx.ValueInfoProto | None) -> Array:
    """Return an array with the trailing axes of length 1 of the tensor's declared shape."""
    if value is None or not value.type.tensor_type.HasField("shape"):
        return array
    missing = len(value.type.tensor_type.shape.dim) - array.ndim
    return array.reshape(array.shape + (1,) * max(missing, 0))
