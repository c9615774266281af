"""The results of one comparison as data: levels, input, weights and subjects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from parity.numerics.verdict import Status

LEVELS = ("structure", "weights", "semantics", "numerics")


class Verdict(StrEnum):
    """The verdict on a comparison, with its exit code."""

    PARITY = "parity"
    DIVERGENCE = "divergence"
    UNKNOWN = "unknown"

    @property
    def exit_code(self) -> int:
        return {"parity": 0, "divergence": 1, "unknown": 3}[self.value]


NOT_COMPARED = " is not compared: "
"""Between the name and the reason in the note on an export that could not be made or read."""

NOT_CHECKED = ": the pairs were not checked by values: "
"""Between the name and the reason in the note on a model whose pairs could not be checked."""

KEPT = " weights have no equal partner in "
"""In the note on a model with weights that were not copied, before the name of their source."""

NOT_COPIED = " not copied into "
"""In the note on weights without a partner where the difference of two models begins."""

COMPUTES_IN, BY_ITSELF = " computes in ", " by itself: "
"""Around the precision in the note on a subject of which a part is judged by a larger floor."""

_WORST_FIRST = (Verdict.DIVERGENCE, Verdict.UNKNOWN, Verdict.PARITY)
"""A divergence outranks an unknown verdict, since it has been found."""


def find_worst_verdict(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of the verdicts on several comparisons; unknown if there is none."""
    found = set(verdicts) or {Verdict.UNKNOWN}
    return next(verdict for verdict in _WORST_FIRST if verdict in found)


class Outcome(StrEnum):
    """The outcome of one of the four levels."""

    PASS = "pass"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Level:
    """The outcome of one level of parity, and its messages."""

    outcome: Outcome
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InputFacts:
    """The input of the comparison; ``shape`` is NCHW."""

    kind: str
    shape: tuple[int, ...]
    sha256: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class WeightFacts:
    """The weights of all subjects."""

    sha256: str
    parameters: int
    source: str = ""


@dataclass(frozen=True, slots=True)
class SubjectFacts:
    """The runtime and device of a subject; ``failure`` is the error if it could not be run."""

    runtime: str
    device: str
    precision: str = "float32"
    judged_as: str | None = None
    """The precision whose floor it is judged by, if that is another one."""
    backend: str | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None
    file: str = ""
    """The ONNX file that it is, as the user named it; "" for a model that is no such file."""
    proof: Mapping[str, Any] = field(default_factory=dict)
    """The devices that the runtime reports: the output's device, or the session's providers and
    their nodes; on a GPU also its name, CUDA and cuDNN."""


@dataclass(frozen=True, slots=True)
class ErrorMap:
    """The errors by position and channel of one tensor, for the worst subject and stage.

    The largest ``|x - x64|``: ``spatial[h][w]`` over the batch and channels, ``channels[c]`` over
    the batch and positions. NaN or Inf in the subject alone is infinite (``null`` in JSON).
    """

    stage: str
    row: str
    subject: str
    shape: tuple[int, ...]
    """NCHW or NC, batch first: the shape of the tensor before any pooling."""
    spatial: tuple[tuple[float, ...], ...]
    """Rows from the top; at most 64x64, pooled by the maximum. Empty for a tensor without H, W."""
    floor_max: float
    """The floor's ``max_abs`` at this row, in the subject's precision."""
    channels: tuple[float, ...]
    """At most 4096, pooled by the maximum over neighbours."""


@dataclass(frozen=True, slots=True)
class LabelAgreement:
    """The agreement of predicted labels, and the errors relative to the top-1 margin."""

    top1: Mapping[str, float]
    """By subject, the fraction of the batch whose first label is the reference's."""
    top5: Mapping[str, float]
    """By subject, the fraction of the batch with the reference's first five labels, as a set."""
    margin: float
    """The smallest difference between the reference's two largest logits over the batch."""
    worst_ratio: Mapping[str, float]
    """By subject, the largest logit error over half the margin; from 1 on a label can change."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The most probable class of the first item; `name` is "" where no class names are known."""

    index: int
    probability: float
    name: str = ""


@dataclass(frozen=True, slots=True)
class Repeatability:
    """Whether repeated runs give the same bits."""

    runs: int
    differed: Mapping[str, int]
    """By subject, the number of runs that differ from the first, bit for bit."""


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


@dataclass(frozen=True, slots=True)
class PairedLayer:
    """One operation of the compared models, and which operations of them are its pair."""

    kind: str
    shape: tuple[int, ...]
    """Of its output, batch included, in the axes of the first model that has it."""
    places: Mapping[str, str]
    """By model, its path and source line there; a model that lacks it is not named."""
    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By model, the numbers of the paired layers whose outputs it reads."""
    confidence: Mapping[str, str] = field(default_factory=dict)
    """By model, "sure" or "ambiguous": how sure its pair with the reference is."""
    point: str = ""
    """The comparison point at its output, if there is one."""
