"""SAME for explicit padding, or another padding: O(1), largest at one border, a shift by a pixel.

TensorFlow's SAME pads (0, 1) where stride 2 meets an even size and PyTorch (1, 1): keras#19291,
pytorch#3867.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import change_hyper
from parity.network import windows

NAME = "same-padding"
OTHER = "padding"

TRANSPOSED = "conv_transpose"

Padding = tuple[tuple[int, int], tuple[int, int]]


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    hyper = failing.reference_layer.hyper
    if "padding" not in hyper or "kernel" not in hyper:
        return
    if len(hyper["padding"]) != 2:
        yield from _propose_stated(failing)
        return
    expected, same = _pairs(hyper["padding"]), _same(failing)
    tried = {expected}
    stated = failing.subject_hyper.get("padding")
    options: list[tuple[Padding, float]] = []
    if stated is not None:
        options.append((_pairs(stated), 1.0))
    options.append((same, 0.8 if failing.pattern.border_only else 0.3))
    options += [(padding, 0.2) for padding in _common_paddings(expected, same)]
    for padding, score in options:
        if padding in tried:
            continue
        tried.add(padding)
        is_same = padding == same and any(map(any, padding))
        yield Candidate(
            NAME if is_same else OTHER,
            change_hyper(padding=padding),
            f"{'SAME padding, which here is ' if is_same else 'Padding '}"
            f"{padding[0]} rows and {padding[1]} columns, not {expected[0]} and {expected[1]}",
            _remedy(failing, expected),
            score,
        )


def _propose_stated(failing: FailingLayer) -> Iterator[Candidate]:
    """Yield the padding that the subject states, of signals and volumes."""
    expected = [list(pair) for pair in failing.reference_layer.hyper["padding"]]
    stated = failing.subject_hyper.get("padding")
    if stated is None or [list(pair) for pair in stated] == expected:
        return
    yield Candidate(
        OTHER,
        change_hyper(padding=tuple(map(tuple, stated))),
        f"The padding is {[list(pair) for pair in stated]}, not {expected}",
        f"{failing.label}: pad by {expected}",
        1.0,
    )


def _remedy(failing: FailingLayer, wanted: Padding) -> str:
    if failing.reference_layer.kind == TRANSPOSED:
        return _remedy_of_transposed(failing, wanted)
    below = failing.reference_layer.kind == "max_pool" and bool(
        (failing.reference_layer.data < 0).any()
    )
    if failing.framework == "keras":
        how = wanted[0][0] if len({*wanted[0], *wanted[1]}) == 1 else wanted
        if below and any(map(any, wanted)):
            # Zeros would be larger than negative inputs.
            widths = f"((0, 0), {wanted[0]}, {wanted[1]}, (0, 0))"
            pad = f"keras.ops.pad(x, {widths}, constant_values=-math.inf)"
            return f"{failing.label}: pad with -inf, {pad}, and use padding='valid'"
        return f"{failing.label}: use ZeroPadding2D({how}) and padding='valid'"
    if failing.framework == "torch":
        if all(before == after for before, after in wanted):
            return f"{failing.label}: use padding={wanted[0][0], wanted[1][0]}"
        (top, bottom), (left, right) = wanted
        value = ", value=-math.inf" if failing.reference_layer.kind == "max_pool" else ""
        pad = f"F.pad(x, ({left}, {right}, {top}, {bottom}){value})"
        return f"{failing.label}: use {pad} and padding=0"
    begin, end = zip(*wanted, strict=True)
    return f"{failing.label}: set pads to {[*begin, *end]} and auto_pad to NOTSET"


def _remedy_of_transposed(failing: FailingLayer, wanted: Padding) -> str:
    """Return the remedy for a transposed convolution, whose padding is cropped from its output."""
    if failing.framework == "keras":
        return f"{failing.label}: use padding='valid' and Cropping2D({wanted}) after it"
    begin, end = zip(*wanted, strict=True)
    if failing.framework == "torch":
        more = tuple(before - after for before, after in wanted)
        return f"{failing.label}: use padding={begin} and output_padding={more}"
    return f"{failing.label}: set pads to {[*begin, *end]} and auto_pad to NOTSET"


def _same(failing: FailingLayer) -> Padding:
    """Return TensorFlow's SAME padding at this size."""
    hyper = failing.reference_layer.hyper
    sizes, dilation = failing.reference_layer.inputs[0].shape[2:], hyper.get("dilation", (1, 1))
    axes = zip(sizes, hyper["kernel"], hyper["stride"], dilation, strict=True)
    if failing.reference_layer.kind == TRANSPOSED:
        return _pairs(
            [
                windows.transposed_crop(n, n * s, kernel=k, stride=s, dilation=d, same=True)
                for n, k, s, d in axes
            ]
        )
    return _pairs([windows.same_padding(n, kernel=k, stride=s, dilation=d) for n, k, s, d in axes])


def _common_paddings(expected: Padding, same: Padding) -> Iterator[Padding]:
    """Yield none, asymmetric variants, and one pixel less or more than `expected`."""
    yield ((0, 0), (0, 0))
    for padding in (same, expected):
        (top, bottom), (left, right) = padding
        yield ((bottom, top), (right, left))
    (top, bottom), (left, right) = expected
    # The same total, all of it at one end.
    yield ((top + bottom, 0), (left + right, 0))
    yield ((0, top + bottom), (0, left + right))
    for more in (-1, 1):
        yield ((top + more, bottom + more), (left + more, right + more))


def _pairs(value: Sequence[Sequence[Any]]) -> Padding:
    (top, bottom), (left, right) = value
    return (int(top), int(bottom)), (int(left), int(right))
