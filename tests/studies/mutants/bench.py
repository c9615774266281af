"""Healthy models loaded once, mutants of them judged one after the other by the tool itself."""

from __future__ import annotations

import copy
import os
import tempfile
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
from parity.comparison.flow import Flow

from parity.commands import compare as run
from parity.comparison import investigate
from parity.comparison.placement import plan
from parity.comparison.request import Request
from parity.errors import ParityError
from parity.network import inputs, weights
from parity.processes.children import Children
from tests.studies.mutants.faults import FAULTS
from tests.studies.mutants.plan import Fault, Mutation, Place, Site
from tests.studies.mutants.result import Result

RUNTIMES = "tests.studies.mutants.runtimes,parity.runtimes"
SUBJECTS = ("keras", "torch", "onnx-torch")


class Twice:
    """A child for the reference and another one for the mutants: one name, two models."""

    def __init__(self, healthy, mutant):
        self.healthy, self.mutant = healthy, mutant

    def call(self, operation, **arguments):
        if operation in ("load", "assign", "use_table"):
            self.mutant.call(operation, **arguments)
        chosen = self.healthy if operation in BY_REFERENCE else self.mutant
        return chosen.call(operation, **arguments)

    def __getattr__(self, name):
        return getattr(self.healthy, name)


class Refused(Exception):
    """The framework itself does not run such a model: its shapes fit no longer."""


CRASHES = (ParityError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What ends a comparison with no word of what is wrong: the mutant was not detected."""

BY_REFERENCE = ("load", "assign", "use_table", "reference", "calibrate", "hello", "complete",
                "export", "export_model", "run_graph", "require")  # fmt: skip


class Bench:
    """One architecture: its children, the reference, and the weights that are right."""

    def __init__(self, name, *, subjects=SUBJECTS, **request):
        os.environ["PARITY_RUNTIMES"] = RUNTIMES
        self.folder = tempfile.TemporaryDirectory(prefix="mutants-")
        self.children = Children(timeout=600)
        self.spare = Children(timeout=600)
        held = self.children.__getitem__
        self.children.__class__ = type("Routed", (Children,), {"__getitem__": self._routed(held)})
        self.request = Request(subjects=subjects, isolate=True, input="random", **request)
        folder = Path(self.folder.name)
        placement = plan(self.request)
        self.flow = Flow(self.request, self.children, folder, lambda *told: None, placement)
        self.flow.execute()
        if self.flow.failures:
            raise next(iter(self.flow.failures.values()))
        self.table = self.flow.table.result()
        self.weights_path = self.flow.weights.result()
        self.values = weights.load(self.weights_path, self.table)
        self.runs = dict(self.flow.subjects)
        self.descriptions = dict(self.flow.descriptions)
        self.name = name
        self.judged = 0
        self._flows: dict[tuple[str, bool], Flow] = {}
        # A mutant counts as detected if anything at all is said, so nothing may be said of these.
        if self.structure_fails():
            raise AssertionError(run._structure(self.flow).messages)
        for subject in self.runs:
            wrong = self._in_float64(self.flow, subject)
            if wrong:
                raise AssertionError(f"{subject} differs in float64 by itself at {wrong[0].row}")

    def _routed(self, held):
        pairs = {}

        def get(children, name):
            child = held(name)
            if name != "torch":
                return child
            if name not in pairs:
                pairs[name] = Twice(child, self.spare[name])
            return pairs[name]

        return get

    def close(self):
        for child in (*self.children._children.values(), *self.spare._children.values()):
            child.close()
        self.folder.cleanup()

    # ------------------------------------------------------------------------------------------

    def sites(self) -> dict[str, Site]:
        """Every row that both models have, as faults see it."""
        found, pad, before = {}, None, None
        for row in self.table.rows:
            if row.kind == "pad":
                pad = row.keras
                continue
            if row.shared:
                flattened = before if row.kind == "dense" and before and len(before) == 3 else None
                found[row.name] = Site(
                    row.name, row.kind, row.block, row.keras, row.torch, row.shape, row.weights,
                    self.table.tensor_name(row), pad, flattened,
                )  # fmt: skip
                before = row.shape
            pad = None
        return found

    def places(self, fault: Fault, subject: str, seed: int):
        """The mutations that a fault can make in a subject, in a seeded order."""
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
                self.table.points(self.request.depth)[0].row.name,
            )  # fmt: skip
            mutation = fault.plan(place)
            if mutation is not None:
                yield mutation

    def judge(self, subject: str, mutation: Mutation, *, isolate: bool):
        """Put the fault in, let the tool judge the subject, and mend it again.

        Also the level that saw the fault, and the rows that this level names.
        """
        child = self._child(subject)
        flow = self._flow(mutation.depth, isolate=isolate)
        flow.captures.devices = {**self.flow.captures.devices, subject: mutation.device}
        try:
            if mutation.weights:
                path = Path(self.folder.name) / "mutant.safetensors"
                weights.save(path, {**self.values, **mutation.weights})
                self._assign(subject, path)
            if mutation.changes:
                handle = {"handle": subject} if subject == "onnx-torch" else {}
                child.call("mutate", changes=list(mutation.changes), **handle)
            flow.descriptions = dict(self.descriptions)
            if subject == "keras" or mutation.described:
                shape = list(flow.input.result().array.shape[1:])
                flow.descriptions[subject] = child.call("describe", input_shape=shape)
            for pattern in ("held-*", "*.full.onnx"):
                for held in Path(self.folder.name).rglob(pattern):
                    held.unlink()
            flow.subjects, flow.failures = {}, {}
            try:
                if mutation.copied:
                    self._assign(subject, self.weights_path)
                capture = flow.captures.subject(subject, flow.rows(), "capture")
            except ParityError as error:
                if not mutation.fails:
                    raise Refused(str(error)) from error
                flow.failures = {subject: error}
            else:
                healthy = self.runs[subject]
                flow.subjects = {subject: replace(healthy, capture=capture.path)}
            judgement = run._judge(flow)
            return judgement, *self._level(flow, subject, judgement, mutation)
        finally:
            child.call("restore")
            if mutation.weights or mutation.copied:
                self._assign(subject, self.weights_path)

    def _flow(self, depth: str, *, isolate: bool) -> Flow:
        """The flow that judges a mutant: at the depth that shows it, with `--isolate` or without.

        Each has a folder of its own: captures are looked up again by name, and must be of its rows.
        """
        key = depth, isolate
        if key not in self._flows:
            flow = copy.copy(self.flow)
            flow.captures = copy.copy(flow.captures)
            flow.captures.folder = Path(self.folder.name) / f"{depth}-{isolate}"
            flow.captures.folder.mkdir()
            flow.request = replace(flow.request, depth=depth, isolate=isolate)
            flow.reference = Future()
            made = flow.captures.reference(flow.rows(), "capture", isolate=isolate)
            flow.reference.set_result(made)
            self._flows[key] = flow
        return self._flows[key]

    def structure_fails(self) -> bool:
        return run._structure(self.flow).outcome == "fail"

    def _child(self, subject):
        if subject == "torch":
            return self.spare["torch"]
        return self.children["onnx" if subject == "onnx-torch" else subject]

    def _assign(self, subject, path):
        child = self._child(subject)
        if subject != "onnx-torch":
            child.call("assign", path=str(path))
            return
        child.call(
            "load",
            handle=subject,
            table=self.table.to_json(),
            structure=str(self.flow.graphs["torch"].result()),
            path=str(path),
            side="torch",
        )

    def measure(self, fault: Fault, subject: str, mutation: Mutation, clock) -> Result:
        """Judge one mutant, and hold the tool's words against what was done.

        Every second one is judged as the default command does it, without `--isolate`.
        """
        started = clock()
        isolate = self.judged % 2 == 0
        try:
            judgement, by, told = self.judge(subject, mutation, isolate=isolate)
        except CRASHES as error:
            judgement, by, told = run.Judgement(), f"a crash: {error!r}", set()
        self.judged += 1
        causes = [c for c in judgement.causes if c.subject == subject]
        layers = {found.layer for found in judgement.divergences} or {c.layer for c in causes}
        before = [c.evidence["x_floor_before"] for c in causes if "x_floor_before" in c.evidence]
        wanted = {row: mutation.expected.get(row, fault.expected) for row in mutation.rows}
        return Result(
            model=self.name,
            subject=subject,
            fault=fault.name,
            rows=mutation.rows,
            detected=not by.startswith("a crash") and bool(by or causes or judgement.divergences),
            located=None if mutation.whole else (layers or told) == set(mutation.rows),
            answers=tuple(dict.fromkeys((cause.layer, cause.cause) for cause in causes)),
            wanted=tuple((row, tuple(sorted(names))) for row, names in wanted.items()),
            nameable=fault.nameable,
            isolate=isolate,
            seconds=clock() - started,
            told=tuple(cause.message for cause in causes),
            by=by,
            hidden=mutation.hidden,
            faintest=min(before, default=None),
        )

    def _level(self, flow: Flow, subject: str, judgement, mutation: Mutation):
        """The level of the comparison that sees a mutant, while its fault is in.

        Also the rows that a level names which has no divergences.
        """
        if subject in flow.failures:
            return "failure", set()
        results = [stage.subjects[subject] for stage in judgement.stages]
        if not all(result.status.passes for result in results):
            return "numerics", set()
        if (subject == "keras" or mutation.described) and run._structure(flow).outcome == "fail":
            return "structure", set()
        if mutation.weights and subject != "onnx-torch":
            rows = self._rows_of_other_weights(subject)
            if rows:
                return "weights", rows
        wrong = self._in_float64(flow, subject)
        if not wrong:
            return "", set()
        words = investigate._semantic_fault(flow, subject, wrong[0])
        return "semantics", {words.partition(" first at ")[2].partition(":")[0]}

    def _in_float64(self, flow: Flow, subject: str):
        """The stages at which a subject differs in float64, as `--semantics` finds them."""
        points = self.table.points(flow.request.depth)
        exact = investigate._in_float64(flow, subject, flow.reference.result(), points, "exact")
        return [stage for stage in exact if not stage.subjects[subject].status.passes]

    def _rows_of_other_weights(self, subject) -> set[str]:
        """What `compare` says of the weights that a person's own models bring."""
        path = Path(self.folder.name) / "held-weights.safetensors"
        self._child(subject).call("dump", path=str(path))
        told = weights.differences(self.values, weights.load(path, self.table))
        named = {line.partition(":")[0] for line in told}
        return {row.name for row in self.table.rows for w in row.weights if w.name in named}

    def clean(self, subject: str, seed: int) -> bool:
        """Whether an unmutated subject passes on a seeded input, by itself too, and unexplained.

        Every second seed as the default command does it, without `--isolate`.
        """
        flow = copy.copy(self.flow)
        flow.request = replace(flow.request, isolate=seed % 2 == 0)
        shape = flow.input.result().array.shape[1:]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clean.npy"
            np.save(path, inputs.load("random", shape, seed=1000 + seed).array)
            flow.captures = self.flow.captures.on(path)
            flow.captures.folder = Path(folder)
            rows = flow.rows()
            flow.reference = Future()
            flow.reference.set_result(
                flow.captures.reference(rows, "capture", isolate=seed % 2 == 0)
            )
            made = flow.captures.subject(subject, rows, "capture")
            flow.subjects = {subject: replace(self.runs[subject], capture=made.path)}
            judgement = run._judge(flow)
        looked = [h for stage in judgement.stages for h in (stage.subjects, stage.isolated)]
        passed = all(held[subject].status.passes for held in looked if held)
        return passed and not (judgement.causes or judgement.divergences or judgement.blame)


def faults_for(subject: str) -> list[Fault]:
    return [fault for fault in FAULTS if subject in fault.subjects]
