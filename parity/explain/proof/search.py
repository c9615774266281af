"""The search for the candidates that bring a failing layer's error to the floor.

A cause is named only if the reference's layer, evaluated alone in float64 with the change applied,
gives the subject's own output to within rounding.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.explain.proof.candidate import STATED, Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, Layer, evaluate
from parity.numerics.distance import measure_error
from parity.numerics.floor import Floor
from parity.numerics.verdict import judge_error

MAX_PAIRED = 12
"""The number of single candidates, the most promising ones, that are tried in pairs."""

PAIR_ELEMENTS = 2e8
"""The elements that the search in pairs evaluates: about 2 s of work on two cores."""

MAX_HALVING = 2
"""The number of candidates that halve the error alone, the nearest ones, that are paired with all
others."""

MIN_PAIRS = 16
"""The pairs that are tried however large a layer is."""

GUARD_SECONDS = 30.0
"""CPU time of this thread after which a search ends, so that a comparison does; it says so."""

MAX_OF_ONE_CAUSE = 3
"""The number of candidates of one cause that are tried in pairs."""

MAX_ROUNDING = 2.0
"""The limits up to which what a candidate leaves may be rounding, to which nothing is fitted."""

MAX_AMPLIFICATION = 32.0
"""The largest factor by which output transforms, such as a softmax, may enlarge the floor."""

MAX_PROPAGATION = 1e3
"""The largest error, in limits, for which the floor is propagated through output transforms."""

# A fit with k numbers proves a cause only on several times as many values.
_VALUES_PER_FITTED = 4

_BITS_PER_CANDIDATE = 10
"""The evidence that a proof needs for each candidate: hundreds of them are tried."""

_BITS_PER_NUMBER = 16
"""The evidence of a number that agrees to within rounding; a zero, which a ReLU gives of every
negative number, and a number that is there twice are one bit each."""


@dataclass(frozen=True)
class Attempt:
    """Candidates that were applied together, and the remaining error in floors."""

    candidates: tuple[Candidate, ...]
    x_floor_after: float
    """By the floor propagated through the candidates' output transforms."""
    x_layer_floor: float = math.inf
    """By the layer's own floor."""
    changes_shape: bool = False
    """Whether they change the shape of the layer's output."""


@dataclass(frozen=True)
class Explanation:
    """The result of a search: the attempt that proves the cause, or the closest attempts."""

    x_floor_before: float
    proof: Attempt | None
    closest: tuple[Attempt, ...] = ()
    ended: bool = False
    """Whether the search was ended by its guard."""
    weights: str = ""
    """The subject's weights that are not finite, in words."""


ProposeCandidates = Callable[[FailingLayer], Iterable[Candidate]]
"""Yields the candidates for a failing layer."""


def explain_layer(
    failing: FailingLayer,
    propose: ProposeCandidates,
    *,
    elements: float = PAIR_ELEMENTS,
    add_weights: Callable[[], FailingLayer] | None = None,
) -> Explanation:
    """Search for the candidates that explain a failing layer: one, two, or all that is shown.

    Single candidates are all tried; `elements` bound the search in pairs, a count that does not
    depend on the machine: see `count_elements`. If no single candidate explains the layer,
    `add_weights` returns it with the subject's own weights, for which there are more candidates.
    """
    started = time.thread_time()
    pairs = max(elements / count_elements(failing), MIN_PAIRS)
    before = _error_in_floors(failing, failing.expected, failing.floor)
    if not math.isfinite(before) and failing.pattern.non_finite:
        loaded = failing if add_weights is None else add_weights()
        return Explanation(before, None, weights=_describe_non_finite_weights(loaded))
    attempts: list[Attempt] = []
    for single in _try_singles(failing, propose, add_weights):
        attempts.append(single)
        if single.x_floor_after <= failing.limit:
            return Explanation(before, single)
    joint = _try_all_shown(failing, attempts)
    if joint is not None:
        return Explanation(before, joint)
    # Those that are tried below join `attempts`; pairs are made of single candidates.
    singles = tuple(attempts)
    combinations = itertools.chain(
        _extend_known(failing, singles), _order_pairs(failing, singles, before)
    )
    for number, combination in enumerate(combinations):
        if number >= pairs:
            break
        attempt = try_candidates(failing, combination)
        if attempt is not None:
            attempts.append(attempt)
            is_near = attempt.x_floor_after <= failing.limit
            if is_near and not _fits_rounding(failing, attempt, singles):
                named = _name_weights(failing, attempt, singles)
                return Explanation(before, _drop_needless(failing, named))
        if time.thread_time() - started > GUARD_SECONDS:
            return Explanation(before, None, _select_closest(attempts, before), ended=True)
    return Explanation(before, None, _select_closest(attempts, before))


def _fits_rounding(failing: FailingLayer, attempt: Attempt, singles: Sequence[Attempt]) -> bool:
    """Return whether a number was fitted to the rounding that another candidate leaves alone.

    That is just above the limit, where its operation rounds more than the reference's.
    """
    if not any(each.fitted_values for each in attempt.candidates):
        return False
    near = {
        id(each.candidates[0])
        for each in singles
        if each.x_floor_after <= MAX_ROUNDING * failing.limit
    }
    return any(id(each) in near for each in attempt.candidates if not each.fitted_values)


def _describe_non_finite_weights(failing: FailingLayer) -> str:
    """Return which weights are NaN or Inf where the reference's are numbers; "" if none is."""
    texts = []
    for role, value in failing.subject_weights.items():
        own = failing.reference_layer.weights.get(role)
        bad = ~np.isfinite(value)
        if not bad.any() or own is None or not np.isfinite(own).all():
            continue
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        count = f"{int(bad.sum())} of {value.size} values of its {role}"
        texts.append(f"{count} are NaN or Inf, first {value[index]} at {index}")
    return "; ".join(texts)


def count_elements(failing: FailingLayer) -> float:
    """Return how many elements one evaluation of the layer reads, sums and writes.

    A product of a sum counts 1/16: a matrix product is that much faster than a pass of NumPy.
    """
    layer = failing.reference_layer
    kernels = [each for each in layer.weights.values() if each.ndim > 1]
    terms = max((kernel.size / max(kernel.shape[0], 1) for kernel in kernels), default=1.0)
    data = sum(each.size for each in layer.inputs)
    return data + failing.expected.size * (1.0 + terms / 16.0)


def _select_closest(attempts: Sequence[Attempt], before: float) -> tuple[Attempt, ...]:
    """Return up to three attempts that halve the error, else the one with the smallest error.

    A pair must halve the error that the better of its candidates leaves alone. All are compared by
    the layer's own floor: an error that is small only by a propagated floor is no progress.
    """
    alone = {a.candidates[0]: a.x_layer_floor for a in attempts if len(a.candidates) == 1}
    nearer = sorted(
        (a for a in attempts if a.x_layer_floor < before), key=lambda attempt: attempt.x_layer_floor
    )
    halving: dict[str, Attempt] = {}
    for attempt in nearer:
        parts = [alone.get(candidate, before) for candidate in attempt.candidates]
        if 2.0 * attempt.x_layer_floor <= (min(parts) if len(parts) > 1 else before):
            halving.setdefault("+".join(sorted(c.cause for c in attempt.candidates)), attempt)
    singles = [attempt for attempt in nearer if len(attempt.candidates) == 1]
    return tuple(halving.values())[:3] or tuple(singles[:1])


def find_first_proof(failing: FailingLayer, propose: ProposeCandidates) -> Explanation | None:
    """Return the first single candidate that explains the layer, in the order proposed."""
    for candidate in propose(failing):
        attempt = try_candidates(failing, (candidate,))
        if attempt is not None and attempt.x_floor_after <= failing.limit:
            before = _error_in_floors(failing, failing.expected, failing.floor)
            return Explanation(before, attempt)
    return None


def find_joint_proof(failing: FailingLayer, propose: ProposeCandidates) -> Explanation | None:
    """Return all candidates as one proof, if together they explain the layer."""
    candidates = tuple(propose(failing))
    found = try_candidates(failing, candidates) if candidates else None
    if found is None or found.x_floor_after > failing.limit:
        return None
    return Explanation(_error_in_floors(failing, failing.expected, failing.floor), found)


def find_stated_proof(failing: FailingLayer, propose: ProposeCandidates) -> Explanation | None:
    """Return the proof by one candidate that the subject states, or by all of them together."""
    found: Attempt | None = None
    attempts: list[Attempt] = []
    for candidate in propose(failing):
        if not _is_stated(candidate):
            continue
        alone = try_candidates(failing, (candidate,))
        if alone is not None and alone.x_floor_after <= failing.limit:
            found = alone
            break
        attempts.append(alone or Attempt((candidate,), math.inf, changes_shape=True))
    else:
        found = _try_all_stated(failing, attempts)
    if found is None:
        return None
    return Explanation(_error_in_floors(failing, failing.expected, failing.floor), found)


def _is_stated(candidate: Candidate) -> bool:
    """Return whether the subject's own settings state a change."""
    return candidate.score >= STATED and candidate.is_shown


def _try_all_stated(failing: FailingLayer, attempts: Sequence[Attempt]) -> Attempt | None:
    """Return what explains the layer of everything that the subject's settings state, together."""
    stated = tuple(_select_stated(attempts))
    found = try_candidates(failing, stated) if len(stated) > 1 else None
    if found is None or found.x_floor_after > failing.limit:
        return None
    return _drop_needless(failing, found)


def _try_singles(
    failing: FailingLayer,
    propose: ProposeCandidates,
    add_weights: Callable[[], FailingLayer] | None,
) -> Iterator[Attempt]:
    """Yield the attempt of every single candidate, by score; then those that `add_weights` adds."""
    tried: set[tuple[str, str]] = set()
    for extend in (None,) if add_weights is None else (None, add_weights):
        if extend is not None:
            failing = extend()
        for candidate in sorted(propose(failing), key=lambda c: -c.score):
            # Two candidates with one text differ in how they are fitted.
            key = (candidate.cause, f"{candidate.text} {candidate.fitted_values}")
            if extend is not None and key in tried:
                continue
            tried.add(key)
            attempt = try_candidates(failing, (candidate,))
            if attempt is None and candidate.score >= STATED and not candidate.fitted_values:
                # It is kept for the pairs: alone it may leave no pixel, for example.
                attempt = Attempt((candidate,), math.inf, changes_shape=True)
            if attempt is not None:
                yield attempt


def _try_all_shown(failing: FailingLayer, attempts: Sequence[Attempt]) -> Attempt | None:
    """Return what explains the layer of everything that the subject's graph shows, together.

    What changes nothing beside the others is left out.
    """
    shown: list[Candidate] = []
    for attempt in attempts:
        (candidate,) = attempt.candidates
        if candidate.is_shown and not any(map(candidate.excludes, shown)):
            shown.append(candidate)
    # What is only seen in the graph may describe what a setting states: then they are one too many.
    for chosen in (_select_stated(attempts), shown):
        found = try_candidates(failing, tuple(chosen)) if len(chosen) > 1 else None
        if found is not None and found.x_floor_after <= failing.limit:
            return _drop_needless(failing, found)
    return None


def _select_stated(attempts: Sequence[Attempt]) -> list[Candidate]:
    """Return what the subject's settings state, one form of each difference."""
    stated: list[Candidate] = []
    for attempt in attempts:
        (candidate,) = attempt.candidates
        if _is_stated(candidate) and not any(map(candidate.excludes, stated)):
            stated.append(candidate)
    return stated


def _extend_known(
    failing: FailingLayer, attempts: Sequence[Attempt]
) -> Iterator[tuple[Candidate, ...]]:
    """Yield what is known of the subject, its settings or its weights, with one more candidate.

    Of a pair with all of the subject's weights, `_name_weights` says which difference of them it
    is.
    """
    stated = _select_stated(attempts)
    likeliest = sorted(attempts, key=lambda each: (-each.candidates[0].score, each.x_floor_after))
    others = [
        each.candidates[0]
        for each in likeliest
        if not each.candidates[0].replaces_output and not each.candidates[0].fitted_values
    ]
    if len(stated) > 1:
        for other in others:
            if not any(map(other.excludes, stated)):
                yield (*stated, other)
    for weights in [each for each in others if each.takes_all_weights]:
        for other in others:
            if other is not weights:
                yield other, weights


def _name_weights(failing: FailingLayer, attempt: Attempt, singles: Sequence[Attempt]) -> Attempt:
    """Return an attempt that says most of the weights that differ, in place of all of them."""
    rest = tuple(each for each in attempt.candidates if not each.takes_all_weights)
    if not 0 < len(rest) < len(attempt.candidates):
        return attempt
    for single in sorted(singles, key=lambda each: -each.candidates[0].score):
        (candidate,) = single.candidates
        if candidate in rest or candidate.replaces_output or candidate.fitted_values:
            continue
        found = try_candidates(failing, (*rest, candidate))
        if found is not None and found.x_floor_after <= failing.limit:
            return found
    return attempt


def _drop_needless(failing: FailingLayer, attempt: Attempt) -> Attempt:
    """Return an attempt that explains the layer without the candidates that it can do without."""
    for candidate in sorted(attempt.candidates, key=lambda each: each.score):
        rest = tuple(each for each in attempt.candidates if each is not candidate)
        found = try_candidates(failing, rest)
        if found is not None and found.x_floor_after <= failing.limit:
            attempt = found
    return attempt


def _order_pairs(
    failing: FailingLayer, attempts: Sequence[Attempt], before: float
) -> Iterator[tuple[Candidate, Candidate]]:
    """Yield the pairs of candidates to try, each once.

    A candidate that alone takes away half of the error is likely one of the two: it is paired with
    all others, the likeliest first. Pairs of the likeliest candidates follow.
    """
    tried: set[tuple[int, int]] = set()
    for first, second in itertools.chain(
        _pair_with_nearest(attempts, before), _rank_pairs(failing, attempts)
    ):
        if (id(first), id(second)) not in tried:
            tried.add((id(first), id(second)))
            yield first, second


def _pair_with_nearest(
    attempts: Sequence[Attempt], before: float
) -> Iterator[tuple[Candidate, Candidate]]:
    """Yield the candidates that alone halve the error, each with every one of another cause."""
    singles = [attempt for attempt in attempts if not attempt.candidates[0].replaces_output]
    halving = [
        attempt
        for attempt in singles
        if 2.0 * attempt.x_floor_after <= before and not attempt.candidates[0].fitted_values
    ]
    likeliest = sorted(singles, key=lambda each: (-each.candidates[0].score, each.x_floor_after))
    for attempt in sorted(halving, key=lambda each: each.x_floor_after)[:MAX_HALVING]:
        first = attempt.candidates[0]
        for other in likeliest:
            if not first.excludes(other.candidates[0]):
                yield first, other.candidates[0]


def _rank_pairs(
    failing: FailingLayer, attempts: Sequence[Attempt]
) -> Iterator[tuple[Candidate, Candidate]]:
    """Yield pairs of the likeliest candidates, by score."""
    attempts = [attempt for attempt in attempts if not attempt.candidates[0].replaces_output]
    ranked = sorted(attempts, key=lambda each: (-each.candidates[0].score, each.x_floor_after))
    best = [attempt.candidates[0] for attempt in _take_various(ranked)]
    nearest = _take_various(sorted(attempts, key=lambda attempt: attempt.x_floor_after))
    best += [attempt.candidates[0] for attempt in nearest if attempt.candidates[0] not in best]
    fits = failing.actual.shape == failing.expected.shape
    reshaping = [a.candidates[0] for a in ranked if a.changes_shape and fits][:MAX_PAIRED]
    best += [candidate for candidate in reshaping if candidate not in best]
    # Fitted candidates come last: they are fitted to the error that the other one leaves.
    best.sort(key=lambda candidate: candidate.fitted_values > 0)
    pairs = list(itertools.combinations(best, 2))

    def rank(pair: tuple[Candidate, Candidate]) -> float:
        # Where the shape is right, a candidate that changes it can only be one of two that do.
        both = all(candidate in reshaping for candidate in pair)
        return pair[0].score + pair[1].score + 1.0 * both

    pairs.sort(key=lambda pair: -rank(pair))
    for first, second in pairs:
        if first.excludes(second):
            continue
        yield first, second
        if not second.fitted_values:
            # A fitted candidate is fitted to the output, whatever was applied before it.
            yield second, first


def _take_various(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Return the first attempts, few of each cause: a cause with many forms is one of many."""
    counts: dict[str, int] = {}
    found = []
    for attempt in attempts:
        cause = attempt.candidates[0].cause
        counts[cause] = counts.get(cause, 0) + 1
        if counts[cause] <= MAX_OF_ONE_CAUSE:
            found.append(attempt)
    return found[:MAX_PAIRED]


def try_candidates(failing: FailingLayer, candidates: tuple[Candidate, ...]) -> Attempt | None:
    """Return the error that remains with these changes; None if they do not fit the layer."""
    fitted_values = sum(candidate.fitted_values for candidate in candidates)
    if fitted_values * _VALUES_PER_FITTED > failing.actual.size:
        return None
    if not _is_evidence_for(failing.actual, candidates):
        return None
    layer: Layer = failing.reference_layer
    limit = failing.limit
    try:
        with np.errstate(all="ignore"):
            for candidate in candidates:
                layer = candidate.change(layer)
            output = evaluate(layer)
            after = alone = _error_in_floors(failing, output, failing.floor)
            if layer.output_transforms and limit < alone <= MAX_PROPAGATION * limit:
                floor = _propagate_floor(layer, output, failing.floor)
                after = _error_in_floors(failing, output, floor)
    except (ValueError, IndexError, KeyError, TypeError):
        # The change does not fit this layer: the transpose of a matrix that is not square, say, or
        # an operator of two inputs in the place of one of one.
        return None
    return Attempt(candidates, after, alone, output.shape != failing.expected.shape)


def _is_evidence_for(actual: Array, candidates: Sequence[Candidate]) -> bool:
    """Return whether a subject's output has enough different numbers to tell candidates apart.

    What the subject states itself needs no further evidence.
    """
    needed = _BITS_PER_CANDIDATE * sum(each.score < STATED for each in candidates)
    if actual.size >= needed:
        return True
    numbers = np.unique(actual[actual != 0]).size
    return bool(_BITS_PER_NUMBER * numbers + (actual.size - numbers) >= needed)


def _propagate_floor(layer: Layer, output: Array, floor: Floor) -> Floor:
    """Return the floor after the output transforms, some of which (softmax) amplify rounding.

    It is measured with noise of the floor's size, added before the transforms.
    """
    untransformed = evaluate(replace(layer, output_transforms=()))
    spread = floor.rel_l2 * math.sqrt(float(np.mean(untransformed * untransformed)))
    noise = np.random.default_rng(0).standard_normal(untransformed.shape)
    noisy = untransformed + spread * noise
    for transform in layer.output_transforms:
        noisy = transform(noisy)
    error = measure_error(actual=noisy, expected=output)
    # Rounding to a few bits turns any noise into whole steps of the narrow format.
    rel_l2 = min(error.rel_l2, MAX_AMPLIFICATION * floor.rel_l2)
    max_abs = min(error.max_abs, MAX_AMPLIFICATION * floor.max_abs)
    return replace(
        floor,
        rel_l2=max(floor.rel_l2, rel_l2),
        max_abs=max(floor.max_abs, max_abs),
        scale=error.scale,
    )


def _error_in_floors(failing: FailingLayer, output: Array, floor: Floor) -> float:
    """Return the distance of the subject's output from `output`, in floors."""
    return measure_in_floors(failing.actual, output, floor, failing.limit)


def measure_in_floors(actual: Array, expected: Array, floor: Floor, limit: float) -> float:
    """Return the distance of two outputs in floors: the larger ratio.

    A change may make the layer's values larger or smaller; the floor's largest error is scaled with
    them. It is infinite where shapes differ or values are not finite.
    """
    error = measure_error(actual=actual, expected=expected)
    if error.mismatch or error.wrong or not error.compared:
        return math.inf
    scale = error.scale / floor.scale if floor.scale else 1.0
    rescaled = replace(floor, max_abs=floor.max_abs * max(scale, 1e-300))
    judged = judge_error(error, rescaled, limit=limit)
    return max(judged.x_floor, judged.x_floor_max)
