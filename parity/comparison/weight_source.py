"""The source of a comparison's weights: a checkpoint, a seed, or the models themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from parity.comparison.cache_entries import ComparisonCache
from parity.comparison.checkpoints import CANONICAL, convert_checkpoint, detect_format
from parity.comparison.pending import PendingValues
from parity.comparison.random_weights import calibrate, draw
from parity.comparison.request import OWN, RANDOM, Request, Side
from parity.comparison.runner import Progress
from parity.errors import ChildError, RequirementError, UsageError, WeightError
from parity.network import weights
from parity.processes import futures
from parity.processes.child import Child
from parity.processes.children import Children


@dataclass
class WeightSource:
    """Reads, draws or dumps the weights, and sets their futures in `pending`."""

    request: Request
    children: Children
    folder: Path
    entries: ComparisonCache
    pending: PendingValues
    progress: Progress
    own_weights: dict[Side, Path] = field(default_factory=dict)
    """By framework, the file of its model's own weights."""

    def prepare(self) -> None:
        """Read the weights or draw them; a child calibrates the batch-norm statistics."""
        source, pending = self.request.weight_source, self.pending
        with futures.pass_errors_to(pending.weights, pending.raw_weights, pending.weights_sha256):
            if source == RANDOM:
                self._draw()
            elif source != OWN:
                futures.set_result_if_pending(pending.weights, self._read(Path(source)))
            try:
                path, table = pending.weights.result(), pending.table.result()
            except (RequirementError, ChildError):
                # The child that provides them has failed: its subjects report the error.
                return
            digest = weights.digest(weights.load(path, table))
            futures.set_result_if_pending(pending.weights_sha256, digest)

    def _read(self, path: Path) -> Path:
        """Return the canonical file of a checkpoint of any format."""
        reader = detect_format(path)
        if not path.is_file():
            raise WeightError(f"{path}: no such file")
        if reader == CANONICAL:
            weights.load(path, self.pending.table.result())
            return path
        spec = self.request.spec
        if spec is None:
            raise UsageError(f"{path}: weights of your own models must be a .safetensors file")
        target = self.folder / "canonical.safetensors"
        convert_checkpoint(spec, path, target, self.children, self.progress)
        return target

    def _draw(self) -> None:
        spec = self.request.spec
        assert spec is not None
        cached = self.entries.find_weights()
        if cached is not None:
            futures.set_result_if_pending(self.pending.weights, cached)
            return
        raw = draw(spec, self.request.seed, self.folder)
        futures.set_result_if_pending(self.pending.raw_weights, raw)

    def provide(self, side: Side, child: Child) -> None:
        """Provide this side's part of the weights: its model's own weights, or the calibration."""
        if self.request.weight_source == OWN:
            path = self.folder / f"own-{side}.safetensors"
            child.call("save_weights", path=str(path))
            if self.request.serial:
                # A restarted child may draw other weights.
                child.call("load_weights", path=str(path), own=True)
            self.own_weights[side] = path
            if side == self.request.reference_side:
                futures.set_result_if_pending(self.pending.weights, path)
        elif side == self.request.reference_side and self.request.weight_source == RANDOM:
            self._calibrate(child)

    def _calibrate(self, child: Child) -> None:
        pending = self.pending
        with futures.pass_errors_to(pending.weights):
            raw = futures.first_result(pending.weights, pending.raw_weights)
            if pending.weights.done():
                return
            self.progress(child.name, "calibrating batch-norm statistics")
            calibrated = calibrate(raw, child, self.folder / "weights.safetensors")
            futures.set_result_if_pending(pending.weights, self.entries.store_weights(calibrated))
