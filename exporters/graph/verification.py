"""Verification that an ONNX file is valid, loads, and computes the same as the framework.

The framework itself is run at every size that the file claims (N = 1, 2, 3, and several values of
each other size that varies), and on extreme inputs and inputs with ties and zeros. Where a run of a
large input costs most of the time, one extreme sample and one with ties are the batch of N = 2.

The allowed difference of two correct programs is measured. The framework itself is run again with
every weight and input multiplied by 1 + U(-1, 1) * eps, the smallest change in the precision that
it computes in: the effect on an output is the *floor*, the distance that rounding alone explains in
this network (`parity.numerics.floor`). A correct float32 run of a residual network lies within
about twice the floor of the float64 result, so an export passes when it lies within `LIMIT` floors
of the framework, both in the L2 norm and at its worst element (so that one wrong element among many
cannot hide). A floor is never below one unit roundoff of the output's own scale, and a floor above
`LARGEST_FLOOR` proves nothing and is refused.

Too small a floor only makes the check stricter, so that the cheapest estimate comes first: the last
row of the batch is the first one with its input perturbed, which costs no run. Where that does not
explain the difference, the weights are perturbed too, up to `REPLICATES` times, and then the
framework is run in float64, before an export is refused.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import onnx
from numpy.typing import NDArray

from exporters.errors import ExportError, first_few
from exporters.graph.cases import Cases
from exporters.graph.checks import check_model, check_randomness
from exporters.graph.edits import input_names
from exporters.graph.framework_runs import (
    ROUNDING_LIMIT,
    Case,
    FrameworkRuns,
    ModelFunction,
    Reference,
    call,
    measure_effect,
)
from exporters.graph.memory import are_large, collect_and_return, return_freed
from exporters.graph.model import WeightedModel
from exporters.graph.output_checks import (
    LARGEST_FLOOR,
    LIMIT,
    Check,
    Verification,
    check_outputs,
)
from exporters.graph.samples import (
    BATCH,
    UNKNOWN_SIZE,
    InputSpec,
    add_words,
    describe_inputs,
    draw_normal,
    find_domain,
    gathered_sizes,
    varying_sizes,
    with_kind,
)
from exporters.graph.session_process import Answer, SessionProcess, get_shared_process

Array = NDArray[Any]

_T_co = TypeVar("_T_co", covariant=True)

BATCHES = (1, 2, 3)


_PAIR = 2
"""The batch that an extreme sample and one with ties make."""


_ATTEMPTS = 4


_SHRINK = 10.0


_SMALLEST_EXTREME = 5.0


def verify(
    model: WeightedModel,
    path: Path,
    reference: Reference | ModelFunction,
    sample: Sequence[Array] | None = None,
    *,
    batches: Sequence[int] = BATCHES,
    write: Callable[[], None] = lambda: None,
) -> Verification:
    """Compare `model`, written at `path`, with the framework at every size that it claims.

    `sample`: inputs to run on instead of drawn ones, one array for each input of the graph; rows
    that it lacks for the largest N are made of its own. The graph's outputs after the function's
    (taps) are run but not compared. `write` writes the file, on another thread than the framework's
    runs; it is there already without. Raises ExportError with the numbers when an output differs by
    more than rounding, and what `write` raises.
    """
    if not isinstance(reference, Reference):
        reference = Reference(reference)
    check_randomness(model)
    if are_large(model.tensors):
        collect_and_return()
        reference = replace(reference, function=_returning_memory(reference.function))
    file = _File(path, get_shared_process())
    try:
        with _start(file, write, is_small=_is_small(model)) as (loading, start_run):
            try:
                try:
                    proof = _Proof(model, reference, sample, batches, start_run)
                finally:
                    check_model(model)  # last, since the file still runs
            finally:
                names = loading.result()
        return proof.run(file, names)
    finally:
        file.release(wait=False)


class _Result(Protocol[_T_co]):
    """What is being computed: a `Future`, or the answer of another process."""

    def result(self) -> _T_co:
        """Wait for it and return it. Raises ExportError."""


_StartRun = Callable[[Mapping[str, Array], int], _Result[list[Array]]]
"""Has the file run on inputs at some N, behind what was started before."""


@contextlib.contextmanager
def _start(
    file: _File, write: Callable[[], None], *, is_small: bool
) -> Iterator[tuple[_Result[list[str]], _StartRun]]:
    """Write and load the file, and run it on usual inputs, while the framework computes.

    A small one is written first, and is loaded and run in its process without a thread of this one:
    each change of thread waits for Python's lock longer than all of it takes.
    """
    if is_small:
        write()
        yield file.start_loading(), file.start_run
        return
    with ThreadPoolExecutor(1) as pool:
        yield (
            pool.submit(file.write_and_load, write),
            lambda feeds, batch: pool.submit(file.run, feeds, batch),
        )


_FEW_BYTES = 2**22
"""Bytes of a file's weights up to which it is written in a few milliseconds."""

_FEW_NUMBERS = 2**14
"""Numbers of one sample of the inputs up to which they are sent in less."""


def _is_small(model: WeightedModel) -> bool:
    """Return whether a thread of its own would not make the proof faster."""
    size = sum(array.nbytes for array in model.tensors.values())
    if size > _FEW_BYTES or are_large(model.tensors):
        return False
    specs = describe_inputs(model.skeleton.graph.input)
    sizes = dict.fromkeys(varying_sizes(specs), UNKNOWN_SIZE) | {BATCH: 1}
    return sum(math.prod(spec.shape(sizes)) for spec in specs) <= _FEW_NUMBERS


def _returning_memory(function: ModelFunction) -> ModelFunction:
    """Return a function that does the same, and returns the memory of its tensors to the system."""

    def run(inputs: Sequence[Array], *, seed: int | None = None) -> list[Array]:
        try:
            return function(inputs, seed=seed)
        finally:
            return_freed()

    return run


class _File:
    """The file that is verified: its session is opened again for a run after a release."""

    def __init__(self, path: Path, session: SessionProcess) -> None:
        self.path = path
        self.session = session
        self.is_open = False

    def write_and_load(self, write: Callable[[], None]) -> list[str]:
        write()
        return list(self.start_loading().result())

    def start_loading(self) -> Answer:
        """Have the file loaded; the answer is the names of its outputs. Raises ExportError."""
        answer = self.session.start_loading(self.path)
        self.is_open = True
        return answer

    def run(self, feeds: Mapping[str, Array], batch: int) -> list[Array]:
        """Return the outputs at one N. Raises ExportError."""
        return self.start_run(feeds, batch).result()

    def start_run(self, feeds: Mapping[str, Array], batch: int) -> _PendingRun:
        """Have the file run at one N. Raises ExportError where it cannot be loaded."""
        with _naming_batch(batch):
            if not self.is_open:
                self.start_loading().result()
            answer = self.session.start_running(feeds, f"running the file at N={batch}")
            return _PendingRun(answer, batch)

    def reopen(self) -> None:
        """Have the next run open a session of its own, in another process if this one is dead."""
        self.is_open = False
        self.session = get_shared_process()

    def release(self, *, wait: bool = True) -> None:
        """Close the session, whose memory is that of the weights and more."""
        self.is_open = False
        self.session.release(wait=wait)


class _PendingRun:
    """The outputs of a file that runs at one N."""

    def __init__(self, answer: Answer, batch: int) -> None:
        self._answer = answer
        self._batch = batch

    def result(self) -> list[Array]:
        """Wait for the outputs and return them. Raises ExportError."""
        with _naming_batch(self._batch):
            return [np.asarray(array) for array in self._answer.result()]


@contextlib.contextmanager
def _naming_batch(batch: int) -> Iterator[None]:
    """Add N to the error of a run, unless it is that of a crash, which has it."""
    try:
        yield
    except ExportError as error:
        if "crashed" in str(error):
            raise
        raise ExportError(f"ONNX Runtime fails at N={batch}: {error}") from error


def draw_samples(
    values: Sequence[onnx.ValueInfoProto], *, rows: int = 3, seed: int = 0
) -> list[Array]:
    """Draw seeded arrays for a graph's inputs: normal, or 0 and 1 for integers and booleans.

    A size that varies, other than the batch's, is 32.
    """
    specs = describe_inputs(values)
    sizes = dict.fromkeys(varying_sizes(specs), UNKNOWN_SIZE) | {BATCH: rows}
    return draw_normal(specs, sizes, seed=seed)


class _Proof:
    """One verification: its cases, the framework's runs on them, and the checks of each."""

    def __init__(
        self,
        model: WeightedModel,
        reference: Reference,
        sample: Sequence[Array] | None,
        batches: Sequence[int],
        start_run: _StartRun,
    ) -> None:
        self._start_run: _StartRun | None = start_run
        self._file_runs: dict[int, _Result[list[Array]]] = {}
        graph = model.skeleton.graph
        self.model = model
        self.reference = reference
        self.weight_count = sum(array.size for array in model.tensors.values())
        self.notes: list[str] = []
        specs = add_words(describe_inputs(graph.input), graph)
        self.cases = cases = Cases(specs, batches, reference.sizes, reference.largest)
        if sample is None:
            cases.specs = find_domain(
                specs, gathered_sizes(graph, model.tensors), self._accepts, reference.example
            )
        self.together: list[FrameworkRuns] = []
        """Cases of one row each that were run as one batch, whose N no other case has."""
        self._joint_run: _Result[list[Array]] | None = None
        """The file's outputs of that batch, which it computes while the framework does."""
        base = self._base_framework(sample)
        batches = base.case.batches
        if sample is None and cases.is_large() and cases.batches == BATCHES:
            base.case = replace(base.case, batches=(min(batches), max(batches)))
        self._joins = base.case.batches != batches
        self.frameworks = [self._run_framework(base)]
        self._check_repeatability()
        if sample is None:
            cases.set_extra_rows(self.weight_count, fewest=min(base.runs))
            self._add_sizes()
            self._add_other_inputs()
        shared = [framework for framework in self.frameworks if framework.shared]
        if self._joint_run is not None and len(shared) == _PAIR:
            self.together = shared
        else:
            self._run_at_each(base, batches)
        self._start_run = None

    def run(self, file: _File, names: Sequence[str]) -> Verification:
        """Run the file on every case. Raises ExportError where it differs."""
        checks = self._check_together(file, names)
        ahead = self._start_ahead(file) if _is_small(self.model) else {}
        for framework in self.frameworks:
            if framework in self.together:
                continue
            for batch in framework.case.batches:
                if batch in framework.failures:
                    continue
                runs = self._file_runs if framework.case.label == "normal" else {}
                started = ahead.pop((id(framework), batch), None) or runs.get(batch)
                if started is not None:
                    actual = started.result()
                else:
                    actual = file.run(self._feeds(framework, batch), batch)
                outputs = dict(zip(names, actual, strict=True))
                checks += self._judge(file, framework, outputs, batch)
        failed = [str(check) for check in checks if not check.passed]
        if failed:
            more = f"; and {len(failed) - 6} more" if len(failed) > 6 else ""
            raise ExportError(
                "the exported graph computes something else: " + "; ".join(failed[:6]) + more
            )
        constant = tuple(self._constant_outputs(names))
        return Verification(
            checks=tuple(check for check in checks if check.inputs in ("normal", "sample")),
            other_checks=tuple(c for c in checks if c.inputs not in ("normal", "sample")),
            notes=tuple(dict.fromkeys(self.notes)),
            constant=constant,
            feeds=tuple(self._feeds(f, f.case.rows) for f in self.frameworks),
        )

    def _start_ahead(self, file: _File) -> dict[tuple[int, int], _Result[list[Array]]]:
        """Have the file run on the cases that it was not run on, by the framework's id and N.

        Each answer that is waited for costs as much as the run of a small file.
        """
        return {
            (id(framework), batch): file.start_run(self._feeds(framework, batch), batch)
            for framework in self.frameworks
            for batch in framework.case.batches
            if batch not in framework.failures
            and not (framework.case.label == "normal" and batch in self._file_runs)
        }

    def _check_together(self, file: _File, names: Sequence[str]) -> list[Check]:
        """Run the file once on the cases that the framework ran as one batch, and check each.

        Unless all of them agree, each is checked by itself, and that N on normal inputs.
        """
        if not self.together or self._joint_run is None:
            try:
                if self._joint_run is not None:
                    self._joint_run.result()
            except ExportError:
                # The framework refuses these inputs too; the file may run in another process.
                file.reopen()
            return []
        rows = len(self.together)
        actual = dict(zip(names, self._joint_run.result(), strict=True))
        compared = list(actual.items())[: len(self.together[0].replicates)]
        checks: list[Check] = []
        if all(array.ndim and len(array) == rows for _, array in compared):
            for index, framework in enumerate(self.together):
                row = [(name, array[index : index + 1]) for name, array in compared]
                if all(
                    found.shape == expected.shape
                    for (_, found), expected in zip(row, framework.run_at(1), strict=True)
                ):
                    checks += check_outputs(framework, row, 1)
        if len(checks) == rows * len(compared) and all(check.passed for check in checks):
            return [replace(check, batch=rows) for check in checks]
        self.together = []
        self._run_at_each(self.frameworks[0], self.cases.batches)
        return []

    def _feeds(self, framework: FrameworkRuns, batch: int) -> dict[str, Array]:
        """Return the file's inputs at one N."""
        names = (spec.name for spec in self.cases.specs)
        return dict(zip(names, framework.case.first(batch), strict=True))

    def _base_framework(self, sample: Sequence[Array] | None) -> FrameworkRuns:
        if sample is None:
            return self._finite_framework()
        return FrameworkRuns(self.cases.sample(sample), self.reference)

    def _finite_framework(self) -> FrameworkRuns:
        """Return drawn inputs that the framework computes finite numbers of, where it does."""
        first = None
        drawn = self.cases.specs
        attempts = [*((drawn, seed) for seed in range(_ATTEMPTS))]
        attempts += [(with_kind(drawn, kind), 0) for kind in ("unit", "positive")]
        for specs, seed in attempts:
            framework = FrameworkRuns(self.cases.normal(specs, seed), self.reference)
            first = first or framework
            with contextlib.suppress(ExportError):  # an input may be illegal beside another
                if all(_is_finite(array) for array in framework.run_at(framework.case.rows)):
                    self.cases.specs = specs
                    return framework
        return cast("FrameworkRuns", first)

    def _accepts(self, specs: Sequence[InputSpec]) -> bool:
        """Return whether the framework computes finite numbers on inputs drawn by `specs`."""
        sizes = self.cases.draw_sizes(self.cases.fewest_rows)
        try:
            arrays = draw_normal(specs, sizes, seed=1)
            results = self.reference.function(arrays)
        except Exception:  # noqa: BLE001 - whatever a layer raises of an input that is illegal
            return False
        return all(_is_finite(np.asarray(array)) for array in results)

    def _run_case(self, case: Case) -> FrameworkRuns:
        return self._run_framework(FrameworkRuns(case, self.reference))

    def _run_framework(self, framework: FrameworkRuns) -> FrameworkRuns:
        """Run the framework at every N; one below the largest that it refuses is not claimed."""
        framework.run_at(framework.case.rows)
        self._run_at_each(framework, framework.case.batches)
        framework.measure_input_floor()
        return framework

    def _run_at_each(self, framework: FrameworkRuns, batches: Sequence[int]) -> None:
        framework.case = replace(framework.case, batches=tuple(batches))
        for batch in sorted(batches, reverse=True):
            if batch in framework.failures:
                continue
            try:
                framework.run_at(batch)
            except ExportError as error:
                framework.failures[batch] = str(error)
                self.notes.append(f"N={batch} was not verified: {error}")
                continue
            is_usual = framework.case.label == "normal"
            if is_usual and self._start_run is not None and batch not in self._file_runs:
                self._file_runs[batch] = self._start_run(self._feeds(framework, batch), batch)

    def _check_repeatability(self) -> None:
        """Raise ExportError if the model gives other numbers for the same input.

        The first row at the smallest N and at the largest are two runs; only where they differ (a
        model may mix the rows) is the framework run once more.
        """
        runs = self.frameworks[0].runs
        small = min(runs)
        if self._keeps_rows_apart():
            return
        again = call(self.reference.function, self.frameworks[0].case.first(small), small)
        for index, (first, second) in enumerate(zip(runs[small], again, strict=True)):
            if first.shape != second.shape or not (
                measure_effect(second, first).rel_l2 <= ROUNDING_LIMIT
                and (first.dtype.kind == "f" or np.array_equal(first, second))
            ):
                raise ExportError(
                    f"output {index} of the model itself differs between two runs on the same"
                    " input: it draws random numbers, or keeps a state; no file can be compared"
                    " with it: make it deterministic, or give the noise or the state as an input"
                )

    def _keeps_rows_apart(self) -> bool:
        """Return whether the first rows at the smallest N and at the largest are the same."""
        runs = self.frameworks[0].runs
        small, large = min(runs), max(runs)
        return small != large and all(
            a.shape[1:] == b.shape[1:]
            and a.ndim
            and measure_effect(b[: len(a)], a).rel_l2 <= ROUNDING_LIMIT
            for a, b in zip(runs[small], runs[large], strict=True)
        )

    def _counts_rows(self) -> bool:
        """Return whether axis 0 of every input and output was seen to count samples."""
        runs = self.frameworks[0].runs
        return (
            len(runs) > 1
            and all(axis == 0 for axis in self.cases.axes)
            and all(a.ndim and len(a) == batch for batch, run in runs.items() for a in run)
        )

    def _add_sizes(self) -> None:
        """Add cases of each other size that varies, those that the framework takes.

        Raises ExportError where a size that was asked for takes one value alone.
        """
        for name, values in self.cases.sizes.items():
            refusals = [self._add_size(name, value) for value in values[1:]]
            if name in self.reference.requested and refusals and all(refusals):
                raise ExportError(
                    f"dynamic: the model takes no other size {name} than {values[0]}:"
                    f" {refusals[-1]}"
                )

    def _add_size(self, name: str, value: int) -> str:
        """Add the case of another value of a size; return why the framework refuses it, or ""."""
        case = self.cases.of_size(name, value)
        try:
            self.frameworks.append(self._run_case(case))
        except ExportError as error:
            self.notes.append(f"{case.label} was not verified: {error}")
            return str(error)
        return ""

    def _add_other_inputs(self) -> None:
        """Add cases of many rows, of extreme inputs and of ties.

        A model that keeps its rows apart runs on all of them at once, which costs one run; a part
        that is not finite, or that does not agree, is run by itself.
        """
        cases = self.cases.additional()
        shared = self._run_together(cases) if len(cases) > 1 else {}
        if "more" in cases and not self._add_many(cases["more"], shared.get("more")):
            self.cases.extra = self.cases.fewest_rows
            cases = self.cases.additional()
        if "extreme" not in cases:
            return
        self._add_extremes(shared.get("extreme") or FrameworkRuns(cases["extreme"], self.reference))
        ties = shared.get("ties") or FrameworkRuns(cases["ties"], self.reference)
        if not self._add_finite(ties):
            self.notes.append("ties were not verified: the model's outputs are not finite")

    def _run_together(self, cases: Mapping[str, Case]) -> dict[str, FrameworkRuns]:
        """Run the framework once on the rows of all cases; return nothing where it cannot be."""
        if not (self._counts_rows() and self._keeps_rows_apart()):
            return {}
        together = [
            np.concatenate(arrays)
            for arrays in zip(*(case.inputs for case in cases.values()), strict=True)
        ]
        rows = sum(case.rows for case in cases.values())
        if self._joins and rows == len(cases) == _PAIR and self._start_run is not None:
            feeds = {spec.name: a for spec, a in zip(self.cases.specs, together, strict=True)}
            self._joint_run = self._start_run(feeds, rows)
        try:
            outputs = call(self.reference.function, together, rows)
        except ExportError:
            return {}
        if not all(a.ndim and len(a) == rows for a in outputs):
            return {}
        found, start = {}, 0
        for label, case in cases.items():
            framework = FrameworkRuns(case, self.reference)
            framework.runs[case.rows] = [a[start : start + case.rows] for a in outputs]
            framework.shared = True
            found[label] = framework
            start += case.rows
        return found

    def _add_many(self, case: Case, shared: FrameworkRuns | None) -> bool:
        """Add the case of many rows; return whether the framework takes as many."""
        try:
            framework = self._run_framework(shared or FrameworkRuns(case, self.reference))
        except ExportError as error:
            self.notes.append(f"N={case.rows} was not verified: {error}")
            return False
        framework.take_floor(self.frameworks[0])
        self.frameworks.append(framework)
        return True

    def _add_extremes(self, framework: FrameworkRuns) -> None:
        """Add a case of extreme inputs, as large as the framework computes finite numbers of."""
        while not self._add_finite(framework):
            smaller = self._smaller_extremes(framework)
            if smaller is None:
                self.notes.append(
                    "extreme inputs were not verified: the model's outputs are not finite"
                )
                return
            framework = smaller

    def _smaller_extremes(self, framework: FrameworkRuns) -> FrameworkRuns | None:
        """Return extreme inputs that are less extreme, None where those would be usual ones."""
        largest = framework.case.largest / _SHRINK
        if largest <= _SMALLEST_EXTREME:
            return None
        return FrameworkRuns(self.cases.extreme(largest), self.reference)

    def _add_finite(self, framework: FrameworkRuns) -> bool:
        """Add a case unless the framework fails, or computes numbers that are not finite."""
        try:
            self._run_framework(framework)
        except ExportError:
            return False
        if not all(_is_finite(array) for array in framework.runs[framework.case.rows]):
            return False
        framework.take_floor(self.frameworks[0])
        self.frameworks.append(framework)
        return True

    def _judge(
        self, file: _File, framework: FrameworkRuns, actual: Mapping[str, Array], batch: int
    ) -> list[Check]:
        """Check every output at one N, with more runs of the framework as long as one fails."""
        compared = list(actual.items())[: len(framework.replicates)]
        if len(compared) < len(framework.replicates):
            raise ExportError(
                f"expected {len(framework.replicates)} outputs, found {len(compared)}"
            )
        checks = check_outputs(framework, compared, batch)
        if framework.shared and not all(check.passed for check in checks):
            framework.run_alone()
            checks = check_outputs(framework, compared, batch)
        if are_large(self.model.tensors) and not all(check.passed for check in checks):
            # A replicate has a copy of the weights, and the session has one.
            file.release()
        while not all(check.passed for check in checks) and framework.run_replicate():
            checks = check_outputs(framework, compared, batch)
        sorts = any(node.op_type == "TopK" for node in self.model.skeleton.graph.node)
        passed = [check for check in checks if check.passed]
        if framework.case.label == "ties" and sorts and len(passed) < len(checks):
            # No framework promises an order of equal values unless it sorts stably.
            self.notes.append("equal values are ordered otherwise than in the framework")
            return passed
        label = framework.case.label
        if label not in ("extreme", "ties") or len(passed) == len(checks):
            return checks
        # So far from its usual inputs the model may amplify rounding to the size of its outputs.
        unclear = [check for check in checks if check.explained and check.floor_too_large]
        if label == "extreme" and len(unclear) + len(passed) < len(checks):
            # A saturated softmax picks one class or another, which need not show where inputs move
            # by a unit in the last place, while a correct file is up to LIMIT floors away.
            jumps = framework.measure_jumps(batch, units=LIMIT)
            unclear += [
                check
                for check, (max_abs, rel_l2) in zip(checks, jumps, strict=True)
                if not (check.passed or check in unclear)
                and rel_l2 > LARGEST_FLOOR
                and rel_l2 >= check.rel_l2 / 2
                and max_abs >= check.max_abs / 2
            ]
        if not unclear:
            return checks
        names = first_few([check.output for check in unclear])
        self.notes.append(f"{label} inputs prove nothing of {names}: rounding explains too much")
        smaller = self._smaller_extremes(framework) if label == "extreme" else None
        if smaller is not None:
            self._add_extremes(smaller)  # the next that is judged
        return [check for check in checks if check not in unclear]

    def _constant_outputs(self, names: Sequence[str]) -> list[str]:
        """Return the outputs that depend on an input and never changed with it."""
        dependent = _dependent_tensors(self.model.skeleton.graph)
        constant = []
        runs = [run for f in self.frameworks for run in f.runs.values()]
        for index, name in enumerate(names[: len(runs[0])]):
            arrays = [run[index] for run in runs if run[index].size]
            if arrays and all((a == arrays[0].reshape(-1)[0]).all() for a in arrays):
                value = arrays[0].reshape(-1)[0]
                if name in dependent:
                    constant.append(name)
                    self.notes.append(f"{name} was {value} on every input")
                else:
                    self.notes.append(f"{name} is a constant, {value}")
        return constant


def _is_finite(array: Array) -> bool:
    return array.dtype.kind not in "fVc" or bool(np.isfinite(array.astype(np.float64)).all())


def _dependent_tensors(graph: onnx.GraphProto) -> set[str]:
    """Return the tensors that depend on an input of the graph."""
    known = {value.name for value in graph.input}
    for node in graph.node:
        if input_names(node) & known:
            known.update(node.output)
    return known
