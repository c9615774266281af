"""SAME against explicit padding: O(1), strongest at one border, a shift by one pixel.

TensorFlow's SAME pads (0, 1) where stride 2 meets an even size and PyTorch (1, 1): keras#19291,
pytorch#3867.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import setting
from parity.network import windows

NAME = "same-padding"
OTHER = "padding"

TRANSPOSED = "conv_transpose"

Padding = tuple[tuple[int, int], tuple[int, int]]


def candidates(case: Case) -> Iterator[Candidate]:
    hyper = case.layer.hyper
    if "padding" not in hyper or "kernel" not in hyper:
        return
    expected, same = _pairs(hyper["padding"]), _same(case)
    tried = {expected}
    stated = case.settings.get("padding")
    options: list[tuple[Padding, float]] = []
    if stated is not None:
        options.append((_pairs(stated), 1.0))
    options.append((same, 0.8 if case.fingerprint.border else 0.3))
    options += [(padding, 0.2) for padding in _usual(expected, same)]
    for padding, score in options:
        if padding in tried:
            continue
        tried.add(padding)
        is_same = padding == same and any(map(any, padding))
        yield Candidate(
            NAME if is_same else OTHER,
            setting(padding=padding),
            f"{'SAME padding, which here is ' if is_same else 'Padding '}"
            f"{padding[0]} rows and {padding[1]} columns, not {expected[0]} and {expected[1]}",
            _remedy(case, expected),
            score,
        )


def _remedy(case: Case, wanted: Padding) -> str:
    if case.layer.kind == TRANSPOSED:
        return _remedy_of_transposed(case, wanted)
    below = case.layer.kind == "max_pool" and bool((case.layer.data < 0).any())
    if case.framework == "keras":
        how = wanted[0][0] if len({*wanted[0], *wanted[1]}) == 1 else wanted
        if below and any(map(any, wanted)):
            # Zeros would be larger than what they stand beside.
            widths = f"((0, 0), {wanted[0]}, {wanted[1]}, (0, 0))"
            pad = f"keras.ops.pad(x, {widths}, constant_values=-math.inf)"
            return f"{case.label}: pad with -inf, {pad}, and use padding='valid'"
        return f"{case.label}: use ZeroPadding2D({how}) and padding='valid'"
    if case.framework == "torch":
        if all(before == after for before, after in wanted):
            return f"{case.label}: use padding={wanted[0][0], wanted[1][0]}"
        (top, bottom), (left, right) = wanted
        value = ", value=-math.inf" if case.layer.kind == "max_pool" else ""
        pad = f"F.pad(x, ({left}, {right}, {top}, {bottom}){value})"
        return f"{case.label}: use {pad} and padding=0"
    begin, end = zip(*wanted, strict=True)
    return f"{case.label}: set pads to {[*begin, *end]} and auto_pad to NOTSET"


def _remedy_of_transposed(case: Case, wanted: Padding) -> str:
    """A transposed convolution's padding is cropped from its output."""
    if case.framework == "keras":
        return f"{case.label}: use padding='valid' and Cropping2D({wanted}) behind it"
    begin, end = zip(*wanted, strict=True)
    if case.framework == "torch":
        more = tuple(before - after for before, after in wanted)
        return f"{case.label}: use padding={begin} and output_padding={more}"
    return f"{case.label}: set pads to {[*begin, *end]} and auto_pad to NOTSET"


def _same(case: Case) -> Padding:
    """TensorFlow's SAME at this size."""
    hyper = case.layer.hyper
    sizes, dilation = case.layer.inputs[0].shape[2:], hyper.get("dilation", (1, 1))
    windowed = zip(sizes, hyper["kernel"], hyper["stride"], dilation, strict=True)
    if case.layer.kind == TRANSPOSED:
        return _pairs(
            [
                windows.transposed_crop(n, n * s, kernel=k, stride=s, dilation=d, same=True)
                for n, k, s, d in windowed
            ]
        )
    return _pairs(
        [windows.same_padding(n, kernel=k, stride=s, dilation=d) for n, k, s, d in windowed]
    )


def _usual(expected: Padding, same: Padding) -> Iterator[Padding]:
    yield ((0, 0), (0, 0))
    for padding in (same, expected):
        (top, bottom), (left, right) = padding
        yield ((bottom, top), (right, left))
    (top, bottom), (left, right) = expected
    # The same amount, all of it at one end.
    yield ((top + bottom, 0), (left + right, 0))
    yield ((0, top + bottom), (0, left + right))
    for more in (-1, 1):
        yield ((top + more, bottom + more), (left + more, right + more))


def _pairs(value: Sequence[Sequence[Any]]) -> Padding:
    (top, bottom), (left, right) = value
    return (int(top), int(bottom)), (int(left), int(right))
