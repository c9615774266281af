"""The repair of a model whose differences are proved; it is judged again before it is written."""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity import files, temporary
from parity.commands.compare_graphs import judge_models
from parity.commands.values import Progress, no_progress
from parity.comparison.graphs.inputs import InputArrays
from parity.comparison.graphs.preparation import Preparation
from parity.comparison.graphs.request import GraphRequest, GraphSubject
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.state import GraphState, SubjectModel
from parity.comparison.graphs.structure import main_node
from parity.comparison.results import Outcome
from parity.comparison.settings import OWN
from parity.errors import ChildError, OutputError, ParityError, UsageError
from parity.explain.graph_layers import GraphFinding
from parity.explain.repair.changes import LayerRepair, derive_repairs, join_repairs
from parity.explain.repair.plan import ModelRepair, plan_repair
from parity.explain.repair.source import CallPlace, describe_edit, format_patch
from parity.explain.repair.source_files import SourceFiles
from parity.numerics.npz import load_npz, save_npz
from parity.processes.children import Children
from parity.processes.references import FILE, WEIGHTS, parse_reference
from parity.report.graph_assembly import GraphFindings, assemble_graph_report
from parity.report.model import Report

Array = NDArray[Any]

MAX_ROUNDS = 12
"""How often `--all` compares and repairs."""

MAX_ALTERNATIVES = 12
"""How many changes of the source are tried for one cause at one place of it, in one round."""

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


@dataclass(frozen=True)
class _Candidate:
    """The subject as it is repaired so far; `reference` names it for a comparison."""

    reference: str
    texts: Mapping[str, str] = field(default_factory=dict)
    """By source file, the text in its place."""
    checkpoint: Path | None = None
    model: Path | None = None
    changes: tuple[str, ...] = ()
    edit: str = ""
    """The last edit of a source file, in words."""


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
    by_hand: dict[str, None] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)
    _count: int = 0
    _round: _Round = field(default_factory=lambda: _Round(""))
    _failing: frozenset[str] = frozenset()
    """The layers that fail in the comparison of this round, those behind a wrong shape too."""
    _in_parity: _Candidate | None = None
    """The candidate that the last trial has found in parity."""
    _trials: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many changes were tried in this round, by cause and line."""

    def run(self) -> Repaired:
        name, _, reference = self.request.name_models()[1]
        self.name = name
        if reference.form == FILE:
            _refuse_existing(self._name_model(Path(reference.target).suffix))
        candidate = _Candidate(reference.text)
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
            for target, _ in self._name_files(candidate):
                _refuse_existing(target)
        if not candidate.changes:
            return Repaired(False, by_hand=tuple(self.by_hand), remaining=remaining)
        try:
            return self._accept(candidate)
        except ParityError as error:
            return self._refuse(candidate, error)

    def _refuse(self, candidate: _Candidate, error: ParityError) -> Repaired:
        """Return that a changed model cannot be compared; raise the error of the given one.

        A helper function that constructs several layers, for example, takes a setting for all.
        """
        if not candidate.changes or isinstance(error, OutputError):
            raise error
        return Repaired(
            False,
            by_hand=(*candidate.changes, *self.by_hand),
            remaining=f"with these changes the model fails: {error}",
        )

    # One round -----------------------------------------------------------------------------------

    def _improve(self, candidate: _Candidate) -> Repaired | tuple[_Candidate | None, str]:
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
            if not repairs:
                base = state.reference.subject.name
                return None, _describe_rest(report) + self._describe_weights(report, base)
            planned = self._plan(state, runner, repairs)
            # A checkpoint of a model that lacks a weight does not fit the one that has it: the
            # values are those of the next comparison.
            added = [each for each in planned if each.texts and each.adds_weights]
            planned = added or planned
            # What had the wrong shape before was not judged by itself.
            hidden = {row for name, row in findings.followers if name == self.name}
            self._failing = _failing_rows(findings) | hidden
            self._trials.clear()
            changed = candidate
            for each in planned:
                if each.is_empty:
                    self._note_by_hand(each)
                    continue
                changed = self._apply(state, runner, changed, each)
                if changed is self._in_parity:
                    break
            return (None, _describe_rest(report)) if changed is candidate else (changed, "")

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
                    found[name] = _read_text(Path(name))
        return found

    def _apply(
        self, state: GraphState, runner: GraphRunner, candidate: _Candidate, planned: ModelRepair
    ) -> _Candidate:
        """Return the candidate with one repair, or as it is if the repair cannot be written."""
        line = f"{planned.place}: {planned.repair.cause}: {planned.repair.text}"
        changes = (*candidate.changes, line)
        try:
            if planned.texts:
                return self._choose_text(candidate, planned, changes)
            return self._write_file(state, runner, candidate, planned, changes)
        except ParityError as error:
            self.by_hand[f"{line}. {planned.repair.remedy} (not written: {error})"] = None
            return candidate

    def _choose_text(
        self, candidate: _Candidate, planned: ModelRepair, changes: tuple[str, ...]
    ) -> _Candidate:
        """Return the candidate with the first text after which the layer is right."""
        options: list[tuple[str, str]] = []
        key = planned.repair.cause, planned.line
        failure = ""
        for file, text in planned.texts:
            before = candidate.texts.get(file) or _read_text(Path(file))
            base = self._round.texts.get(file) or _read_text(Path(file))
            # The texts were made of the file as it was at the beginning of this round.
            merged = _merge(base, text, before)
            if merged == before and before != base:
                # Another layer's repair has changed what makes both.
                return candidate
            if merged is not None and merged not in self.tried and (file, merged) not in options:
                options.append((file, merged))
        for file, text in options:
            if self._trials[key] >= MAX_ALTERNATIVES:
                break
            self._trials[key] += 1
            tried = _with_text(candidate, file, text, changes)
            self.tried.add(text)
            try:
                is_right, is_harmless = self._try(tried, planned.repair.row)
            except ParityError as error:
                if len(options) == 1:
                    failure = f" ({tried.edit}: the model then fails: {error})"
                continue
            if is_right or (is_harmless and len(options) == 1):
                # The only change there is may be one of two that the layer needs.
                return tried
        self._note_by_hand(planned, failure)
        return candidate

    def _try(self, tried: _Candidate, row: str) -> tuple[bool, bool]:
        """Return whether a change makes a layer right, and whether it makes no other one wrong.

        Raises `ParityError` if the model then fails.
        """
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
        candidate: _Candidate,
        planned: ModelRepair,
        changes: tuple[str, ...],
    ) -> _Candidate:
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
            path = self.folder / f"{self._stem()}.{self._count}.onnx"
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
            path = self.folder / f"{self._stem()}.{self._count}{suffix}"
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
        path = self.folder / f"{self._stem()}.{self._count}{ending}"
        child.call("write_weights_file", path=str(path), weights=str(weights))
        self._round.weights = changed
        return replace(
            candidate,
            checkpoint=path,
            reference=_with_weights(candidate.reference, path),
            changes=changes,
        )

    def _note_by_hand(self, planned: ModelRepair, failure: str = "") -> None:
        repair = planned.repair
        where = f"{planned.place}: " if planned.place else ""
        line = f" ({planned.line})" if planned.line else ""
        self.by_hand[f"{where}{repair.cause}: {repair.text}. {repair.remedy}{line}{failure}"] = None

    # Comparisons ---------------------------------------------------------------------------------

    @contextmanager
    def _compare(
        self, candidate: _Candidate, request: GraphRequest, *, unseen: int = 0
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
                preparation = _RepairPreparation(
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

    def _accept(self, candidate: _Candidate) -> Repaired:
        """Judge a candidate on the request's input and on inputs that the search never saw.

        It is written if it is in parity on all of them.
        """
        request = replace(self.request, semantics=True, explain=False)
        for number in range(UNSEEN_INPUTS + 1):
            with self._compare(candidate, request, unseen=number) as (_, _, _, report):
                pass
            semantics = report.levels["semantics"].outcome
            if not report.ok or semantics is not Outcome.PASS:
                return Repaired(
                    False,
                    changes=candidate.changes,
                    by_hand=tuple(self.by_hand),
                    remaining=f"with these changes {_describe_rest(report)}",
                    report=report,
                )
        paths, reference = self._write(candidate)
        # In parity, nothing of what could not be written by itself is left to be done.
        return Repaired(True, paths, candidate.changes, (), "", reference, report)

    # Files ---------------------------------------------------------------------------------------

    def _stem(self) -> str:
        stem = self.request.name_models()[1][2].stem
        return re.sub(r"[^A-Za-z0-9_.-]", "_", stem)

    def _write(self, candidate: _Candidate) -> tuple[tuple[Path, ...], str]:
        """Write the files of an accepted candidate; none of them may exist."""
        planned = self._name_files(candidate)
        for target, _ in planned:
            _refuse_existing(target)
        self.out.mkdir(parents=True, exist_ok=True)
        for target, content in planned:
            with files.atomic_write(target) as part:
                if isinstance(content, Path):
                    shutil.copyfile(content, part)
                else:
                    part.write_bytes(content.encode())
        reference = self.request.name_models()[1][2].text
        if candidate.model is not None:
            reference = str(self._name_model(candidate.model.suffix))
        if candidate.checkpoint is not None:
            reference = _with_weights(reference, self._name_checkpoint(candidate.checkpoint))
        return tuple(target for target, _ in planned), reference

    def _name_files(self, candidate: _Candidate) -> list[tuple[Path, Path | str]]:
        """Return the files that a candidate is written to, each with a file to copy or its text."""
        planned: list[tuple[Path, Path | str]] = []
        if candidate.model is not None:
            planned.append((self._name_model(candidate.model.suffix), candidate.model))
        if candidate.checkpoint is not None:
            target = self._name_checkpoint(candidate.checkpoint)
            planned.append((target, candidate.checkpoint))
        patches = _name_patches(candidate.texts)
        for file, text in candidate.texts.items():
            name = os.path.relpath(file, _find_root(Path(file)))
            patch = format_patch(_read_text(Path(file)), text, name.replace(os.sep, "/"))
            planned.append((self.out / patches[file], patch))
        return planned

    def _name_model(self, suffix: str) -> Path:
        return self.out / f"{self._stem()}.repaired{suffix}"

    def _name_checkpoint(self, path: Path) -> Path:
        ending = "".join(path.suffixes[-2:])
        return self._name_model(ending if ending == ".weights.h5" else path.suffix)


@dataclass
class _RepairPreparation(Preparation):
    """Loads the subject `name` with other texts of its source files, and keeps its constructors."""

    texts: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    unseen: int = 0
    """The seed of an input that takes the place of the request's; 0 for the request's own."""

    def read_models(self) -> tuple[list[GraphSubject], GraphSubject, dict[str, SubjectModel]]:
        subjects, reference, models = super().read_models()
        if self.unseen:
            model = models[reference.name]
            rng = np.random.default_rng([self.request.seed, 101, self.unseen])
            arrays = {name: _draw_like(each, rng) for name, each in model.inputs.arrays.items()}
            inputs = InputArrays(arrays, f"other than the search's, seed {self.unseen}")
            inputs.save(model.input_file)
            models[reference.name] = replace(model, inputs=inputs)
        return subjects, reference, models

    def _load_in(
        self, subject: GraphSubject
    ) -> tuple[GraphSubject, dict[str, Any], dict[str, str]]:
        reference = subject.reference
        if subject.name == self.name and reference is not None and reference.is_code:
            child = self.children[subject.child]
            child.hello()
            child.call("trace_constructors")
            if self.texts:
                others = {}
                for number, (file, text) in enumerate(self.texts.items()):
                    path = self.folder / f"source.{number}.py"
                    path.write_bytes(text.encode())
                    others[file] = str(path)
                child.call("replace_sources", files=others)
        return super()._load_in(subject)


def _with_text(candidate: _Candidate, file: str, text: str, changes: tuple[str, ...]) -> _Candidate:
    """Return a candidate with another text of a source file; the last change says what it is."""
    before = candidate.texts.get(file) or _read_text(Path(file))
    edit = describe_edit(before, text, Path(file).name)
    changes = (*changes[:-1], f"{changes[-1]} ({edit})")
    texts = {**candidate.texts, file: text}
    return replace(candidate, texts=texts, changes=changes, edit=edit)


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


def _failing_rows(findings: GraphFindings) -> frozenset[str]:
    return frozenset(each.layer for each in findings.divergences if each.layer is not None)


def _describe_rest(report: Report) -> str:
    """Return what is left of the differences, in one sentence."""
    for failed in report.subjects.values():
        if failed.failure:
            return failed.failure
    unexplained = [each for each in report.causes if each.cause == "not-explained"]
    if unexplained:
        layers = ", ".join(each.layer for each in unexplained[:3])
        more = f" and {len(unexplained) - 3} more" if len(unexplained) > 3 else ""
        return f"no cause is proved for {layers}{more}"
    first = report.first_divergence
    if first is not None:
        return f"the models differ first at {first.layer or first.point}"
    messages = [m for level in report.levels.values() if level.outcome is Outcome.FAIL
                for m in level.messages]  # fmt: skip
    return messages[0] if messages else "the models differ"


def _failure(report: Report, name: str) -> ParityError:
    return ChildError(f"{name}: {report.subjects[name].failure or 'cannot be run'}")


def _draw_like(array: Array, rng: np.random.Generator) -> Array:
    """Return other values of an input: noise of its mean and spread, or integers of its range."""
    if array.dtype.kind == "f":
        spread = float(array.std()) or 1.0
        noise = float(array.mean()) + spread * rng.standard_normal(array.shape)
        return np.asarray(noise, array.dtype)
    if array.dtype.kind == "b":
        return rng.permuted(array.reshape(-1)).reshape(array.shape)
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    return rng.integers(low, high + 1, array.shape).astype(array.dtype)


def _with_weights(reference: str, path: Path) -> str:
    """Return a reference whose option `weights` is this file."""
    parsed = parse_reference(reference)
    text = reference
    if WEIGHTS in parsed.options:
        text = re.sub(rf",\s*{WEIGHTS}=[^,]*", "", reference)
    return f"{text},{WEIGHTS}={path}"


def _read_text(path: Path) -> str:
    with path.open(encoding="utf-8", newline="") as stream:
        return stream.read()


def _merge(base: str, changed: str, other: str) -> str | None:
    """Return `other`, which was made of `base` too, with the change from `base` to `changed`.

    None where both changed the same lines.
    """
    if base == other:
        return changed
    first, second, third = (text.splitlines(keepends=True) for text in (base, changed, other))
    if not len(first) == len(second) == len(third):
        return None
    merged = []
    for old, new, line in zip(first, second, third, strict=True):
        if old != new and old != line and new != line:
            return None
        merged.append(new if old != new else line)
    return "".join(merged)


def _name_patches(sources: Iterable[str]) -> dict[str, str]:
    """Return, by source file, a patch's name that no other has: `blocks.patch`, `blocks.2.patch`.

    A name that differs from another one in upper and lower case alone is taken too.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for file in sources:
        name, number = f"{Path(file).stem}.patch", 1
        while name.casefold() in taken:
            number += 1
            name = f"{Path(file).stem}.{number}.patch"
        taken.add(name.casefold())
        names[file] = name
    return names


def _refuse_existing(path: Path) -> None:
    """Raise `OutputError` for a file that would be replaced."""
    if path.exists():
        raise OutputError(f"{path}: exists already; give another --out")


def _find_root(file: Path) -> Path:
    """Return the folder from which a file's patch is applied: its repository's, else its own."""
    for folder in file.parents:
        if (folder / ".git").exists():
            return folder
    cwd = Path.cwd()
    return cwd if file.is_relative_to(cwd) else file.parent
