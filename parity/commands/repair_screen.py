"""Quick runs of many changes of a source in one process, to order them before they are compared.

A comparison takes seconds, and a run of the changed model alone a part of one. The order decides
what is compared first; a change is accepted by a comparison alone.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.commands.values import Progress
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.state import GraphState
from parity.errors import ParityError
from parity.numerics.capture import CaptureReader
from parity.numerics.npz import load_npz
from parity.processes.graph_requests import TensorPoint
from parity.processes.references import parse_reference
from parity.processes.subjects import child_name
from parity.report.graph_assembly import GraphFindings

Array = NDArray[Any]

NEAR = 1e-4
"""The relative error of all outputs up to which a changed model may be the reference's."""

BATCH = 12
"""How many changes are run before those that come near are looked for."""

_INSTANCE = 90
"""The number of the child of a runtime, far from those of a comparison."""


@dataclass(frozen=True)
class Screened:
    """A change of a source that runs, and how far its outputs are from the reference's."""

    file: str
    text: str
    error: float

    @property
    def is_near(self) -> bool:
        return self.error <= NEAR


@dataclass
class Screen:
    """Runs changed sources of one subject; counts them, and runs none twice."""

    name: str
    folder: Path
    progress: Progress
    last_run: int
    """After how many runs no further one begins."""
    end: float
    """The moment, on the clock of `time.monotonic`, after which none begins."""
    runs: int = 0
    has_left_some: bool = False
    """Whether a change was not run because of a limit."""
    _known: dict[tuple[tuple[str, str], ...], float] = field(default_factory=dict)
    """By the texts of all changed files, the error of the outputs."""

    @property
    def is_over(self) -> bool:
        """Whether no further run begins."""
        return self.runs >= self.last_run or time.monotonic() >= self.end

    @contextmanager
    def limit(self, runs: int) -> Iterator[None]:
        """Begin at most so many further runs in the block."""
        before = self.last_run
        self.last_run = min(before, self.runs + runs)
        try:
            yield
        finally:
            self.last_run = before

    def run(
        self,
        state: GraphState,
        runner: GraphRunner,
        findings: GraphFindings,
        reference: str,
        texts: Mapping[str, str],
        options: Iterable[tuple[str, str]],
    ) -> list[Screened]:
        """Return the `options` that run, those that come near the reference first.

        An option is a source file and its text, beside `texts`; the others keep their order. The
        runs end with the first batch that has one which comes near, and at the limit. Empty where
        the outputs of the two models are no pairs.
        """
        outputs = _pair_outputs(state, findings, self.name)
        if not outputs:
            return []
        found: list[Screened] = []
        waiting = iter(options)
        while not self.is_over:
            batch = list(itertools.islice(waiting, min(BATCH, self.last_run - self.runs)))
            if not batch:
                break
            found += self._run_batch(state, runner, reference, texts, batch, outputs)
            if any(each.is_near for each in found):
                break
        else:
            self.has_left_some |= next(waiting, None) is not None
        return sorted(found, key=lambda each: not each.is_near)

    def measure_present(self, state: GraphState, findings: GraphFindings) -> float:
        """Return the error of the outputs of the subject as it is compared."""
        if findings.reference is None or not findings.runs or self.name not in findings.runs:
            return math.inf
        worst = 0.0
        with (
            CaptureReader(findings.reference.capture) as expected,
            CaptureReader(findings.runs[self.name].path) as actual,
        ):
            for row in state.table.outputs:
                if row in actual and row in expected:
                    error = _measure_relative(actual.read(row), expected.read(row))
                    worst = max(worst, error)
        return worst

    def _run_batch(
        self,
        state: GraphState,
        runner: GraphRunner,
        reference: str,
        texts: Mapping[str, str],
        batch: list[tuple[str, str]],
        outputs: Mapping[str, tuple[TensorPoint, Array]],
    ) -> list[Screened]:
        keys = [tuple(sorted({**texts, file: text}.items())) for file, text in batch]
        new = [at for at, key in enumerate(keys) if key not in self._known]
        if new:
            self.progress(self.name, f"trying changes of the source ({self.runs} so far)")
            for at, error in zip(
                new,
                self._measure(state, runner, reference, [dict(keys[at]) for at in new], outputs),
                strict=True,
            ):
                self._known[keys[at]] = error
        self.runs += len(new)
        return [
            Screened(file, text, self._known[key])
            for (file, text), key in zip(batch, keys, strict=True)
            if math.isfinite(self._known[key])
        ]

    def _measure(
        self,
        state: GraphState,
        runner: GraphRunner,
        reference: str,
        alternatives: list[dict[str, str]],
        outputs: Mapping[str, tuple[TensorPoint, Array]],
    ) -> Iterator[float]:
        """Yield the error of the outputs with each of the alternatives; infinite where it fails."""
        model = state.models[self.name]
        child = runner.children[child_name(model.subject.runtime, instance=_INSTANCE)]
        written = []
        for number, texts in enumerate(alternatives, self.runs):
            paths = {}
            for place, (file, text) in enumerate(texts.items()):
                path = self.folder / f"alternative.{number}.{place}.py"
                path.write_bytes(text.encode())
                paths[file] = str(path)
            written.append(paths)
        try:
            answer = child.call(
                "run_replaced_sources",
                reference=parse_reference(reference).to_json(),
                alternatives=written,
                inputs=str(model.input_file),
                weights=str(state.weights[self.name]),
                trust=list(state.request.trust),
                custom_objects=state.request.custom_objects,
            )
        except ParityError:
            # One of them has ended the process; a new one is started for the next comparison.
            yield from [math.inf] * len(alternatives)
            return
        for run in answer["runs"]:
            yield math.inf if "error" in run else _measure_error(load_npz(run["outputs"]), outputs)


def _pair_outputs(
    state: GraphState, findings: GraphFindings, name: str
) -> dict[str, tuple[TensorPoint, Array]]:
    """Return, by output of the subject, how its tensor is moved, and the reference's values."""
    if findings.reference is None:
        return {}
    model, table, graph = state.models[name], state.table, state.reference.graph
    own = {port.tensor: port.name for port in model.graph.outputs}
    partners = {
        port.tensor: state.alignments[name].outputs.get(port.name, "") for port in graph.outputs
    }
    found = {}
    with CaptureReader(findings.reference.capture) as reader:
        for row in map(table.by_name, sorted(table.outputs)):
            point = row.tensors.get(name)
            if point is None or row.name not in reader:
                continue
            # What the table has may be computed again for the output, with the same values.
            made = graph.by_id[row.node].outputs
            port = own.get(point.tensor) or next((partners.get(each, "") for each in made), "")
            if port:
                found[port] = point, reader.read(row.name)
    return found


def _measure_error(
    values: Mapping[str, Array], outputs: Mapping[str, tuple[TensorPoint, Array]]
) -> float:
    """Return the largest relative error of the outputs; infinite where one has another shape."""
    worst = 0.0
    for name, (point, expected) in outputs.items():
        if name not in values:
            return math.inf
        try:
            worst = max(worst, _measure_relative(point.apply(values[name]), expected))
        except ValueError:
            return math.inf
    return worst


def _measure_relative(actual: Array, expected: Array) -> float:
    """Return the error in parts of the norm; infinite for another shape or other infinities."""
    if actual.shape != expected.shape:
        return math.inf
    found, wanted = actual.astype(np.float64), expected.astype(np.float64)
    if not np.array_equal(np.isfinite(found), np.isfinite(wanted)):
        return math.inf
    with np.errstate(all="ignore"):
        difference = np.nan_to_num(found - wanted)
        scale = float(np.linalg.norm(np.nan_to_num(wanted))) or 1.0
        error = float(np.linalg.norm(difference)) / scale
    return error if math.isfinite(error) else math.inf
