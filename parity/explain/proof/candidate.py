"""Candidates for causes: a change of the reference's layer, or a cause that the
structure proves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from parity.explain.proof.layer import LayerChange

STATED = 1.0
"""The score of candidates that the subject's hyperparameters, or its output's shape, state."""


@dataclass(frozen=True)
class Candidate:
    """One possible cause: a change of the reference's layer, and the remedy.

    `text` describes the subject's layer in one sentence, with a capital and without a full stop.
    `score` orders the attempts; 1 is for what the error pattern or the subject's own
    hyperparameters state. `fitted_values` counts the numbers that are fitted to the subject's
    output: a proof needs several times as many output values.
    """

    cause: str
    change: LayerChange
    text: str
    remedy: str
    score: float = 0.0
    fitted_values: int = 0
    text_without_fit: str = ""
    """`text` without fitted numbers, which are wrong where another difference exists as well."""
    proof_method: str = "Applied to the reference layer alone"
    """How the cause is proved, as the beginning of a sentence."""
    is_measured: bool = True
    """Whether the method says what the error falls to, and is not a proof by itself."""
    replaces_output: bool = False
    """Whether it replaces the output, so that other differences have no effect: it is never
    combined with another candidate."""
    place: int | str = ""
    """What of the layer it changes, an input's place or a setting, where the subject's own graph
    shows a difference there. Two candidates of one cause are both true only at different places."""
    takes_all_weights: bool = False
    """Whether it gives the layer the subject's weights, whatever differs in them: a candidate that
    says more of them is preferred."""
    describes_values: bool = False
    """Whether it says how values differ, by a factor, a constant, an order or a tensor without a
    name, and not what computes them so: operations that differ, if that is proved, say more."""
    rows: tuple[str, ...] = ()
    """The rows whose tensors it says are taken for each other: the subject's, the reference's."""
    is_random: bool = False
    """Whether it says itself that the output changes between runs."""

    @property
    def is_shown(self) -> bool:
        """Whether the subject's own graph shows the difference, so that nothing is guessed."""
        is_stated = self.score >= STATED or self.place != ""
        return is_stated and not self.fitted_values and not self.replaces_output

    def excludes(self, other: Candidate) -> bool:
        """Return whether it describes the same difference in another form."""
        return (self.cause, self.place) == (other.cause, other.place)

    @property
    def is_fitted(self) -> bool:
        """Whether it is fitted to the output of one run, and says nothing of another."""
        return self.fitted_values > 0 and not self.is_random


@dataclass(frozen=True)
class StructuralCause:
    """A cause that the structure alone proves: its layers, and figures on them."""

    cause: str
    subject: str
    layers: tuple[str, ...]
    text: str
    remedy: str
    evidence: Mapping[str, float] = field(default_factory=dict)
    bypass: tuple[str, ...] = ()
    """Layers in no row; if they return their input unchanged, the cause is removed."""


def format_fit(fit: Callable[[], float]) -> str:
    """Return a fitted number as text; "another value" where `fit` raises `ValueError`."""
    try:
        return f"{fit():.4g}"
    except ValueError:
        return "another value"
