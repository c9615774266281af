"""What one comparison finds, as data: its levels, its input and weights, its subjects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from parity.numerics.verdict import Status

LEVELS = ("structure", "weights", "semantics", "numerics")


class Verdict(StrEnum):
    """The answer, each with the exit code it ends the command with."""

    PARITY = "parity"
    DIVERGENCE = "divergence"
    UNKNOWN = "unknown"

    @property
    def exit_code(self) -> int:
        return {"parity": 0, "divergence": 1, "unknown": 3}[self.value]


class Outcome(StrEnum):
    """How one of the four levels ended."""

    PASS = "pass"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Level:
    """One level of parity, and what there is to say about it."""

    outcome: Outcome
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InputFacts:
    """The input that was compared on; ``shape`` is NCHW."""

    kind: str
    shape: tuple[int, ...]
    sha256: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class WeightFacts:
    """The weights that every subject was given."""

    sha256: str
    parameters: int
    source: str = ""


@dataclass(frozen=True, slots=True)
class SubjectFacts:
    """What a subject ran on; ``failure`` says why it could not be run, if it could not."""

    runtime: str
    device: str
    precision: str = "float32"
    judged_as: str | None = None
    """The precision whose floor it is judged by, where that is another one."""
    backend: str | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None
    proof: Mapping[str, Any] = field(default_factory=dict)
    """Where the work was done, as the runtime says: the output's device, or the session's
    providers and their nodes; on a GPU also the card, CUDA and cuDNN."""


@dataclass(frozen=True, slots=True)
class ErrorProfile:
    """Where in one tensor the error lies, for the subject and stage that are furthest off.

    The largest ``|x - x64|``: ``spatial[h][w]`` over the batch and channels, ``channels[c]`` over
    the batch and positions. NaN or Inf in the subject alone is infinite (``null`` in JSON).
    """

    stage: str
    row: str
    subject: str
    shape: tuple[int, ...]
    """NCHW or NC, batch first: that of the tensor, before any pooling."""
    spatial: tuple[tuple[float, ...], ...]
    """Rows from the top; at most 64x64, pooled by the maximum. Empty for a tensor without H, W."""
    floor_max: float
    """The floor's ``max_abs`` at this row, in the subject's precision."""
    channels: tuple[float, ...]
    """At most 4096, pooled by the maximum over neighbours."""


@dataclass(frozen=True, slots=True)
class LabelAgreement:
    """Whether the errors can change the label that a user would be shown."""

    top1: Mapping[str, float]
    """By subject, the fraction of the batch whose first label is the reference's."""
    top5: Mapping[str, float]
    """By subject, the fraction of the batch whose first five labels, as a set, are its."""
    margin: float
    """The smallest difference between the reference's two largest logits over the batch."""
    worst_ratio: Mapping[str, float]
    """By subject, the largest logit error over half the margin; from 1 on a label can flip."""


@dataclass(frozen=True, slots=True)
class Repeatability:
    """Whether running again gives the same bits."""

    runs: int
    differed: Mapping[str, int]
    """By subject, how many runs were not bit for bit the first one."""


@dataclass(frozen=True, slots=True)
class InputTrial:
    """The same comparison on another input: its worst subject and comparison point."""

    name: str
    """`seed 3`, or the stress input's name."""
    shape: tuple[int, ...]
    """NCHW."""
    status: Status
    subject: str | None
    stage: str | None
    x_floor: float
    x_floor_max: float
