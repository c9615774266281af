"""An average-pool that counts its padding, or does not: a ratio such as 9/4 at the border."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.candidate import STATED, Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import change_hyper
from parity.network import windows

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
        f"{failing.label}: {_remedy(failing, counted)}",
        STATED if stated else 0.9 if failing.pattern.border_only else 0.3,
        place="count_padding" if stated and not failing.pads_before else "",
    )


def _remedy(failing: FailingLayer, counted: bool) -> str:
    framework = failing.framework
    if failing.pads_before and not counted:
        return _remedy_of_padded(failing)
    if framework == "torch":
        return f"set count_include_pad={counted}"
    if framework == "onnx":
        return f"set count_include_pad to {int(counted)}"
    return "use ZeroPadding2D and padding='valid'" if counted else "use padding='same'"


def _remedy_of_padded(failing: FailingLayer) -> str:
    """Return the remedy where an operation of its own pads: all that a pool reads is counted."""
    hyper = failing.reference_layer.hyper
    padding = [(int(first), int(last)) for first, last in hyper["padding"]]
    begin, end = zip(*padding, strict=True)
    if failing.framework == "onnx":
        pads = [*begin, *end]
        return f"set its pads to {pads} and count_include_pad to 0, and remove the Pad before it"
    if failing.framework == "torch" and begin == end:
        own = begin[0] if len(set(begin)) == 1 else begin
        return (
            f"pad in the pool, with padding={own} and count_include_pad=False, and remove the "
            "padding before it"
        )
    axes = zip(
        failing.reference_layer.inputs[0].shape[2:], hyper["kernel"], hyper["stride"], strict=True
    )
    same = [windows.same_padding(n, kernel=k, stride=s, dilation=1) for n, k, s in axes]
    if failing.framework == "keras" and padding == same:
        return "use padding='same', and remove the padding before it"
    return "divide by its average of ones that are padded with zeros, to average no padding"
