"""`parity.reduce`: the smallest part of two models that shows their difference, as one file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity import files, temporary
from parity.commands import piece_trial
from parity.commands.compare_graphs import judge_models
from parity.commands.graph_command import format_graph_command
from parity.commands.notebooks import show_in_notebooks
from parity.commands.outputs import require_outputs
from parity.commands.piece_file import MARK, render_file
from parity.commands.values import (
    ImageSize,
    Progress,
    find_interpreters,
    no_progress,
    parse_image_size,
)
from parity.comparison.graphs.pieces import Piece, cut_piece, propose_places
from parity.comparison.graphs.preparation import Preparation
from parity.comparison.graphs.request import GraphRequest
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.state import GraphState
from parity.defaults import LIMIT
from parity.errors import ChildError, GraphError, OutputError, UsageError
from parity.explain.cause import Cause
from parity.explain.messages import UNKNOWN
from parity.numerics.npz import load_npz
from parity.numerics.verdict import FirstDivergence
from parity.processes.children import Children
from parity.processes.interpreters import select_interpreter
from parity.processes.scripts import ScriptResult, run_script
from parity.report.graph_assembly import assemble_graph_report
from parity.report.model import Report
from parity.version import __version__

Array = NDArray[Any]

MAX_RUNS = 5
"""How many pieces are run before there is said to be none."""

LONGEST_RUN_S = 300.0
"""Seconds that a run of a piece may take; no more than the request's own limit."""


@dataclass(frozen=True)
class Reduction:
    """The result of `reduce`. `path` is None where no file was written, and `reason` says why."""

    path: Path | None
    reason: str
    report: Report
    """The comparison of the whole models."""
    layers: int = 0
    """The number of layers in the piece, in the model that has more.

    Operations of a layer, and those that one line of the model's own code states, count as one.
    """
    operations: Mapping[str, Sequence[str]] | None = None
    """The operations by subject."""
    error: float = 0.0
    """The largest absolute error of the model that differs, in the piece."""
    floor: float = 0.0
    """How far rounding moves the piece, as the file measures it."""
    causes: tuple[Cause, ...] = ()
    """Why the models differ there, where it is proved."""


@dataclass(frozen=True)
class _Trial:
    """A piece that was run: its arrays, made smaller, and the errors on all of them."""

    piece: Piece
    arrays: Mapping[str, Array]
    error: float
    floor: float


@show_in_notebooks
def reduce(
    right: str,
    other: str,
    out: str | Path,
    *,
    weights: str | Path | None = None,
    input: str | Path | NDArray[Any] | None = None,
    inputs: Mapping[str, str | Path | NDArray[Any]] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    batch: int | None = None,
    image_size: ImageSize | None = None,
    seed: int = 0,
    trust: Sequence[str | Path] = (),
    custom_objects: str | Path | None = None,
    limit: float = LIMIT,
    python: Mapping[str, str | Path] | None = None,
    timeout: float = 900.0,
    progress: Progress | None = None,
) -> Reduction:
    """Write the smallest part of two models that shows their first difference, as one file.

    The file `out` ends in .py. It has a few layers of both models in their frameworks' own code,
    their weights and one input, prints both errors and the rounding floor, and exits with 1. It was
    run, and showed the difference that the whole models have; otherwise there is no file, and the
    `reason` says why. Arrays above 48 kB are in an .npz file beside it. The other parameters are
    those of `parity.compare`. Everything runs on the CPU.

    Raises a `ParityError` as `compare` does, `OutputError` for a file that parity did not make.

    Example:
        >>> reduction = parity.reduce("net.py:net", "broken.onnx", "bug.py")
        >>> reduction.layers
        1
    """
    request = GraphRequest(
        references=(right, other),
        weights=None if weights is None else str(weights),
        input=input,
        inputs=dict(inputs or {}),
        shapes={name: tuple(shape) for name, shape in (shapes or {}).items()},
        batch=batch,
        image_size=parse_image_size(image_size),
        seed=seed,
        trust=tuple(map(str, trust)),
        custom_objects=None if custom_objects is None else str(custom_objects),
        limit=limit,
        device="cpu",
        python=find_interpreters(python),
        timeout=timeout,
        export=False,
    )
    return reduce_models(request, Path(out), progress=progress or no_progress)


def reduce_models(
    request: GraphRequest,
    out: Path,
    *,
    children: Children | None = None,
    progress: Progress = no_progress,
) -> Reduction:
    """Compare a request's two models, and write their smallest differing part to `out`.

    Raises `UsageError` for more models than two, `OutputError` for a file that cannot be written or
    that parity did not make, and other `ParityError`s as `compare` does.
    """
    if len(request.references) != 2:
        raise UsageError(f"reduce takes two models, found {len(request.references)}")
    _require_out(request, out)
    # The first model is right, of whatever format.
    request = replace(request, reference=request.name_models()[0][0])
    with temporary.working_folder() as folder:
        if children is not None:
            return _Reducer(request, out, folder, children, progress).run()
        with Children(python=request.python, timeout=request.timeout) as own:
            return _Reducer(request, out, folder, own, progress).run()


def _require_out(request: GraphRequest, out: Path) -> None:
    """Raise `OutputError` for a name that no file of a piece can have, or a file of another's."""
    if out.suffix != ".py":
        raise OutputError(f"{out}: expected the name of a Python file, such as bug.py")
    models = [reference for _, _, reference in request.name_models()]
    read = [each.target for each in models if each.target]
    require_outputs([out, _arrays_beside(out)], [*read, request.input, *request.inputs.values()])
    is_made = _is_made(out)
    if out.exists() and not is_made:
        raise OutputError(f"{out}: exists, and parity did not make it; give another name")
    beside = _arrays_beside(out)
    if beside.exists() and not is_made:
        raise OutputError(f"{beside}: exists, and parity did not make it; give another name")


def _arrays_beside(out: Path) -> Path:
    return out.with_suffix(".npz")


def _is_made(path: Path) -> bool:
    """Return whether a file is one that `parity reduce` has written."""
    try:
        with files.open_regular(path) as file:
            return file.read(len(MARK)) == MARK.encode()
    except OSError:
        return False


@dataclass(frozen=True)
class _Reducer:
    request: GraphRequest
    out: Path
    folder: Path
    children: Children
    progress: Progress

    def run(self) -> Reduction:
        preparation = Preparation(self.request, self.children, self.folder, self.progress)
        state = preparation.run()
        runner = GraphRunner(state, self.children, self.folder, self.progress)
        state, findings = judge_models(state, runner)
        runner = replace(runner, state=state)
        report = assemble_graph_report(state, findings, 0.0)
        for failed in report.subjects.values():
            if failed.failure:
                raise ChildError(failed.failure)
        if report.ok:
            return Reduction(None, "no difference: the models are in parity", report)
        other = self.request.name_models()[1][0]
        first = next((each for each in findings.divergences if each.subject == other), None)
        if first is None:
            reason = "no output differs; the differences are of structure or weights alone"
            return Reduction(None, reason, report)
        trial, reason = self._find_piece(state, runner, first)
        if trial is None:
            return Reduction(None, reason, report)
        reason = self._write(state, trial, report)
        if reason:
            return Reduction(None, reason, report)
        sides = (trial.piece.reference, trial.piece.subject)
        return Reduction(
            self.out,
            "",
            report,
            trial.piece.size,
            {side.subject: side.code.labels for side in sides},
            trial.error,
            trial.floor,
            _list_proved(report, trial.piece),
        )

    # The piece -----------------------------------------------------------------------------------

    def _find_piece(
        self, state: GraphState, runner: GraphRunner, first: FirstDivergence
    ) -> tuple[_Trial | None, str]:
        """Return the first piece that shows the difference, else why the last one does not."""
        # The float64 reading of an ONNX file is no model of its own.
        reference = self.request.name_models()[0][0]
        reason, runs, seen = "no part of the models can be cut out", 0, set[object]()
        for place in propose_places(state, first.subject, first.layer, first.stage):
            try:
                piece = cut_piece(state, runner, reference, first.subject, place)
            except GraphError as error:
                reason = str(error)
                continue
            key = (place.end.name, piece.reference.code, piece.subject.code)
            if key in seen:
                continue
            seen.add(key)
            trial, reason = self._try(piece, runs)
            if trial is not None:
                return trial, ""
            runs += 1
            if runs == MAX_RUNS:
                break
        return None, reason

    def _try(self, piece: Piece, number: int) -> tuple[_Trial | None, str]:
        """Run a piece; return it if it shows what the whole models do, else why not."""
        self.progress("parity", f"running {piece.size} layers alone")
        path = self.folder / f"piece{number}" / self.out.name
        path.parent.mkdir()
        self._save(path, piece, piece.arrays, ())
        result = path.with_name("result.npz")
        script = path.with_name("trial.py")
        script.write_text(Path(piece_trial.__file__).read_text(encoding="utf-8"), encoding="utf-8")
        ended = self._run(script, str(path), str(result))
        if ended.code != 0 or not result.exists():
            return None, f"the piece at {piece.end.name} did not run: {_describe_end(ended)}"
        found = load_npz(result)
        reference, error, floor = map(float, found["errors"])
        limit = self.request.limit
        if not reference <= limit * floor:
            return None, f"{piece.end.name}: the reference's part differs from itself in float64"
        if error <= limit * floor:
            return None, f"{piece.end.name}: alone, its part shows no difference"
        # The same difference: what each part gives is what it gave inside of its model.
        for name, inside in (("exact", piece.expected), ("subject", piece.found)):
            if not _is_same(found[name], inside, limit * floor + 1e-3 * error):
                return None, f"{piece.end.name}: its part gives other values than inside the model"
        smaller = {
            name.removeprefix("input/"): value
            for name, value in found.items()
            if name.startswith("input/")
        }
        return _Trial(piece, smaller or piece.arrays, error, floor), ""

    def _run(self, script: Path, *arguments: str) -> ScriptResult:
        # The first interpreter that has both frameworks is either model's own.
        pythons = dict.fromkeys(
            select_interpreter(child.name, self.request.python or {}) for child in self.children
        )
        timeout = min(self.request.timeout, LONGEST_RUN_S)
        ended = ScriptResult(None, "", "")
        for python in pythons:
            ended = run_script(script, arguments, python=python, timeout=timeout)
            if ended.code is not None and "ModuleNotFoundError" not in ended.err:
                break
        return ended

    # The file ------------------------------------------------------------------------------------

    def _write(self, state: GraphState, trial: _Trial, report: Report) -> str:
        """Write the file if it shows the difference; return why it was not written."""
        head = list(self._describe(state, trial, report))
        path = self.folder / "final" / self.out.name
        path.parent.mkdir()
        self._save(path, trial.piece, trial.arrays, head)
        ended = self._run(path)
        if ended.code != 1 or "verdict: they differ" not in ended.out:
            return f"the file does not show the difference: {_describe_end(ended)}"
        beside = _arrays_beside(path)
        for source, target in ((beside, _arrays_beside(self.out)), (path, self.out)):
            if source.exists():
                with files.atomic_write(target) as part:
                    part.write_bytes(source.read_bytes())
        if not beside.exists():
            # That of an earlier run, which the file before this one has read.
            _arrays_beside(self.out).unlink(missing_ok=True)
        return ""

    def _save(
        self, path: Path, piece: Piece, arrays: Mapping[str, Array], head: Sequence[str]
    ) -> None:
        text, packed = render_file(piece, arrays, head, limit=self.request.limit, file=self.out)
        path.write_text(text, encoding="utf-8")
        if packed is not None:
            _arrays_beside(path).write_bytes(packed)

    def _describe(self, state: GraphState, trial: _Trial, report: Report) -> Iterator[str]:
        """Yield the lines at the file's head."""
        piece = trial.piece
        yield f"by parity {__version__}: the smallest part of two models that differs"
        yield f"command: {self._format_command()}"
        for name, _, reference in self.request.name_models():
            if name in state.models:
                model = state.models[name]
                versions = ", ".join(f"{key} {value}" for key, value in model.versions.items())
                yield f"{name}: {reference.text} ({versions})"
        yield f"input: {report.input.source}, SHA-256 {report.input.sha256[:16]}"
        yield f"weights: SHA-256 {report.weights.sha256[:16]}"
        yield f"first difference: {piece.end.name}"
        for side in (piece.reference, piece.subject):
            yield f"{side.subject} computes {', '.join(side.code.labels) or 'nothing'}"
        yield (
            f"the part alone, on the whole input that it has inside the models: error "
            f"{trial.error:.3e}, floor {trial.floor:.3e}"
        )
        for cause in _list_proved(report, piece):
            yield f"proved: {cause.message}"
        yield "the first model is taken as right; exit code 1: they differ, 0: they do not"

    def _format_command(self) -> str:
        plain = replace(self.request, export=True, device="auto", reference=None)
        words = list(format_graph_command(plain))
        if not words:
            words = ["parity", "compare", *self.request.references]
        return shlex.join(["parity", "reduce", *words[2:], "--out", self.out.name])


def _is_same(array: Array, inside: Array, tolerance: float) -> bool:
    if array.shape != inside.shape:
        return False
    with np.errstate(invalid="ignore"):
        error = np.abs(array.astype(np.float64) - inside)
    equal = (array == inside) | (np.isnan(array) & np.isnan(inside))
    return bool(np.all(equal | (error <= tolerance)))


def _describe_end(ended: ScriptResult) -> str:
    if ended.code is None:
        return "it took too long"
    text = ended.last_line or next(iter(reversed(ended.out.splitlines())), "")
    return re.sub(r"\s+", " ", text)[:300] or f"exit code {ended.code}"


def _list_proved(report: Report, piece: Piece) -> tuple[Cause, ...]:
    """Return the causes that are proved of the layer that a piece ends with."""
    return tuple(c for c in report.causes if c.layer == piece.end.name and c.cause != UNKNOWN)
