"""An average-pool that counts its padding, or does not: the border only, by a ratio such as 9/4."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import setting

NAME = "average-counts-padding"


def candidates(case: Case) -> Iterator[Candidate]:
    if case.layer.kind != "avg_pool":
        return
    counted = bool(case.layer.hyper.get("count_padding", True))
    yield Candidate(
        NAME,
        setting(count_padding=not counted),
        f"The average {'leaves its padding out' if counted else 'counts its padding'}",
        f"{case.label}: {_remedy(case.framework, counted)}",
        0.9 if case.fingerprint.border else 0.3,
    )


def _remedy(framework: str, counted: bool) -> str:
    if framework == "torch":
        return f"set count_include_pad={counted}"
    if framework == "onnx":
        return f"set count_include_pad to {int(counted)}"
    return "use ZeroPadding2D and padding='valid'" if counted else "use padding='same'"
