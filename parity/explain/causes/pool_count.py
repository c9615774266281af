"""An average-pool that counts its padding, or does not: a ratio such as 9/4 at the border."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.candidate import STATED, Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import change_hyper

NAME = "average-counts-padding"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    if failing.reference_layer.kind != "avg_pool":
        return
    counted = bool(failing.reference_layer.hyper.get("count_padding", True))
    stated = failing.subject_hyper.get("count_padding") is (not counted)
    yield Candidate(
        NAME,
        change_hyper(count_padding=not counted),
        f"The average {'does not count its padding' if counted else 'counts its padding'}",
        f"{failing.label}: {_remedy(failing.framework, counted)}",
        STATED if stated else 0.9 if failing.pattern.border_only else 0.3,
        place="count_padding" if stated else "",
    )


def _remedy(framework: str, counted: bool) -> str:
    if framework == "torch":
        return f"set count_include_pad={counted}"
    if framework == "onnx":
        return f"set count_include_pad to {int(counted)}"
    return "use ZeroPadding2D and padding='valid'" if counted else "use padding='same'"
