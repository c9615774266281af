"""Another order of a grouped convolution's channels: an error in that layer only."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, transform_input, transform_output

NAME = "group-order"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    groups = int(failing.reference_layer.hyper.get("groups", 1))
    if groups < 2 or failing.reference_layer.kind not in ("conv", "depthwise_conv"):
        return
    remedy = f"{failing.label}: output channel o belongs to group o // (channels / {groups})"
    for text, change in (
        ("input channels are assigned to the groups in turn", _interleave),
        ("input channels are collected across the groups", _deinterleave),
        ("groups read the input in reverse order", _reverse_groups),
    ):
        yield Candidate(
            NAME,
            transform_input(partial(change, groups=groups)),
            f"The {text}",
            remedy,
            0.5,
        )
        yield Candidate(
            NAME,
            transform_output(partial(change, groups=groups)),
            f"The {text.replace('input', 'output').replace('read', 'give')}",
            remedy,
            0.5 + 0.35 * failing.pattern.permuted,
        )
    for shift in (1, -1):
        yield Candidate(
            NAME,
            transform_input(partial(_shift_groups, groups=groups, shift=shift)),
            f"Each group reads the slice of the group {'before' if shift > 0 else 'after'} it",
            remedy,
            0.4,
        )


def _shift_groups(data: Array, groups: int, shift: int) -> Array:
    return np.roll(data, shift * (data.shape[1] // groups), axis=1)


def _split(data: Array, first: int) -> Array:
    return data.reshape(data.shape[0], first, data.shape[1] // first, *data.shape[2:])


def _interleave(data: Array, groups: int) -> Array:
    return _split(data, groups).swapaxes(1, 2).reshape(data.shape)


def _deinterleave(data: Array, groups: int) -> Array:
    return _split(data, data.shape[1] // groups).swapaxes(1, 2).reshape(data.shape)


def _reverse_groups(data: Array, groups: int) -> Array:
    return _split(data, groups)[:, ::-1].reshape(data.shape)
