"""Healthy models, loaded once, and comparisons of mutants of them."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from parity.commands.findings import judge_and_explain
from parity.comparison import semantics
from parity.comparison.levels import judge_structure
from parity.comparison.placement import plan_placement
from parity.comparison.preparation import Preparation
from parity.comparison.request import Request
from parity.comparison.runner import Runner
from parity.comparison.state import State
from parity.errors import ParityError
from parity.network import inputs, weights
from parity.processes.children import Children
from parity.report.assembly import Findings
from tests.studies.mutants.faults import FAULTS
from tests.studies.mutants.plan import Fault, Mutation, Place, Site
from tests.studies.mutants.result import Result

RUNTIMES = "tests.studies.mutants.runtimes,parity.runtimes"
SUBJECTS = ("keras", "torch", "onnx-torch")


class ChildPair:
    """Two children under one name: one runs the reference, the other one the mutants."""

    def __init__(self, healthy, mutant):
        self.healthy, self.mutant = healthy, mutant

    def call(self, operation, **arguments):
        if operation in ("load", "load_weights", "use_table"):
            self.mutant.call(operation, **arguments)
        child = self.healthy if operation in BY_REFERENCE else self.mutant
        return child.call(operation, **arguments)

    def __getattr__(self, name):
        return getattr(self.healthy, name)


class ShapeMismatch(Exception):
    """The framework does not run such a model: its shapes do not fit."""


CRASHES = (ParityError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""Errors that end a comparison without a report: the mutant was not detected."""

BY_REFERENCE = ("load", "load_weights", "use_table", "run_reference", "calibrate", "hello",
                "complete_table", "export_structure", "export_model", "run_graph_float64",
                "require_device")  # fmt: skip


class Bench:
    """One architecture: its children, the reference, and the weights that are right."""

    def __init__(self, name, *, subjects=SUBJECTS, **request):
        os.environ["PARITY_RUNTIMES"] = RUNTIMES
        self.folder = tempfile.TemporaryDirectory(prefix="mutants-")
        self.children = Children(timeout=600)
        self.spare = Children(timeout=600)
        get_child = self.children.__getitem__
        self.children.__class__ = type(
            "RoutingChildren", (Children,), {"__getitem__": self._route_torch(get_child)}
        )
        self.request = Request(subjects=subjects, isolate=True, input="random", **request)
        folder = Path(self.folder.name)
        placement = plan_placement(self.request)
        preparation = Preparation(self.request, self.children, folder, lambda *_: None, placement)
        self.state, self.runner = preparation.run(), preparation.runner
        for failure in (*self.state.failures.values(), *self.state.model_failures.values()):
            raise failure
        self.table = self.state.table
        self.weights_path = self.state.weights
        self.values = weights.load(self.weights_path, self.table)
        self.runs = self.state.subjects
        self.descriptions = self.state.descriptions
        self.name = name
        self.judge_count = 0
        self._states: dict[tuple[str, bool], tuple[State, Runner]] = {}
        # A mutant counts as detected if anything is reported, so nothing may be reported of these.
        structure = judge_structure(self.state, self.runner)
        if structure.outcome == "fail":
            raise AssertionError(structure.messages)
        for subject in self.runs:
            wrong = self._find_float64_differences(self.state, self.runner, subject)
            if wrong:
                raise AssertionError(f"{subject} differs in float64 by itself at {wrong[0].row}")

    def _route_torch(self, get_child):
        pairs = {}

        def get(children, name):
            child = get_child(name)
            if name != "torch":
                return child
            if name not in pairs:
                pairs[name] = ChildPair(child, self.spare[name])
            return pairs[name]

        return get

    def close(self):
        for child in (*self.children._children.values(), *self.spare._children.values()):
            child.close()
        self.folder.cleanup()

    # ------------------------------------------------------------------------------------------

    def sites(self) -> dict[str, Site]:
        """Return every row that both models have, by name."""
        sites, pad, previous_shape = {}, None, None
        for row in self.table.rows:
            if row.kind == "pad":
                pad = row.keras
                continue
            if row.in_both_models:
                image_shape = (
                    previous_shape
                    if row.kind == "dense" and previous_shape and len(previous_shape) == 3
                    else None
                )
                sites[row.name] = Site(
                    row.name, row.kind, row.block, row.keras, row.torch, row.shape, row.weights,
                    self.table.tensor_name(row), pad, image_shape,
                )  # fmt: skip
                previous_shape = row.shape
            pad = None
        return sites

    def places(self, fault: Fault, subject: str, seed: int):
        """Yield the mutations that a fault can make in a subject, in a seeded order."""
        sites = self.sites()
        layers = self.descriptions["torch"]["layers"]
        hypers = {layer["row"]: layer["hyper"] for layer in layers}
        key = [seed, *map(ord, fault.name), SUBJECTS.index(subject)]
        rng = np.random.default_rng(key)
        possible = [site for site in sites.values() if site.kind in fault.kinds]
        for index in rng.permutation(len(possible)):
            site = possible[index]
            place = Place(
                subject, site, hypers, sites, self.values, rng,
                self.table.points(self.request.depth)[0].row,
            )  # fmt: skip
            mutation = fault.plan(place)
            if mutation is not None:
                yield mutation

    def judge(self, subject: str, mutation: Mutation, *, isolate: bool):
        """Apply a mutation, compare the subject, and restore it.

        Return the findings, the level that detects the mutation, and the rows that it names.
        """
        child = self._child(subject)
        state, runner = self._prepare(mutation.depth, isolate=isolate)
        runner = replace(runner, devices={**runner.devices, subject: mutation.device})
        try:
            if mutation.weights:
                path = Path(self.folder.name) / "mutant.safetensors"
                weights.save(path, {**self.values, **mutation.weights})
                self._assign(subject, path)
            if mutation.changes:
                handle = {"handle": subject} if subject == "onnx-torch" else {}
                child.call("mutate", changes=list(mutation.changes), **handle)
            descriptions = dict(self.descriptions)
            if subject == "keras" or mutation.changes_description:
                shape = list(state.input.array.shape[1:])
                descriptions[subject] = child.call("describe", input_shape=shape)
            state = replace(state, descriptions=descriptions, subjects={}, failures={})
            for pattern in ("weights-*", "extra-*", "*.full.onnx"):
                for stale in Path(self.folder.name).rglob(pattern):
                    stale.unlink()
            try:
                if mutation.copies_weights:
                    self._assign(subject, self.weights_path)
                capture = runner.run_subject(subject, _rows(state), "capture")
            except ParityError as error:
                if not mutation.fails:
                    raise ShapeMismatch(str(error)) from error
                state = replace(state, failures={subject: error})
            else:
                run = replace(self.runs[subject], capture=capture.path)
                state = replace(state, subjects={subject: run})
            state, findings = judge_and_explain(state, runner)
            return findings, *self._find_level(state, runner, subject, findings, mutation)
        finally:
            child.call("restore")
            if mutation.weights or mutation.copies_weights:
                self._assign(subject, self.weights_path)

    def _prepare(self, depth: str, *, isolate: bool) -> tuple[State, Runner]:
        """Return the state and runner for mutants at a depth, with `--isolate` or without.

        Each has a folder of its own, since captures are found again by name.
        """
        key = depth, isolate
        if key not in self._states:
            folder = Path(self.folder.name) / f"{depth}-{isolate}"
            folder.mkdir()
            request = replace(self.request, depth=depth, isolate=isolate)
            runner = replace(self.runner, request=request, folder=folder)
            state = replace(self.state, request=request)
            reference = runner.run_reference(_rows(state), "capture", isolate=isolate)
            self._states[key] = replace(state, reference=reference), runner
        return self._states[key]

    def _child(self, subject):
        if subject == "torch":
            return self.spare["torch"]
        return self.children["onnx" if subject == "onnx-torch" else subject]

    def _assign(self, subject, path):
        child = self._child(subject)
        if subject != "onnx-torch":
            child.call("load_weights", path=str(path))
            return
        child.call(
            "load_structure",
            handle=subject,
            table=self.table.to_json(),
            structure=str(self.state.graphs["torch"]),
            path=str(path),
            side="torch",
        )

    def measure(self, fault: Fault, subject: str, mutation: Mutation, clock) -> Result:
        """Judge one mutant, and compare the report with the mutation.

        Every second one is judged without `--isolate`, as by the default command.
        """
        start = clock()
        isolate = self.judge_count % 2 == 0
        try:
            findings, level, level_rows = self.judge(subject, mutation, isolate=isolate)
        except CRASHES as error:
            findings, level, level_rows = Findings(), f"a crash: {error!r}", set()
        self.judge_count += 1
        causes = [c for c in findings.causes if c.subject == subject]
        layers = {divergence.layer for divergence in findings.divergences} or {
            c.layer for c in causes
        }
        isolated_errors = [
            c.evidence["x_floor_before"] for c in causes if "x_floor_before" in c.evidence
        ]
        expected = {row: mutation.expected.get(row, fault.expected) for row in mutation.rows}
        return Result(
            model=self.name,
            subject=subject,
            fault=fault.name,
            rows=mutation.rows,
            detected=not level.startswith("a crash")
            and bool(level or causes or findings.divergences),
            located=None if mutation.whole else (layers or level_rows) == set(mutation.rows),
            answers=tuple(dict.fromkeys((cause.layer, cause.cause) for cause in causes)),
            expected=tuple((row, tuple(sorted(names))) for row, names in expected.items()),
            nameable=fault.nameable,
            isolate=isolate,
            seconds=clock() - start,
            messages=tuple(cause.message for cause in causes),
            by=level,
            undetectable=mutation.undetectable,
            faintest=min(isolated_errors, default=None),
        )

    def _find_level(self, state: State, runner: Runner, subject: str, findings, mutation: Mutation):
        """Return the level of the comparison that detects a mutant, while it is applied.

        Also return the rows that a level without divergences names.
        """
        if subject in state.failures:
            return "failure", set()
        results = [stage.subjects[subject] for stage in findings.stages]
        if not all(result.status.passes for result in results):
            return "numerics", set()
        has_description = subject == "keras" or mutation.changes_description
        if has_description and judge_structure(state, runner).outcome == "fail":
            return "structure", set()
        if mutation.weights and subject != "onnx-torch":
            rows = self._find_weight_differences(subject)
            if rows:
                return "weights", rows
        wrong = self._find_float64_differences(state, runner, subject)
        if not wrong:
            return "", set()
        words = semantics.describe_float64_failure(state.comparison, runner, subject, wrong[0])
        return "semantics", {words.partition(" first at ")[2].partition(":")[0]}

    def _find_float64_differences(self, state: State, runner: Runner, subject: str):
        """Return the stages at which a subject differs in float64, as by `--semantics`."""
        stages = semantics.run_and_judge_float64(state.comparison, runner, subject, "exact")
        return [stage for stage in stages if not stage.subjects[subject].status.passes]

    def _find_weight_differences(self, subject) -> set[str]:
        """Return the rows whose weights differ, as `compare` finds them in users' own models."""
        path = Path(self.folder.name) / "mutant-weights.safetensors"
        self._child(subject).call("save_weights", path=str(path))
        lines = weights.describe_differences(self.values, weights.load(path, self.table))
        names = {line.partition(":")[0] for line in lines}
        return {row.name for row in self.table.rows for w in row.weights if w.name in names}

    def passes_unmutated(self, subject: str, seed: int) -> bool:
        """Return whether an unmutated subject passes on a seeded input, without any cause.

        Every second seed is compared without `--isolate`, as by the default command.
        """
        isolate = seed % 2 == 0
        state = replace(self.state, request=replace(self.request, isolate=isolate))
        shape = state.input.array.shape[1:]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clean.npy"
            np.save(path, inputs.load("random", shape, seed=1000 + seed).array)
            runner = replace(self.runner, request=state.request, folder=Path(folder), input=path)
            rows = _rows(state)
            reference = runner.run_reference(rows, "capture", isolate=isolate)
            capture = runner.run_subject(subject, rows, "capture")
            run = replace(self.runs[subject], capture=capture.path)
            state = replace(state, reference=reference, subjects={subject: run})
            _, findings = judge_and_explain(state, runner)
        results = [r for stage in findings.stages for r in (stage.subjects, stage.isolated)]
        passes = all(each[subject].status.passes for each in results if each)
        return passes and not (findings.causes or findings.divergences or findings.attribution)


def _rows(state: State) -> list[str]:
    """Return the rows of the comparison points at the compared depth."""
    return [point.row for point in state.table.points(state.request.depth)]


def faults_for(subject: str) -> list[Fault]:
    return [fault for fault in FAULTS if subject in fault.subjects]
