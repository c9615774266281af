"""Another ceil_mode: one more row and column, or other values in the last ones."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import change_hyper

NAME = "ceil-mode"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    if failing.reference_layer.kind not in ("max_pool", "avg_pool"):
        return
    wanted = bool(failing.reference_layer.hyper.get("ceil", False))
    yield Candidate(
        NAME,
        change_hyper(ceil=not wanted),
        f"The last, incomplete window is {'dropped' if wanted else 'kept'} (ceil_mode)",
        f"{failing.label}: {_remedy(failing, wanted)}",
        1.0 if failing.pattern.shape_differs else 0.2,
    )


def _remedy(failing: FailingLayer, wanted: bool) -> str:
    if failing.framework == "torch":
        return f"set ceil_mode={wanted}"
    if failing.framework == "onnx":
        return f"set ceil_mode to {int(wanted)}"
    if wanted:
        return "pad at the end (with -inf before a max-pool) so that the last window is complete"
    return "pad less, or crop, so that there is no incomplete window (padding='valid')"
