"""A possible cause of a difference between two training steps, and its proof."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.training.data.batches import Batch
from parity.training.definition import Update
from parity.training.steps import (
    StepCause,
    StepComparison,
    StepRecord,
    StepTerms,
    compare_step,
    define_update,
)
from parity.training.verification import FailingStep

Array = NDArray[Any]

Change = Callable[[Update], Update]


@dataclass(frozen=True)
class Candidate:
    """A change of the reference's step that may make it the subject's.

    `change` changes how it updates the weights, `expect` what it computes before that. `terms`
    replaces the terms of the comparison. Of the candidates that are proved, those with the highest
    `prior` are the causes: a fitted learning rate explains less than the schedule's step before.
    """

    name: str
    text: str
    remedy: str
    change: Change | None = None
    expect: Callable[[], StepRecord] | None = None
    terms: StepTerms | None = None
    prior: float = 1.0


@dataclass(frozen=True)
class Evidence:
    """A step that differs, and what its comparison shows."""

    failing: FailingStep

    @property
    def terms(self) -> StepTerms:
        return self.failing.terms

    @property
    def expected(self) -> StepRecord:
        return self.failing.expected

    @property
    def actual(self) -> StepRecord:
        return self.failing.actual

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The kinds of the parts that differ; "gradient" also where one is missing."""
        failed = {e.kind for e in self.failing.comparison.errors if not e.passes}
        if any(name.startswith("gradient/") for name in self.failing.comparison.missing):
            failed.add("gradient")
        return frozenset(failed)

    @property
    def is_of_the_update(self) -> bool:
        """Whether all before the update agrees."""
        return not self.kinds - {"slot", "update"}

    @cached_property
    def update(self) -> Update:
        """The update of the subject's own gradients by the definition."""
        failing = self.failing
        return define_update(failing.terms, failing.framework, failing.actual, failing.before)

    @cached_property
    def updated(self) -> Mapping[str, Array]:
        """The state after `update`."""
        return self.update.take()

    def change_of(self, name: str) -> Array:
        """Return how much the subject changed a weight."""
        key = f"weight/{name}"
        found: Array = self.actual.values[key] - np.asarray(self.failing.before[key], np.float64)
        return found

    def expected_change_of(self, name: str) -> Array:
        """Return how much the definition changes a weight."""
        key = f"weight/{name}"
        found: Array = self.updated[key] - np.asarray(self.failing.before[key], np.float64)
        return found

    def differing(self, kind: str) -> tuple[str, ...]:
        """Return the tensors of a kind that differ."""
        errors = self.failing.comparison.errors
        return tuple(e.tensor for e in errors if e.kind == kind and not e.passes)

    def with_gradients(self, change: Callable[[str, Array], Array], **values: Array) -> StepRecord:
        """Return the reference's step with changed gradients, and other values."""
        gradients = {
            f"gradient/{name}": change(name, value)
            for name, value in self.expected.gradients().items()
        }
        return dataclasses.replace(
            self.expected, values={**self.expected.values, **gradients, **values}
        )

    def prove(self, candidate: Candidate) -> StepCause | None:
        """Return the cause if the reference's step with the change is the subject's."""
        failing = self.failing
        expected = failing.expected if candidate.expect is None else candidate.expect()
        terms = failing.terms if candidate.terms is None else candidate.terms
        updated = self.updated
        if candidate.change is not None:
            updated = candidate.change(self.update).take()
        comparison = compare_step(
            terms, failing.framework, before=failing.before, expected=expected,
            actual=failing.actual, updated=updated,
        )  # fmt: skip
        if not comparison.agrees:
            return None
        return StepCause(
            candidate.name, candidate.text, candidate.remedy, self._first_error, _worst(comparison)
        )

    @property
    def _first_error(self) -> float:
        first = self.failing.comparison.first_difference()
        return float("inf") if first is None else first.rel_l2


def _worst(comparison: StepComparison) -> float:
    return max(error.rel_l2 for error in comparison.errors)


def with_changes(**changes: Any) -> Change:
    """Return the change that gives an update other fields: see `Update.replace`."""
    return lambda update: update.replace(**changes)


def take_batch(evidence: Evidence, name: str, text: str, remedy: str, batch: Batch) -> Candidate:
    """Return the candidate that the subject took another batch."""
    images, labels = batch.images, batch.labels
    return Candidate(
        name,
        text,
        remedy,
        expect=partial(
            evidence.failing.rerun,
            images=images,
            labels=labels,
            micro_batch_sizes=batch.micro_batch_sizes,
        ),
        terms=dataclasses.replace(
            evidence.terms, images=images, labels=labels, micro_batch_sizes=batch.micro_batch_sizes
        ),
    )


def take_images(
    evidence: Evidence, name: str, text: str, remedy: str, change: Callable[[Array], Array]
) -> Iterator[Candidate]:
    """Yield the candidate that the subject took changed images, if the forward pass differs."""
    if evidence.kinds & {"samples", "statistics"}:
        images = np.ascontiguousarray(change(evidence.terms.images))
        yield Candidate(
            name,
            f"the images are {text}",
            remedy,
            expect=partial(evidence.failing.rerun, images=images),
        )


def take_rate(
    evidence: Evidence, name: str, text: str, remedy: str, rate: float, *, prior: float = 1.0
) -> Candidate:
    """Return the candidate that the subject used another learning rate."""
    wanted = evidence.terms.rate
    digits = 9 if f"{rate:.6g}" == f"{wanted:.6g}" else 6
    found = f"the learning rate is {rate:.{digits}g}, not {wanted:.{digits}g}"
    # The framework's own roundings of the step size stay.
    own = evidence.update.rate / wanted
    return Candidate(
        name,
        f"{text}: {found}" if text else found,
        remedy,
        change=with_changes(rate=rate * own),
        prior=prior,
    )


def list_briefly(names: Sequence[str]) -> str:
    """Return the first name, and the number of the others."""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def project(values: Array, direction: Array) -> float:
    """Return the factor of `direction` that is nearest to `values`; 0 for no direction."""
    power = float(np.vdot(direction, direction))
    return float(np.vdot(direction, values)) / power if power else 0.0
