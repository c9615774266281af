"""ceil_mode: one more row and column, or the last ones differ."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import setting

NAME = "ceil-mode"


def candidates(case: Case) -> Iterator[Candidate]:
    if case.layer.kind not in ("max_pool", "avg_pool"):
        return
    wanted = bool(case.layer.hyper.get("ceil", False))
    yield Candidate(
        NAME,
        setting(ceil=not wanted),
        f"The last, incomplete window is {'left out' if wanted else 'counted'} (ceil_mode)",
        f"{case.label}: {_remedy(case, wanted)}",
        1.0 if case.fingerprint.shape else 0.2,
    )


def _remedy(case: Case, wanted: bool) -> str:
    if case.framework == "torch":
        return f"set ceil_mode={wanted}"
    if case.framework == "onnx":
        return f"set ceil_mode to {int(wanted)}"
    if wanted:
        return "pad the end (with -inf before a max-pool) so that the last window is whole"
    return "pad less, or crop, so that no window begins that has no end (padding='valid')"
