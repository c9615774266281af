"""The report: everything that one comparison found, as data, and the verdict on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from parity.numerics.verdict import LIMIT, FirstDivergence, StageResult, Status

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
class Cause:
    """Why a layer differs, and the errors in floors that prove it."""

    layer: str
    subject: str
    cause: str
    evidence: Mapping[str, float]
    message: str


@dataclass(frozen=True, slots=True)
class Profile:
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
class Decision:
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
class Repeat:
    """Whether running again gives the same bits."""

    runs: int
    differed: Mapping[str, int]
    """By subject, how many runs were not bit for bit the first one."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The same comparison on another input: its worst subject and cut."""

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
class Report:
    """One comparison, complete: what DESIGN.md's JSON report holds."""

    verdict: Verdict
    model: str
    reference: str
    input: InputFacts
    weights: WeightFacts
    subjects: Mapping[str, SubjectFacts]
    levels: Mapping[str, Level]
    stages: tuple[StageResult, ...]
    first_divergence: FirstDivergence | None
    causes: tuple[Cause, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    limit: float = LIMIT
    depth: str = "stage"
    notes: tuple[str, ...] = ()
    divergences: tuple[FirstDivergence, ...] = ()
    """Every diverging subject's own first layer, one entry a subject."""
    blame: tuple[str, ...] = ()
    """Sentences that say where a difference enters: framework, exporter or runtime."""
    profile: Profile | None = None
    decision: Decision | None = None
    repeat: Repeat | None = None
    spread: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By cut, the least and largest ``x_floor`` of correct runs over the seeded inputs."""
    trials: tuple[Trial, ...] = ()
    """The same comparison on seeded and stress inputs."""
    command: tuple[str, ...] = ()
    """The arguments that make this comparison again, the program's name first."""

    @property
    def ok(self) -> bool:
        """Whether the verdict is parity; a verdict of unknown is not."""
        return self.verdict is Verdict.PARITY

    def __bool__(self) -> bool:
        """Return `ok`, so that ``assert parity.compare(...)`` fails where there is no parity."""
        return self.ok

    def __str__(self) -> str:
        """Say in three lines what the verdict is, where and why."""
        # Imported late, since its words are about this class.
        from parity.report import summary

        return summary.text(self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the same lines and a table of the stages."""
        from parity.report import summary

        return summary.html(self)


def numerics(stages: Sequence[StageResult]) -> Level:
    """Return the level that the stages alone decide: a pass needs every subject at every cut."""
    statuses = [result.status for stage in stages for result in stage.subjects.values()]
    if any(status.is_failure for status in statuses):
        return Level(Outcome.FAIL)
    if statuses and all(status.passes for status in statuses):
        return Level(Outcome.PASS)
    missing = statuses.count(Status.MISSING)
    reason = f"{missing} of {len(statuses)} comparisons could not be made"
    return Level(Outcome.SKIPPED, (reason if statuses else "nothing was compared",))


def conclude(
    *,
    subjects: Mapping[str, SubjectFacts],
    levels: Mapping[str, Level],
    stages: Sequence[StageResult],
) -> Verdict:
    """Return the verdict: parity only if all that ran passes and every subject was compared.

    A difference that was found stays found, whatever else could not be run. ``unknown`` is left
    for a comparison that found none but is not complete: a subject that failed to run, a row that
    a subject lacks, or nothing compared at all.
    """
    if any(level.outcome is Outcome.FAIL for level in levels.values()):
        return Verdict.DIVERGENCE
    compared = numerics(stages).outcome
    if compared is Outcome.FAIL:
        return Verdict.DIVERGENCE
    absent = any(name not in stage.subjects for stage in stages for name in subjects)
    failed = not subjects or any(facts.failure for facts in subjects.values())
    if absent or failed or compared is not Outcome.PASS:
        return Verdict.UNKNOWN
    return Verdict.PARITY
