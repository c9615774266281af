"""Where one comparison's weights come from: a checkpoint, a seed, or the models themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from parity.commands import convert
from parity.comparison.request import OWN, RANDOM, Side
from parity.errors import ChildError, RuntimeMissing, UsageError, WeightError
from parity.network import inputs, weights
from parity.processes import cache, futures
from parity.processes.child import Child

if TYPE_CHECKING:
    from parity.comparison.flow import Flow


def prepare(flow: Flow) -> None:
    """Find the weights, or draw them; their batch-norm statistics are a child's to measure."""
    source = flow.request.weight_source
    with futures.pass_errors_to(flow.weights, flow.raw_weights, flow.digest):
        if source == RANDOM:
            _draw(flow)
        elif source != OWN:
            futures.set_result_if_pending(flow.weights, _read(flow, Path(source)))
        try:
            path, table = flow.weights.result(), flow.table.result()
        except (RuntimeMissing, ChildError):
            # The child that owed them has failed, which is told with its subjects.
            return
        futures.set_result_if_pending(flow.digest, weights.digest(weights.load(path, table)))


def _read(flow: Flow, path: Path) -> Path:
    """The canonical file of a checkpoint of any format."""
    reader = convert.format_of(path)
    if not path.is_file():
        raise WeightError(f"{path}: no such file")
    if reader == "safetensors":
        weights.load(path, flow.table.result())
        return path
    if flow.spec is None:
        raise UsageError(f"{path}: weights of own models must be a .safetensors file")
    target = flow.folder / "canonical.safetensors"
    convert.read(flow.spec, path, target, reader, flow.children, flow.progress)
    return target


def _draw(flow: Flow) -> None:
    assert flow.spec is not None
    cached = flow.kept.weights()
    if cached.exists():
        cache.touch(cached)
        futures.set_result_if_pending(flow.weights, cached)
        return
    raw = flow.folder / "raw.safetensors"
    weights.save(raw, weights.init(flow.spec, seed=flow.request.seed))
    data = inputs.calibration_batch(flow.spec.input_shape, seed=flow.request.seed)
    np.save(flow.folder / "calibration.npy", data)
    futures.set_result_if_pending(flow.raw_weights, raw)


def give(flow: Flow, side: Side, child: Child) -> None:
    """Calibrate the random weights, or hand out the model's own, if that falls to this side."""
    if flow.request.weight_source == OWN:
        path = flow.folder / f"own-{side}.safetensors"
        child.call("dump", path=str(path))
        if flow.request.serial:
            # A child that is started again may draw others.
            child.call("assign", path=str(path), own=True)
        flow.own_weights[side] = path
        if side == flow.request.reference_side:
            flow.weights.set_result(path)
    elif side == flow.request.reference_side and flow.request.weight_source == RANDOM:
        _calibrate(flow, child)


def _calibrate(flow: Flow, child: Child) -> None:
    with futures.pass_errors_to(flow.weights):
        raw = futures.first_result(flow.weights, flow.raw_weights)
        if flow.weights.done():
            return
        flow.progress(child.name, "calibrating batch-norm statistics")
        target = flow.kept.weights()
        child.call(
            "calibrate",
            source=str(raw),
            target=str(target),
            data=str(flow.folder / "calibration.npy"),
        )
        flow.weights.set_result(target)
