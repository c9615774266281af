"""The same comparison of any models again: on the same inputs, on others, and at another size."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.blind_spots import BlindSpot, find_blind_spots
from parity.comparison.graphs.inputs import InputArrays, find_id_bounds, redraw_integers
from parity.comparison.graphs.isolation import criteria
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.shared_inputs import find_open_axes, share_inputs
from parity.comparison.graphs.state import GraphState, SubjectModel
from parity.comparison.judging import judge_captures
from parity.comparison.repeats import find_worst_result, read_checksums
from parity.comparison.results import InputTrial, Repeatability
from parity.comparison.state import SubjectCapture
from parity.errors import SUBJECT_ERRORS, ParityError
from parity.network import inputs
from parity.numerics.verdict import PointResult, Status
from parity.text import describe_remaining

Array = NDArray[Any]

_SCALES = (4.0, 16.0, 64.0, 256.0)
"""Factors of the input that may reach what the input itself does not."""


@dataclass
class Trials:
    """The comparisons on other inputs.

    `spread` has, by comparison point, the smallest and the largest `x_floor` over the seeded ones.
    """

    results: list[InputTrial] = field(default_factory=list)
    spread: dict[str, tuple[float, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def measure_repeatability(
    runner: GraphRunner, runs: Mapping[str, SubjectCapture], count: int
) -> Repeatability:
    """Run every subject again, and count the runs that differ from the first, bit for bit."""
    state = runner.state
    points = state.table.points(state.request.depth, list(state.models))
    differed = dict.fromkeys(runs, 0)
    for _ in range(count - 1):
        captures = runner.run_subjects(list(runs), points, "repeat")
        for name, capture in captures.items():
            differed[name] += read_checksums(capture.path) != read_checksums(runs[name].path)
    return Repeatability(count, differed)


def compare_other_inputs(
    runner: GraphRunner,
    names: Collection[str],
    read_at: Callable[[GraphState, Mapping[str, Array]], GraphState],
) -> Trials:
    """Compare the subjects `names` on the other inputs that the request asks for.

    Also on one that shows what the request's input cannot show, and, where axes may have any
    length, at another one: `read_at` reads the models again on such inputs.
    """
    state = runner.state
    models = {name: state.models[name] for name in names}
    runner = replace(runner, state=replace(state, models=models))
    trials = Trials()
    ratios: dict[str, list[float]] = {}
    patterns = make_stress_inputs(state.reference) if state.request.stress else {}
    total, start = state.request.seeds + len(patterns), time.perf_counter()

    def run_next(at: int, name: str, arrays: Mapping[str, Array]) -> list[PointResult]:
        left = describe_remaining(at, total, time.perf_counter() - start)
        runner.progress("parity", f"input {name}, {at + 1} of {total}{left}")
        return _compare_on_input(runner, trials, name, arrays)

    for at in range(state.request.seeds):
        seed = state.request.seed + at + 1
        stages = run_next(at, f"seed {seed}", _draw(state.reference, seed))
        for stage in stages:
            ratios.setdefault(stage.name, []).extend(r.x_floor for r in stage.subjects.values())
    trials.spread = {name: (min(values), max(values)) for name, values in ratios.items()}
    for at, (name, arrays) in enumerate(patterns.items(), start=state.request.seeds):
        run_next(at, name, arrays)
    _show_blind_spots(runner, trials)
    _compare_at_other_size(runner, trials, read_at)
    return trials


def make_stress_inputs(model: SubjectModel) -> dict[str, dict[str, Array]]:
    """Return inputs with values that ordinary ones do not have, by name.

    Floating inputs get patterns, and inputs that an embedding reads the first and the last id;
    other integers, such as masks, stay as they are.
    """
    arrays = model.inputs.arrays
    bounds = find_id_bounds(model.graph)
    found: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        patterns: Mapping[str, Array] = {}
        if array.dtype.kind == "f":
            patterns = inputs.make_stress_arrays(array.shape)
        elif name in bounds:
            patterns = inputs.make_stress_ids(array.shape, bounds[name])
        for label, pattern in patterns.items():
            found.setdefault(label, dict(arrays))[name] = pattern.astype(array.dtype)
    return found


def _draw(model: SubjectModel, seed: int) -> dict[str, Array]:
    """Return the inputs with floating noise and ids drawn anew; other integers stay."""
    found = dict(model.inputs.arrays)
    for position, (name, array) in enumerate(found.items()):
        if array.dtype.kind == "f":
            rng = np.random.default_rng([seed, position])
            found[name] = rng.standard_normal(array.shape).astype(array.dtype)
    return redraw_integers(found, find_id_bounds(model.graph), seed=seed)


def _compare_on_input(
    runner: GraphRunner, trials: Trials, name: str, arrays: Mapping[str, Array]
) -> list[PointResult]:
    """Compare on inputs of the same shapes; add the result to `trials`."""
    state = runner.state
    base = replace(state.reference, inputs=InputArrays(arrays, name))
    base = replace(base, input_file=base.inputs.save(runner.folder / "inputs.trial.npz"))
    models = {}
    for subject, model in state.models.items():
        if subject == base.subject.name:
            models[subject] = replace(model, inputs=base.inputs, input_file=base.input_file)
        else:
            file = runner.folder / f"inputs.trial.{subject}.npz"
            models[subject] = share_inputs(base, model, state.alignments[subject], file)
    return _compare(
        replace(runner, state=replace(state, reference=base, models=models)), trials, name
    )


def _compare(runner: GraphRunner, trials: Trials, name: str) -> list[PointResult]:
    """Run the reference and the subjects of a state, judge them, and add the result to `trials`."""
    state = runner.state
    points = state.table.points(state.request.depth, list(state.models))
    captures, shape = {}, next(iter(state.reference.inputs.arrays.values())).shape

    def note_failure(subject: str, error: ParityError) -> None:
        trials.notes.append(f"input '{name}': {subject} could not be run: {error}")
        missing = InputTrial(name, shape, Status.MISSING, subject, None, math.inf, math.inf)
        trials.results.append(missing)

    try:
        reference = runner.run_reference(points, "trial")
    except SUBJECT_ERRORS as error:
        note_failure(state.reference.subject.name, error)
        return []
    for subject in state.models:
        try:
            captures[subject] = runner.run_subject(subject, points, "trial").path
        except SUBJECT_ERRORS as error:
            note_failure(subject, error)
    if not captures:
        return []
    stages = judge_captures(reference.capture, reference.floors, captures, points, criteria(state))
    trials.results.append(find_worst_result(name, shape, stages))
    return stages


# What the input cannot show ----------------------------------------------------------------------


def _show_blind_spots(runner: GraphRunner, trials: Trials) -> None:
    """Note what the input cannot show, and compare on one that does, where there is one."""
    spots = find_blind_spots(runner, runner.state.reference)
    if not spots:
        return
    arrays = runner.state.reference.inputs.arrays
    best: tuple[int, float, Mapping[str, Array]] = (len(spots), 1.0, arrays)
    for scale in _SCALES:
        scaled = {
            name: (array * scale).astype(array.dtype) if array.dtype.kind == "f" else array
            for name, array in arrays.items()
        }
        base = replace(runner.state.reference, inputs=InputArrays(scaled, "scaled"))
        base = replace(base, input_file=base.inputs.save(runner.folder / "inputs.scaled.npz"))
        left = len(find_blind_spots(runner, base))
        if left < best[0]:
            best = (left, scale, scaled)
        if left == 0:
            break
    remedy = ""
    if best[1] > 1:
        name = f"input ×{best[1]:g}"
        runner.progress("parity", f"input {name}")
        _compare_on_input(runner, trials, name, best[2])
        remedy = f"; also compared on the {name}"
        remedy += ", which shows it" if not best[0] else f", which shows {len(spots) - best[0]}"
    trials.notes.append(f"this input cannot show {_describe(spots)}{remedy}")


def _describe(spots: list[BlindSpot]) -> str:
    rest = len(spots) - 1
    return spots[0].text + (f", and {rest} more of this kind" if rest else "")


# Another size ------------------------------------------------------------------------------------


def _compare_at_other_size(
    runner: GraphRunner,
    trials: Trials,
    read_at: Callable[[GraphState, Mapping[str, Array]], GraphState],
) -> None:
    """Compare at another length of the axes that the reference states to take any."""
    state = runner.state
    axes = find_open_axes(state.reference)
    if not any(axes.values()):
        return
    arrays = _resize(state.reference, axes, seed=state.request.seed)
    shape = "x".join(map(str, next(iter(arrays.values())).shape))
    try:
        again = read_at(state, arrays)
        left_out = [name for name in state.models if name not in again.models]
        if len(again.models) > (state.reference.subject.name in again.models):
            runner.progress("parity", f"size {shape}")
            _compare(replace(runner, state=again), trials, f"size {shape}")
        # An export is made for one size.
        left_out = [n for n in left_out if not state.models[n].subject.exported_from]
        if left_out:
            trials.notes.append(f"not compared at the size {shape}: {', '.join(left_out)}")
    except ParityError as error:
        trials.notes.append(f"not compared at the size {shape}: {error}")


def _resize(
    model: SubjectModel, axes: Mapping[str, tuple[int, ...]], *, seed: int
) -> dict[str, Array]:
    """Return inputs with another length of their open axes: noise, ids, masks of ones."""
    found = {}
    for position, (name, array) in enumerate(model.inputs.arrays.items()):
        shape = tuple(
            other_length(length) if axis in axes.get(name, ()) else length
            for axis, length in enumerate(array.shape)
        )
        rng = np.random.default_rng([seed, position])
        if array.dtype.kind == "f":
            found[name] = rng.standard_normal(shape).astype(array.dtype)
        else:
            found[name] = np.ones(shape, array.dtype)
    return redraw_integers(found, find_id_bounds(model.graph), seed=seed)


def other_length(length: int) -> int:
    """Return another length: half as many tokens more, or a smaller image of whole 32s."""
    return length + max(length // 2, 1) if length < 64 else max(length * 3 // 4 // 32 * 32, 32)
