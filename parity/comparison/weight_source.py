"""Where one comparison's weights come from: a checkpoint, a seed, or the models themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from parity.comparison.cache_entries import Kept
from parity.comparison.checkpoints import CANONICAL, format_of, read_checkpoint
from parity.comparison.pending import Pending
from parity.comparison.request import OWN, RANDOM, Request, Side
from parity.comparison.runner import Progress
from parity.errors import ChildError, MissingRuntimeError, UsageError, WeightError
from parity.network import inputs, weights
from parity.processes import futures
from parity.processes.child import Child
from parity.processes.children import Children


@dataclass
class WeightSource:
    """Finds, draws or takes the weights, and sets the futures of `pending` that are theirs."""

    request: Request
    children: Children
    folder: Path
    entries: Kept
    pending: Pending
    progress: Progress
    own_weights: dict[Side, Path] = field(default_factory=dict)
    """The weights that each framework's model brought."""

    def prepare(self) -> None:
        """Find the weights, or draw them; their batch-norm statistics are a child's to measure."""
        source, pending = self.request.weight_source, self.pending
        with futures.pass_errors_to(pending.weights, pending.raw_weights, pending.weights_sha256):
            if source == RANDOM:
                self._draw()
            elif source != OWN:
                futures.set_result_if_pending(pending.weights, self._read(Path(source)))
            try:
                path, table = pending.weights.result(), pending.table.result()
            except (MissingRuntimeError, ChildError):
                # The child that should have given them has failed: its subjects say so.
                return
            digest = weights.digest(weights.load(path, table))
            futures.set_result_if_pending(pending.weights_sha256, digest)

    def _read(self, path: Path) -> Path:
        """The canonical file of a checkpoint of any format."""
        reader = format_of(path)
        if not path.is_file():
            raise WeightError(f"{path}: no such file")
        if reader == CANONICAL:
            weights.load(path, self.pending.table.result())
            return path
        spec = self.request.spec
        if spec is None:
            raise UsageError(f"{path}: weights of own models must be a .safetensors file")
        target = self.folder / "canonical.safetensors"
        read_checkpoint(spec, path, target, self.children, self.progress)
        return target

    def _draw(self) -> None:
        spec = self.request.spec
        assert spec is not None
        cached = self.entries.weights()
        if cached is not None:
            futures.set_result_if_pending(self.pending.weights, cached)
            return
        raw = self.folder / "raw.safetensors"
        weights.save(raw, weights.init(spec, seed=self.request.seed))
        data = inputs.calibration_batch(spec.input_shape, seed=self.request.seed)
        np.save(self.folder / "calibration.npy", data)
        futures.set_result_if_pending(self.pending.raw_weights, raw)

    def give(self, side: Side, child: Child) -> None:
        """Calibrate the random weights, or hand out the model's own, if that falls to this side."""
        if self.request.weight_source == OWN:
            path = self.folder / f"own-{side}.safetensors"
            child.call("dump", path=str(path))
            if self.request.serial:
                # A child that is started again may draw others.
                child.call("assign", path=str(path), own=True)
            self.own_weights[side] = path
            if side == self.request.reference_side:
                self.pending.weights.set_result(path)
        elif side == self.request.reference_side and self.request.weight_source == RANDOM:
            self._calibrate(child)

    def _calibrate(self, child: Child) -> None:
        pending = self.pending
        with futures.pass_errors_to(pending.weights):
            raw = futures.first_result(pending.weights, pending.raw_weights)
            if pending.weights.done():
                return
            self.progress(child.name, "calibrating batch-norm statistics")
            target = self.folder / "weights.safetensors"
            child.call(
                "calibrate",
                source=str(raw),
                target=str(target),
                data=str(self.folder / "calibration.npy"),
            )
            pending.weights.set_result(self.entries.keep_weights(target))
