"""`parity export --onnx`: a registered model and its weights as one ONNX file that was proved."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parity import __version__, files
from parity.comparison.cache_entries import graph_facts, tap_names, weight_facts
from parity.comparison.checkpoints import format_of, read_checkpoint
from parity.comparison.request import Side
from parity.errors import UsageError
from parity.network import architectures, inputs, weights
from parity.network.spec import ModelSpec
from parity.network.table import LOGITS
from parity.processes import cache, registry
from parity.processes.cache import Cache
from parity.processes.child import Child
from parity.processes.children import Children
from parity.processes.interpreters import interpreter_of


@dataclass(frozen=True)
class Exported:
    """A finished ONNX file. `checks` are its outputs against the framework's at N = 1, 2 and 3."""

    model: str
    path: Path
    side: Side
    opset: int
    outputs: tuple[str, ...]
    weights_sha256: str
    bytes: int
    seconds: dict[str, float]
    checks: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()


def export(
    model: str,
    path: str | Path,
    *,
    side: Side,
    weights_from: str | Path | None = None,
    opset: int | None = None,
    stage_outputs: bool = False,
    seed: int = 0,
    classes: int | None = None,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    use_cache: bool = True,
    python: dict[str, str] | None = None,
    progress: Callable[[str, str], None] = lambda runtime, text: None,
) -> Exported:
    """Export the `side` twin ("keras" or "torch") of `model` to the ONNX file `path`.

    The graph takes `input` (N, C, H, W) with any N and gives `logits` (N, classes); with
    `stage_outputs` every stage's tensor too. The weights are a checkpoint of any format that
    `parity.convert` reads, or seeded random ones. The file is checked before it takes its name:
    the ONNX checker, shape inference, ONNX Runtime, and its outputs at three batch sizes.
    """
    known = [name for name, info in registry.all_runtimes().items() if info.exports_onnx]
    if side not in known:
        raise UsageError(f"--from must be {' or '.join(known)}, found '{side}'")
    path = Path(path)
    # The exporter proves the file beside the place that it is for, and then moves it there.
    target = files.plain(path)
    if use_cache:
        cache.require_ours()
    kept = Cache(use_cache)
    found = architectures.get(model, classes=classes, image_size=image_size, channels=channels)
    if weights_from is not None:
        format_of(weights_from)
    with tempfile.TemporaryDirectory(prefix="parity-") as name, Children(python=python) as made:
        folder = Path(name)
        child = made[side]
        progress(side, "starting")
        interpreter = interpreter_of(side, python or {})
        if weights_from is None:
            facts = weight_facts(found, seed, side, python=interpreter)
            canonical = _random_weights(found, facts, folder, child, seed, kept, progress)
        else:
            canonical = folder / "canonical.safetensors"
            read_checkpoint(found, Path(weights_from), canonical, made, progress)
        child.call("load", spec=found.to_json())
        child.call("assign", path=str(canonical))
        progress(side, f"exporting to {path.name}")
        table = found.table()
        digest = weights.digest(weights.load(canonical, table))
        stages = [table.tensor_name(row) for row in table.last_rows("stage").values()]
        facts = graph_facts(found, side, opset, python=interpreter)
        held = kept.find("graphs", facts)
        structure = held or folder / "structure.onnx"
        answer = child.call(
            "export_file",
            path=str(target),
            structure=str(structure),
            opset=opset,
            input_shape=list(found.input_shape),
            names=tap_names(table, side),
            outputs=[stage for stage in stages if stage != LOGITS] if stage_outputs else [],
            metadata={
                "model": found.name,
                "weights_sha256": digest,
                "exporter": f"parity {__version__}",
            },
        )
        if held is None:
            kept.publish("graphs", facts, structure)
    if use_cache:
        cache.prune()
    return Exported(
        model=found.name,
        path=path,
        side=side,
        opset=answer["opset"],
        outputs=tuple(answer["outputs"]),
        weights_sha256=digest,
        bytes=path.stat().st_size,
        seconds=answer["seconds"],
        checks=tuple(answer["checks"]),
        notes=tuple(kept.notes),
    )


def _random_weights(
    found: ModelSpec,
    facts: dict[str, Any],
    folder: Path,
    child: Child,
    seed: int,
    kept: Cache,
    progress: Callable[[str, str], None],
) -> Path:
    """The canonical file of seeded weights, drawn and calibrated unless an earlier run did that."""
    held = kept.find("weights", facts)
    if held is not None:
        return held
    progress(child.name, "drawing and calibrating weights")
    raw, data = folder / "raw.safetensors", folder / "calibration.npy"
    target = folder / "canonical.safetensors"
    weights.save(raw, weights.init(found, seed=seed))
    np.save(data, inputs.calibration_batch(found.input_shape, seed=seed))
    child.call("load", spec=found.to_json())
    child.call("calibrate", source=str(raw), target=str(target), data=str(data))
    return kept.publish("weights", facts, target)
