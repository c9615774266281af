"""The repair of a model whose differences are proved; it is judged again before it is written."""

from __future__ import annotations

import functools
import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from parity import temporary
from parity.commands.compare_graphs import judge_models
from parity.commands.repair_candidate import (
    Candidate,
    is_edited_line,
    merge_texts,
    read_text,
    with_text,
    with_weights,
)
from parity.commands.repair_files import RepairFiles, refuse_existing
from parity.commands.repair_notes import ManualChanges, describe_rest
from parity.commands.repair_preparation import RepairPreparation
from parity.commands.repair_screen import Screen, Screened
from parity.commands.values import Progress, no_progress
from parity.comparison.graphs.request import GraphRequest
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.shared_constants import is_same_but_for_constants
from parity.comparison.graphs.state import GraphState
from parity.comparison.graphs.structure import main_node
from parity.comparison.results import Outcome
from parity.comparison.settings import OWN
from parity.errors import ChildError, OutputError, ParityError, UsageError
from parity.explain.graph_layers import GraphFinding
from parity.explain.repair.changes import LayerRepair, derive_repairs, join_repairs
from parity.explain.repair.neighbours import list_neighbours
from parity.explain.repair.plan import ModelRepair, plan_repair
from parity.explain.repair.source import CallPlace
from parity.explain.repair.source_files import SourceFiles
from parity.numerics.npz import load_npz, save_npz
from parity.processes.children import Children
from parity.processes.references import FILE, parse_reference
from parity.report.graph_assembly import GraphFindings, assemble_graph_report
from parity.report.model import Report, Verdict, decide_verdict

Array = NDArray[Any]

MAX_ROUNDS = 12
"""How often `--all` compares and repairs."""

MAX_ALTERNATIVES = 12
"""How many changes of the source are tried for one cause at one place of it, in one round."""

MAX_NEARBY = 4
"""How many changes that a run of the model suggests are compared for one cause, in one round."""

MAX_COMPARISONS = 60
"""How many changed models are compared in one search."""

MAX_RUNS = 480
"""How many changed sources are run in one search."""

MAX_CAUSE_RUNS = 192
"""How many of them for one cause."""

MAX_QUICK_RUNS = 60
"""How many of them for a cause of which a few changes are known that need no run."""

GUARD_SECONDS = 900.0
"""After this time a search begins no new run: a slow model's would take hours."""

MAX_UNEXPLAINED = 2
"""For how many layers without a proved cause the changes around their lines are tried."""

MAX_REFUSED = 2
"""How many repairs that fail on other inputs are taken back for another one."""

MAX_RETRY_RUNS = 48
MAX_RETRY_COMPARISONS = 8
"""What the search for another repair may take after one was refused: it is near, or seldom."""

UNSEEN_INPUTS = 2
"""The number of inputs, other than the one of the search, on which a repair is accepted."""


@dataclass(frozen=True)
class Repaired:
    """The result of a repair.

    `files` are those that were written, `changes` a sentence for each repair in them, `by_hand` the
    changes that are proved but cannot be written, with their place. `accepted` says that the
    repaired model is in parity, in float32 and in float64, on the request's input and on inputs
    that the search never saw; nothing was written otherwise. `remaining` says why it is not
    accepted.
    """

    accepted: bool
    files: tuple[Path, ...] = ()
    changes: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()
    remaining: str = ""
    reference: str = ""
    """How the repaired model is named from now on."""
    report: Report | None = None
    """The last comparison: on an unseen input if it was accepted."""
    shares_constants: bool = False
    """Whether both are the same in float64 once constants that differ by a rounding are equal."""


@dataclass
class _Round:
    """What the repairs of one comparison are made of, and what those before them have changed."""

    reference: str
    """The subject, as it is compared."""
    texts: Mapping[str, str] = field(default_factory=dict)
    weights: dict[str, Array] = field(default_factory=dict)
    """New weights by name."""
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """New settings of a Keras file's layers, by their paths."""


def fix_models(
    request: GraphRequest, out: Path, *, every: bool = False, progress: Progress = no_progress
) -> Repaired:
    """Repair the second of a request's two models; the first one is right.

    With `every` it compares and repairs until the models are in parity or nothing more is proved;
    else it repairs what one comparison proves. `out` is the folder of the new files, which is made.
    Raises `UsageError` for more models than two, and for weights that would be copied into a model
    file, `OutputError` if a file would be replaced, and other `ParityError`s as `compare` does.
    """
    if len(request.references) != 2:
        raise UsageError(f"fix takes two models, found {len(request.references)}")
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; --out names a folder")
    _refuse_copied_weights(request)
    with temporary.working_folder() as folder:
        return _Repairer(request, out, folder, every, progress).run()


def _refuse_copied_weights(request: GraphRequest) -> None:
    """Raise `UsageError` for weights that a model file to repair would get for the comparison.

    The repaired file would be judged with other weights than it holds.
    """
    reference = request.name_models()[1][2]
    if reference.form == FILE and _copies_weights(request):
        raise UsageError(
            f"--weights {request.weights}: {reference.text} is repaired with the weights that it "
            "holds; leave out --weights, and give the right model its own: REF,weights=FILE"
        )


def _copies_weights(request: GraphRequest) -> bool:
    """Return whether the models are compared with other weights than their own."""
    return request.weights not in (None, OWN)


@dataclass
class _Repairer:
    request: GraphRequest
    out: Path
    folder: Path
    every: bool
    progress: Progress
    by_hand: ManualChanges = field(default_factory=ManualChanges)
    tried: set[str] = field(default_factory=set)
    comparisons: int = 0
    """How many changed models have been compared."""
    _count: int = 0
    _round: _Round = field(default_factory=lambda: _Round(""))
    _failing: frozenset[str] = frozenset()
    """The layers that fail in the comparison of this round, those behind a wrong shape too."""
    _in_parity: Candidate | None = None
    """The candidate that the last trial has found in parity."""
    _trials: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many changes were tried in this round, by cause and line."""
    _last_comparison: int = field(default_factory=lambda: MAX_COMPARISONS)
    """After how many comparisons the search ends."""
    _end: float = field(default_factory=lambda: time.monotonic() + GUARD_SECONDS)
    _source: SourceFiles = field(default_factory=lambda: SourceFiles({}, {}))
    """The user's source at the beginning of this round."""

    def __post_init__(self) -> None:
        self.name, _, reference = self.request.name_models()[1]
        self._files = RepairFiles(reference, self.out)
        self._screen = Screen(self.name, self.folder, self.progress, MAX_RUNS, self._end)

    def run(self) -> Repaired:
        reference = self._files.reference
        if reference.form == FILE:
            refuse_existing(self._files.name_model(Path(reference.target).suffix))
        refused: Repaired | None = None
        for _ in range(MAX_REFUSED):
            # Texts that were tried are not tried again, so that another repair is found.
            found = self._search(Candidate(reference.text))
            if found.accepted or not found.changes:
                return found if found.accepted or refused is None else refused
            refused = refused or found
            if not self._may_go_on():
                break
            screen = self._screen
            screen.last_run = min(screen.last_run, screen.runs + MAX_RETRY_RUNS)
            self._last_comparison = min(
                self._last_comparison, self.comparisons + MAX_RETRY_COMPARISONS
            )
        assert refused is not None
        return refused

    def _may_go_on(self) -> bool:
        """Return whether further changed models may be compared."""
        return self.comparisons < self._last_comparison and time.monotonic() < self._end

    def _search(self, candidate: Candidate) -> Repaired:
        """Repair round by round, and judge what that has made."""
        rounds = MAX_ROUNDS if self.every else 1
        remaining = ""
        for _ in range(rounds):
            try:
                found = self._improve(candidate)
            except ParityError as error:
                return self._refuse(candidate, error)
            if isinstance(found, Repaired):
                return found
            changed, remaining = found
            if changed is None:
                break
            candidate = changed
            for target, _ in self._files.name_files(candidate):
                refuse_existing(target)
        if not candidate.changes:
            by_hand = self.by_hand.describe()
            return Repaired(False, by_hand=by_hand, remaining=remaining + self._describe_search())
        try:
            return self._accept(candidate)
        except ParityError as error:
            return self._refuse(candidate, error)

    def _describe_search(self) -> str:
        """Return what was tried, as the end of a sentence, and whether that was all."""
        found = []
        if self._screen.runs:
            found.append(f"{self._screen.runs} changes of the source were run")
        if self.comparisons:
            many = "s were" if self.comparisons > 1 else " was"
            found.append(f"{self.comparisons} changed model{many} compared")
        said = f"; {' and '.join(found)}" if found else ""
        if self._may_go_on() and not self._screen.has_left_some:
            return said
        is_late = time.monotonic() >= self._end
        limit = f"after {GUARD_SECONDS:g} s" if is_late else "at its limit"
        return f"{said}; the search ended {limit}"

    def _refuse(self, candidate: Candidate, error: ParityError) -> Repaired:
        """Return that a changed model cannot be compared; raise the error of the given one.

        A helper function that constructs several layers, for example, takes a setting for all.
        """
        if not candidate.changes or isinstance(error, OutputError):
            raise error
        return Repaired(
            False,
            by_hand=(*candidate.changes, *self.by_hand.describe()),
            remaining=f"with these changes the model fails: {error}",
        )

    # One round -----------------------------------------------------------------------------------

    def _improve(self, candidate: Candidate) -> Repaired | tuple[Candidate | None, str]:
        """Compare once; return the candidate with what that proved undone, or None and why not."""
        if candidate is self._in_parity:
            return None, ""
        with self._compare(candidate, self.request) as (state, runner, findings, report):
            if report.ok:
                if candidate.changes:
                    return None, ""
                return Repaired(True, changes=("the models are in parity already",), report=report)
            if self.name not in state.models:
                raise _failure(report, self.name)
            repairs = _derive(findings.explanations, self.name)
            # What had the wrong shape before was not judged by itself.
            hidden = {row for name, row in findings.followers if name == self.name}
            self._failing = _failing_rows(findings) | hidden
            self._trials.clear()
            changed = candidate
            for each in self._order(self._plan(state, runner, repairs)):
                changed = self._repair(state, runner, findings, changed, each)
                if changed is self._in_parity:
                    break
            weights = (
                "" if repairs else self._describe_weights(report, state.reference.subject.name)
            )
            # No change of the source gives a model the weights that it lacks.
            if changed is candidate and not self._suffix() and not weights:
                unexplained = _list_unexplained(findings, self.name, repairs)
                for each in self._plan(state, runner, unexplained):
                    changed = self._search_nearby(state, runner, findings, candidate, each)
                    if changed is not candidate:
                        break
            if changed is not candidate:
                return changed, ""
            return None, describe_rest(report) + weights

    @staticmethod
    def _order(planned: Sequence[ModelRepair]) -> Sequence[ModelRepair]:
        """Return the repairs to make now.

        A checkpoint of a model that lacks a weight does not fit the one that has it: the values are
        those of the next comparison.
        """
        return [each for each in planned if each.texts and each.adds_weights] or planned

    def _repair(
        self,
        state: GraphState,
        runner: GraphRunner,
        findings: GraphFindings,
        candidate: Candidate,
        planned: ModelRepair,
    ) -> Candidate:
        """Return the candidate with one repair; as it is where none is found, which is noted."""
        changed, failure = candidate, ""
        if len(planned.texts) > 1:
            # One run of the model takes a part of the time of a comparison.
            changed = self._search_nearby(state, runner, findings, candidate, planned, quick=True)
        if changed is candidate and not planned.is_empty:
            changed, failure = self._apply(state, runner, candidate, planned)
        if changed is candidate and not planned.writes_file:
            changed = self._search_nearby(state, runner, findings, candidate, planned)
        is_own = is_edited_line(self._round.texts, planned.line)
        if changed is candidate and not is_own and not self._is_made(candidate, planned):
            self.by_hand.add(planned, failure)
        return changed

    def _is_made(self, candidate: Candidate, planned: ModelRepair) -> bool:
        """Return whether another layer's repair has changed what makes both."""
        return any(
            merge_texts(self._base(file), text, candidate.texts[file]) == candidate.texts[file]
            and candidate.texts[file] != self._base(file)
            for file, text in planned.texts
            if file in candidate.texts
        )

    def _base(self, file: str) -> str:
        """Return the text of a file at the beginning of this round."""
        return self._round.texts.get(file) or read_text(Path(file))

    def _plan(
        self, state: GraphState, runner: GraphRunner, repairs: Sequence[LayerRepair]
    ) -> list[ModelRepair]:
        model = state.models[self.name]
        paths = []
        for repair in repairs:
            row = state.table.by_name(repair.row)
            node = main_node(model.graph, row.nodes.get(self.name, ()))
            paths += [] if node is None else [node.path]
        for each in state.alignments[self.name].unpaired_other:
            paths.append(model.graph.by_id[each].path)
        paths += [node.path for node in model.graph.nodes if node.path]
        places: dict[str, CallPlace] = {}
        child = runner.children[model.subject.child]
        if not self._suffix():
            wanted = list(dict.fromkeys(path for path in paths if path))
            answer = child.call("find_constructors", paths=wanted)
            places = {p: CallPlace.from_json(each) for p, each in answer["places"].items()}
        source = SourceFiles(places, self._read_texts(places, self._round.texts))
        self._source = source
        return [plan_repair(state, self.name, each, source, self._suffix()) for each in repairs]

    def _describe_weights(self, report: Report, base: str) -> str:
        """Return the option for models whose weights differ everywhere, which has no cause."""
        weights = report.levels["weights"]
        if report.causes or weights.outcome is not Outcome.FAIL or self._suffix():
            return ""
        return f"; {weights.messages[0]}; --weights {base} compares both with those of {base}"

    def _suffix(self) -> str:
        """Return the suffix of the subject's file, empty where it is code."""
        reference = parse_reference(self._round.reference)
        return "" if reference.is_code or reference.zoo else Path(reference.target).suffix

    def _read_texts(
        self, places: Mapping[str, CallPlace], texts: Mapping[str, str]
    ) -> dict[str, str]:
        reference = parse_reference(self._round.reference)
        names = {place.file for place in places.values()}
        if reference.is_code and reference.target.endswith(".py"):
            names.add(str(Path(reference.target).resolve()))
        found = dict(texts)
        for name in names:
            if name not in found and "site-packages" not in name and Path(name).is_file():
                # A source in another encoding than UTF-8 is left for the user to change.
                with suppress(UnicodeDecodeError):
                    found[name] = read_text(Path(name))
        return found

    def _apply(
        self, state: GraphState, runner: GraphRunner, candidate: Candidate, planned: ModelRepair
    ) -> tuple[Candidate, str]:
        """Return the candidate with one repair, or as it is and why the repair is not written."""
        changes = (*candidate.changes, _describe_repair(planned))
        try:
            if planned.texts:
                return self._choose_text(candidate, planned, changes)
            return self._write_file(state, runner, candidate, planned, changes), ""
        except ParityError as error:
            return candidate, f" (not written: {error})"

    def _choose_text(
        self, candidate: Candidate, planned: ModelRepair, changes: tuple[str, ...]
    ) -> tuple[Candidate, str]:
        """Return the candidate with the first text after which the layer is right."""
        key = planned.repair.cause, planned.line
        failure = ""
        if self._is_made(candidate, planned):
            return candidate, ""
        options = self._merge_options(candidate, planned.texts)
        for file, text in options:
            if self._trials[key] >= MAX_ALTERNATIVES or not self._may_go_on():
                break
            self._trials[key] += 1
            tried = with_text(candidate, file, text, changes)
            try:
                is_right, is_harmless = self._try(tried, planned.repair.row)
            except ParityError as error:
                if len(options) == 1:
                    failure = f" ({tried.edit}: the model then fails: {error})"
                continue
            if is_right or (is_harmless and len(options) == 1):
                # The only change there is may be one of two that the layer needs.
                return tried, ""
        return candidate, failure

    def _merge_options(
        self, candidate: Candidate, texts: Iterable[tuple[str, str]]
    ) -> list[tuple[str, str]]:
        """Return the texts with what the candidate has changed already, but for those tried.

        They were made of the files as they were at the beginning of this round.
        """
        options: dict[tuple[str, str], None] = {}
        for file, text in texts:
            before = candidate.texts.get(file) or read_text(Path(file))
            merged = merge_texts(self._base(file), text, before)
            if merged is not None and merged != before and merged not in self.tried:
                options[file, merged] = None
        return list(options)

    def _search_nearby(
        self,
        state: GraphState,
        runner: GraphRunner,
        findings: GraphFindings,
        candidate: Candidate,
        planned: ModelRepair,
        *,
        quick: bool = False,
    ) -> Candidate:
        """Return the candidate with a change of a line of the cause after which its layer is right.

        The changes are run first; those whose outputs come near the reference's are compared, then,
        unless the search is to be `quick`, those that bring them the nearest.
        """
        if self._suffix() or not self._may_go_on():
            return candidate
        with self._screen.limit(MAX_QUICK_RUNS if quick else MAX_CAUSE_RUNS):
            found = list_neighbours(
                state, self.name, planned.repair, self._source, self._read_reference()
            )
            options = self._merge_options(candidate, itertools.chain(planned.texts, found))
            run = self._screen.run(
                state, runner, findings, candidate.reference, candidate.texts, options
            )
        changes = (*candidate.changes, _describe_repair(planned))
        present = 0.0 if quick else self._screen.measure_present(state, findings)
        for each in _select(run, present):
            if not self._may_go_on():
                break
            tried = with_text(candidate, each.file, each.text, changes)
            with suppress(ParityError):
                if self._try(tried, planned.repair.row)[0]:
                    return tried
        return candidate

    def _read_reference(self) -> dict[str, str]:
        """Return the source of the model that is right, by its file, where that is known."""
        reference = parse_reference(self.request.name_models()[0][2].text)
        file = Path(reference.target)
        if not reference.is_code or file.suffix != ".py":
            return {}
        with suppress(UnicodeDecodeError, OSError):
            return {str(file.resolve()): read_text(file)}
        return {}

    def _try(self, tried: Candidate, row: str) -> tuple[bool, bool]:
        """Return whether a change makes a layer right, and whether it makes no other one wrong.

        Raises `ParityError` if the model then fails.
        """
        self.comparisons += 1
        self.tried.update(tried.texts.values())
        self.progress(self.name, f"comparing change {self.comparisons}: {tried.edit}")
        with self._compare(tried, replace(self.request, explain=False)) as found:
            state, _, findings, report = found
            failing = _failing_rows(findings)
            self._in_parity = tried if report.ok else None
            if report.ok:
                return True, True
            if self.name not in state.models or report.subjects[self.name].failure:
                raise _failure(report, self.name)
            # A layer that has lost its partner is not right.
            is_paired = any(each.name == row for each in state.table.rows)
            is_harmless = is_paired and failing <= self._failing
            return is_harmless and row not in failing, is_harmless

    def _write_file(
        self,
        state: GraphState,
        runner: GraphRunner,
        candidate: Candidate,
        planned: ModelRepair,
        changes: tuple[str, ...],
    ) -> Candidate:
        """Write a checkpoint or a model with one repair more, and return the candidate with it."""
        model = state.models[self.name]
        child = runner.children[model.subject.child]
        self._count += 1
        suffix = self._suffix()
        # What other repairs of this round have written is not in the state.
        changed = {**self._round.weights, **planned.weights}
        values = {**load_npz(state.weights[self.name]), **changed}
        weights = self.folder / f"weights.{self._count}.npz"
        save_npz(weights, values)
        if suffix == ".onnx":
            source = candidate.model or Path(parse_reference(self._round.reference).target)
            path = self.folder / f"{self._files.stem}.{self._count}.onnx"
            child.call(
                "write_repaired",
                source=str(source),
                path=str(path),
                edits=list(planned.edits),
                weights=str(weights) if planned.weights else None,
            )
            self._round.weights = changed
            return replace(candidate, model=path, reference=str(path), changes=changes)
        if suffix:
            settings = {name: dict(each) for name, each in self._round.settings.items()}
            for name, each in planned.settings.items():
                settings.setdefault(name, {}).update(each)
            path = self.folder / f"{self._files.stem}.{self._count}{suffix}"
            child.call(
                "write_changed_model",
                path=str(path),
                changes=settings,
                weights=str(weights) if changed else None,
            )
            self._round.weights, self._round.settings = changed, settings
            return replace(candidate, model=path, reference=str(path), changes=changes)
        if _copies_weights(self.request):
            raise UsageError(f"a checkpoint would hold those of --weights {self.request.weights}")
        ending = ".weights.h5" if model.graph.framework == "keras" else ".pth"
        path = self.folder / f"{self._files.stem}.{self._count}{ending}"
        child.call("write_weights_file", path=str(path), weights=str(weights))
        self._round.weights = changed
        return replace(
            candidate,
            checkpoint=path,
            reference=with_weights(candidate.reference, path),
            changes=changes,
        )

    # Comparisons ---------------------------------------------------------------------------------

    @contextmanager
    def _compare(
        self, candidate: Candidate, request: GraphRequest, *, unseen: int = 0
    ) -> Iterator[tuple[GraphState, GraphRunner, GraphFindings, Report]]:
        """Compare the reference with a candidate; its children live until the end.

        Where `unseen` is not 0, that is the seed of another input.
        """
        outer = self._round
        request = replace(
            request,
            references=(request.references[0], f"{self.name}={candidate.reference}"),
            export=False,
        )
        # The first model is right, of whatever format.
        request = replace(request, reference=request.name_models()[0][0])
        self._count += 1
        folder = self.folder / f"round{self._count}"
        folder.mkdir()
        self._round = _Round(candidate.reference, dict(candidate.texts))
        try:
            with Children(python=request.python, timeout=request.timeout) as children:
                preparation = RepairPreparation(
                    request,
                    children,
                    folder,
                    self.progress,
                    texts=candidate.texts,
                    name=self.name,
                    unseen=unseen,
                )
                state = preparation.run()
                runner = GraphRunner(state, children, folder, self.progress)
                state, findings = judge_models(state, runner)
                report = assemble_graph_report(state, findings, 0.0)
                yield state, runner, findings, report
        finally:
            # A comparison may be made while the repairs of another one are planned.
            self._round = outer

    def _accept(self, candidate: Candidate) -> Repaired:
        """Judge a candidate on the request's input and on inputs that the search never saw.

        It is written if it is in parity on all of them.
        """
        request = replace(self.request, semantics=True, explain=False)
        shares_constants = False
        for number in range(UNSEEN_INPUTS + 1):
            with self._compare(candidate, request, unseen=number) as found:
                state, runner, findings, report = found
                semantics = report.levels["semantics"]
                if semantics.outcome is Outcome.FAIL and _differs_in_float64_alone(report):
                    assert findings.reference is not None
                    if is_same_but_for_constants(state, runner, findings.reference, self.name):
                        shares_constants = True
                        semantics = replace(semantics, outcome=Outcome.PASS)
                        levels = {**report.levels, "semantics": semantics}
                        report = replace(report, levels=levels, verdict=Verdict.PARITY)
            if not report.ok or semantics.outcome is not Outcome.PASS:
                return Repaired(
                    False,
                    changes=candidate.changes,
                    by_hand=self.by_hand.describe(),
                    remaining=f"with these changes {describe_rest(report)}",
                    report=report,
                )
        paths, reference = self._files.write(candidate)
        # In parity, nothing of what could not be written by itself is left to be done.
        return Repaired(True, paths, candidate.changes, (), "", reference, report, shares_constants)


def _derive(findings: Sequence[GraphFinding], name: str) -> list[LayerRepair]:
    """Return what undoes the proved causes of a subject, each once."""
    found: dict[tuple[str, str], LayerRepair] = {}
    for finding in findings:
        proof = None if finding.explanation is None else finding.explanation.proof
        if finding.subject != name or finding.layer is None or proof is None:
            continue
        for repair in _add_fitted(finding, derive_repairs(finding.layer, proof)):
            found.setdefault((repair.row, repair.text), repair)
    return _join_settings(list(found.values()))


def _add_fitted(finding: GraphFinding, repairs: Sequence[LayerRepair]) -> tuple[LayerRepair, ...]:
    """Return the repairs of a layer; of operations that differ, what their values suggest.

    That is one change, which stands for all that the operations say.
    """
    layer, explanation = finding.fitted
    if layer is None or explanation is None or explanation.proof is None or not repairs:
        return tuple(repairs)
    said = functools.reduce(join_repairs, repairs)
    return tuple(
        replace(each, cause=repairs[0].cause, text=said.text, remedy=said.remedy)
        for each in derive_repairs(layer, explanation.proof)[:1]
    )


def _join_settings(repairs: Sequence[LayerRepair]) -> list[LayerRepair]:
    """Return the repairs with those of one layer's settings as one: neither is enough alone."""
    found: dict[object, LayerRepair] = {}
    for number, each in enumerate(repairs):
        key: object = each.row if each.hyper and not each.kind else number
        found[key] = join_repairs(found[key], each) if key in found else each
    return list(found.values())


def _differs_in_float64_alone(report: Report) -> bool:
    """Return whether all but the level of float64 says that the models are the same."""
    if not report.stages:
        return False
    levels = {name: level for name, level in report.levels.items() if name != "semantics"}
    found = decide_verdict(subjects=report.subjects, levels=levels, stages=report.stages)
    return found is Verdict.PARITY


def _describe_repair(planned: ModelRepair) -> str:
    said = f"{planned.repair.cause}: {planned.repair.text}".removesuffix(": ")
    return f"{planned.place}: {said}" if planned.place else said


def _select(run: Sequence[Screened], present: float) -> list[Screened]:
    """Return the changes to compare: those near the reference, else those that are the nearest.

    `present` is the error without a change, of which less than half must be left.
    """
    near = [each for each in run if each.is_near]
    nearer = sorted(run, key=lambda each: each.error)
    return (near or [each for each in nearer if 2 * each.error < present])[:MAX_NEARBY]


def _list_unexplained(
    findings: GraphFindings, name: str, repairs: Sequence[LayerRepair]
) -> list[LayerRepair]:
    """Return what stands for the first failing layers of a subject whose cause is not proved."""
    known = {each.row for each in repairs}
    rows = [each.row.name for each in findings.explanations if each.subject == name]
    rows += [each.layer for each in findings.divergences if each.layer is not None]
    return [
        LayerRepair(name, row, "not-explained", "", "")
        for row in dict.fromkeys(rows)
        if row not in known
    ][:MAX_UNEXPLAINED]


def _failing_rows(findings: GraphFindings) -> frozenset[str]:
    return frozenset(each.layer for each in findings.divergences if each.layer is not None)


def _failure(report: Report, name: str) -> ParityError:
    return ChildError(f"{name}: {report.subjects[name].failure or 'cannot be run'}")
