"""Trying candidate causes on a layer until one brings its error to the floor.

A cause is named only if the reference layer, run alone in float64 with the difference applied,
gives the subject's own output to within rounding.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import Array, Layer, evaluate
from parity.numerics.distance import measure_error
from parity.numerics.floor import Floor
from parity.numerics.verdict import judge_error

PAIRED = 12
"""How many single causes, the most promising ones, are tried in pairs."""

CARRIED = 32.0
"""How much larger a step behind the layer, such as a softmax, may make its rounding."""

HOPELESS = 1e3
"""From how many limits on no floor that is carried behind the layer is looked for."""

STATED = 1.0
"""The score of what the subject's own settings, or the shape of its output, speak for."""

# A fit with k free numbers proves itself only on many more values than that.
_VALUES_PER_FREE = 4


@dataclass(frozen=True)
class Trial:
    """Candidates that were applied together, and the error that was left, in floors."""

    candidates: tuple[Candidate, ...]
    after: float
    alone: float = math.inf
    """The same by the layer's own floor, where `after` is by one that was carried behind it."""
    reshaped: bool = False
    """Whether they give the layer another shape."""


@dataclass(frozen=True)
class Explanation:
    """What is known of a layer: the proved cause or causes, or none and the closest trials."""

    before: float
    found: Trial | None
    closest: tuple[Trial, ...] = ()


Candidates = Callable[[Case], Iterable[Candidate]]
"""What can be tried on a layer."""


def explain(
    case: Case,
    candidates: Candidates,
    *,
    seconds: float = 1.5,
    ask: Callable[[], Case] | None = None,
) -> Explanation:
    """Name the cause or the two causes of `case`; `seconds` of work bound the search in pairs.

    Single candidates are all tried, whatever it takes: they are few, and a layer is small. If none
    of them explains the case, `ask` gives it with what only the subject can say.
    """
    # Its own work, so that what is found does not depend on what else the machine does.
    started = time.thread_time()
    before = _error(case, case.expected, case.floor)
    if not math.isfinite(before) and case.fingerprint.non_finite:
        return Explanation(before, None)
    trials: list[Trial] = []
    for single in _singles(case, candidates, ask):
        trials.append(single)
        if single.after <= case.limit:
            return Explanation(before, single)
    for pair in _pairs(case, trials):
        trial = attempt(case, pair)
        if trial is not None:
            trials.append(trial)
            if trial.after <= case.limit:
                return Explanation(before, trial)
        if time.thread_time() - started > seconds:
            break
    # By one floor for all: a floor that was carried through a step is no progress.
    return Explanation(before, None, _closest(trials, before))


def _closest(trials: Sequence[Trial], before: float) -> tuple[Trial, ...]:
    """Up to three that take away at least half of the error; else the one that takes away most.

    Two differences at once must halve what the better of them leaves by itself.
    """
    alone = {t.candidates[0]: t.alone for t in trials if len(t.candidates) == 1}
    nearer = sorted((t for t in trials if t.alone < before), key=lambda trial: trial.alone)
    told: dict[str, Trial] = {}
    for trial in nearer:
        parts = [alone.get(candidate, before) for candidate in trial.candidates]
        if 2.0 * trial.alone <= (min(parts) if len(parts) > 1 else before):
            told.setdefault("+".join(sorted(c.cause for c in trial.candidates)), trial)
    singles = [trial for trial in nearer if len(trial.candidates) == 1]
    return tuple(told.values())[:3] or tuple(singles[:1])


def first_proved(case: Case, candidates: Candidates) -> Explanation | None:
    """The first of the candidates that explains the case by itself, in the order given."""
    for candidate in candidates(case):
        trial = attempt(case, (candidate,))
        if trial is not None and trial.after <= case.limit:
            return Explanation(_error(case, case.expected, case.floor), trial)
    return None


def _singles(case: Case, candidates: Candidates, ask: Callable[[], Case] | None) -> Iterator[Trial]:
    """Every candidate by itself, the likeliest first; then those that `ask` adds."""
    tried: set[tuple[str, str]] = set()
    for more in (None, ask):
        if more is not None:
            case = more()
        for candidate in sorted(candidates(case), key=lambda c: -c.score):
            # Two ways to the same words differ in how they are fitted.
            key = (candidate.cause, f"{candidate.text} {candidate.free}")
            if more is not None and key in tried:
                continue
            tried.add(key)
            trial = attempt(case, (candidate,))
            if trial is None and candidate.score >= STATED and not candidate.free:
                # Most likely it is there, though by itself it leaves no pixel, say.
                trial = Trial((candidate,), math.inf, reshaped=True)
            if trial is not None:
                yield trial


def _pairs(case: Case, trials: Sequence[Trial]) -> Iterator[tuple[Candidate, Candidate]]:
    """Two differences at once, those first that the subject's settings speak for."""
    trials = [trial for trial in trials if not trial.candidates[0].whole]
    ranked = sorted(trials, key=lambda trial: (-trial.candidates[0].score, trial.after))
    best = [trial.candidates[0] for trial in ranked[:PAIRED]]
    nearest = sorted(trials, key=lambda trial: trial.after)[:PAIRED]
    best += [trial.candidates[0] for trial in nearest if trial.candidates[0] not in best]
    fits = case.actual.shape == case.expected.shape
    reshaping = [t.candidates[0] for t in ranked if t.reshaped and fits][:PAIRED]
    best += [candidate for candidate in reshaping if candidate not in best]
    # Fitted ones come last, since they are fitted to what the other one leaves.
    best.sort(key=lambda candidate: candidate.free > 0)
    pairs = list(itertools.combinations(best, 2))

    def promise(pair: tuple[Candidate, Candidate]) -> float:
        # Where the shape is right, what changes it by itself can only be one of two that do.
        both = all(candidate in reshaping for candidate in pair)
        return pair[0].score + pair[1].score + 1.0 * both

    pairs.sort(key=lambda pair: -promise(pair))
    for first, second in pairs:
        if first.cause == second.cause:
            continue
        yield first, second
        if not second.free:
            # What is fitted is fitted to the output, whatever it was applied before.
            yield second, first


def attempt(case: Case, applied: tuple[Candidate, ...]) -> Trial | None:
    """The error that is left when the reference has these differences; None if it cannot."""
    free = sum(candidate.free for candidate in applied)
    if free * _VALUES_PER_FREE > case.actual.size:
        return None
    layer: Layer = case.layer
    try:
        with np.errstate(all="ignore"):
            for candidate in applied:
                layer = candidate.change(layer)
            made = evaluate(layer)
            after = alone = _error(case, made, case.floor)
            if layer.after and case.limit < alone <= HOPELESS * case.limit:
                after = _error(case, made, _carried(layer, made, case.floor))
    except (ValueError, IndexError, KeyError):
        # The difference does not fit this layer: a transpose of what is not square, say.
        return None
    return Trial(applied, after, alone, made.shape != case.expected.shape)


def _carried(layer: Layer, made: Array, floor: Floor) -> Floor:
    """The floor behind what is applied to the output: softmax, say, makes rounding larger.

    The layer's rounding is put in as noise of the floor's size before those steps.
    """
    plain = evaluate(replace(layer, after=()))
    spread = floor.rel_l2 * math.sqrt(float(np.mean(plain * plain)))
    noisy = plain + spread * np.random.default_rng(0).standard_normal(plain.shape)
    for step in layer.after:
        noisy = step(noisy)
    error = measure_error(actual=noisy, expected=made)
    # Rounding to a few bits turns any noise into whole steps, which says nothing of the layer.
    rel_l2 = min(error.rel_l2, CARRIED * floor.rel_l2)
    max_abs = min(error.max_abs, CARRIED * floor.max_abs)
    return replace(
        floor,
        rel_l2=max(floor.rel_l2, rel_l2),
        max_abs=max(floor.max_abs, max_abs),
        scale=error.scale,
    )


def _error(case: Case, made: Array, floor: Floor) -> float:
    """How far the subject is from `made`, in floors, by the worse of the two measures.

    A difference may make the layer's values larger or smaller; the floor's largest error goes
    with their scale.
    """
    error = measure_error(actual=case.actual, expected=made)
    if error.mismatch or error.wrong or not error.compared:
        return math.inf
    scale = error.scale / floor.scale if floor.scale else 1.0
    moved = replace(floor, max_abs=floor.max_abs * max(scale, 1e-300))
    judged = judge_error(error, moved, limit=case.limit)
    return max(judged.x_floor, judged.x_floor_max)
