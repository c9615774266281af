"""The channels of a grouped convolution in another order: that layer only."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import Array, given, then

NAME = "group-order"


def candidates(case: Case) -> Iterator[Candidate]:
    groups = int(case.layer.hyper.get("groups", 1))
    if groups < 2 or case.layer.kind not in ("conv", "depthwise_conv"):
        return
    remedy = f"{case.label}: output channel o belongs to group o // (channels / {groups})"
    for text, change in (
        ("input channels are dealt out to the groups in turn", _dealt),
        ("input channels are gathered across the groups", _gathered),
        ("groups read the input in reverse order", _reversed),
    ):
        yield Candidate(
            NAME,
            given(partial(change, groups=groups)),
            f"The {text}",
            remedy,
            0.5,
        )
        yield Candidate(
            NAME,
            then(partial(change, groups=groups)),
            f"The {text.replace('input', 'output').replace('read', 'give')}",
            remedy,
            0.5 + 0.35 * case.fingerprint.permuted,
        )
    for shift in (1, -1):
        yield Candidate(
            NAME,
            given(partial(_rolled, groups=groups, shift=shift)),
            f"Each group reads the slice of the group {'before' if shift > 0 else 'behind'} it",
            remedy,
            0.4,
        )


def _rolled(data: Array, groups: int, shift: int) -> Array:
    return np.roll(data, shift * (data.shape[1] // groups), axis=1)


def _split(data: Array, first: int) -> Array:
    return data.reshape(data.shape[0], first, data.shape[1] // first, *data.shape[2:])


def _dealt(data: Array, groups: int) -> Array:
    return _split(data, groups).swapaxes(1, 2).reshape(data.shape)


def _gathered(data: Array, groups: int) -> Array:
    return _split(data, data.shape[1] // groups).swapaxes(1, 2).reshape(data.shape)


def _reversed(data: Array, groups: int) -> Array:
    return _split(data, groups)[:, ::-1].reshape(data.shape)
