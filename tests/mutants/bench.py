"""Healthy models loaded once, mutants of them judged one after the other by the tool itself."""

from __future__ import annotations

import copy
import os
import tempfile
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from parity import inputs, investigate, run, weights
from parity.children import Children
from parity.errors import ParityError
from parity.flow import Flow
from parity.placement import plan
from parity.request import Request
from tests.mutants.faults import FAULTS
from tests.mutants.plan import NAMELESS, Fault, Mutation, Place, Site

RUNTIMES = "tests.mutants.runtimes"
SUBJECTS = ("keras", "torch", "onnx-torch")


@dataclass(frozen=True)
class Result:
    """One mutant: what it was, and what the tool said of it."""

    model: str
    subject: str
    fault: str
    rows: tuple[str, ...]
    detected: bool
    located: bool
    causes: tuple[str, ...]
    expected: tuple[str, ...]
    seconds: float
    told: tuple[str, ...] = ()
    by: str = "numerics"
    """The level that saw it; empty if none did."""
    hidden: str | None = None
    """Why nothing can see it, where that is known beforehand."""
    faintest: float | None = None
    """The smallest isolated error, in floors, of the layers that were explained."""

    @property
    def detectable(self) -> bool:
        return self.hidden is None

    @property
    def named(self) -> bool:
        return bool(self.causes) and all(cause in self.expected for cause in self.causes)

    @property
    def misnamed(self) -> bool:
        wrong = set(self.causes) - set(self.expected) - NAMELESS
        return bool(wrong)


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
        self._flows: dict[str, Flow] = {}
        # A mutant counts as detected if anything at all is said, so nothing may be said of these.
        if self.structure_fails():
            raise AssertionError(run._structure(self.flow).messages)

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
            inside = [s for s in sites.values() if s.block == site.block and "relu#" in s.torch]
            calls = len([s for s in inside if "@" not in s.torch]) or 1
            place = Place(
                subject, site, hypers.get(site.name, {}), sites, self.values, rng, calls,
                self.table.cuts(self.request.depth)[0].row.name,
            )  # fmt: skip
            mutation = fault.plan(place)
            if mutation is not None:
                yield mutation

    def judge(self, subject: str, mutation: Mutation) -> tuple[run.Judgement, str]:
        """Put the fault in, let the tool judge the subject, and mend it again.

        Also the level that saw the fault.
        """
        child = self._child(subject)
        flow = self._flow(mutation)
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
                for held in Path(self.folder.name).glob(pattern):
                    held.unlink()
            flow.subjects, flow.failures = {}, {}
            try:
                if mutation.copied:
                    self._assign(subject, self.weights_path)
                capture = flow.captures.subject(subject, flow.rows(), "mutant")
            except ParityError as error:
                if not mutation.fails:
                    raise Refused(str(error)) from error
                flow.failures = {subject: error}
            else:
                healthy = self.runs[subject]
                flow.subjects = {subject: replace(healthy, capture=capture.path)}
            judgement = run._judge(flow)
            return judgement, self._level(flow, subject, judgement, mutation)
        finally:
            child.call("restore")
            if mutation.weights or mutation.copied:
                self._assign(subject, self.weights_path)

    def _flow(self, mutation: Mutation) -> Flow:
        """The flow that judges a mutant: at the depth that shows it."""
        if mutation.depth not in self._flows:
            flow = copy.copy(self.flow)
            flow.captures = copy.copy(flow.captures)
            if mutation.depth != flow.request.depth:
                flow.request = replace(flow.request, depth=mutation.depth)
                flow.reference = Future()
                made = flow.captures.reference(flow.rows(), mutation.depth, isolate=True)
                flow.reference.set_result(made)
            self._flows[mutation.depth] = flow
        return self._flows[mutation.depth]

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
        """Judge one mutant, and hold the tool's words against what was done."""
        started = clock()
        judgement, by = self.judge(subject, mutation)
        causes = [c for c in judgement.causes if c.subject == subject]
        layers = {found.layer for found in judgement.divergences} or {c.layer for c in causes}
        before = [c.evidence["x_floor_before"] for c in causes if "x_floor_before" in c.evidence]
        return Result(
            model=self.name,
            subject=subject,
            fault=fault.name,
            rows=mutation.rows,
            detected=bool(by),
            located=layers == set(mutation.rows) or by == "weights",
            causes=tuple(dict.fromkeys(cause.cause for cause in causes)),
            expected=tuple(sorted(fault.expected)),
            seconds=clock() - started,
            told=tuple(cause.message for cause in causes),
            by=by,
            hidden=mutation.hidden,
            faintest=min(before, default=None),
        )

    def _level(self, flow: Flow, subject: str, judgement, mutation: Mutation) -> str:
        """The level of the comparison that sees a mutant, while its fault is in."""
        if subject in flow.failures:
            return "failure"
        results = [stage.subjects[subject] for stage in judgement.stages]
        if not all(result.status.passes for result in results):
            return "numerics"
        if subject == "keras" and run._structure(flow).outcome == "fail":
            return "structure"
        if mutation.weights and subject != "onnx-torch":
            # What `compare` does with the weights that a person's own models bring.
            path = Path(self.folder.name) / "held-weights.safetensors"
            self._child(subject).call("dump", path=str(path))
            told = weights.differences(self.values, weights.load(path, self.table))
            # This level says which tensor it is, and that must be the one.
            if told and all(
                any(line.startswith(f"{n}:") for line in told) for n in mutation.weights
            ):
                return "weights"
        cuts = self.table.cuts(flow.request.depth)
        exact = investigate._in_float64(flow, subject, flow.reference.result(), cuts, "exact")
        wrong = [s for s in exact if not s.subjects[subject].status.passes]
        return "semantics" if wrong else ""

    def clean(self, subject: str, seed: int) -> bool:
        """Whether an unmutated subject passes on a seeded input, by itself too, and unexplained."""
        flow = copy.copy(self.flow)
        shape = flow.input.result().array.shape[1:]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clean.npy"
            np.save(path, inputs.load("random", shape, seed=1000 + seed).array)
            flow.captures = self.flow.captures.on(path)
            flow.captures.folder = Path(folder)
            rows = flow.rows()
            flow.reference = Future()
            flow.reference.set_result(flow.captures.reference(rows, "capture", isolate=True))
            made = flow.captures.subject(subject, rows, "capture")
            flow.subjects = {subject: replace(self.runs[subject], capture=made.path)}
            judgement = run._judge(flow)
        results = [
            held[subject] for stage in judgement.stages for held in (stage.subjects, stage.isolated)
        ]
        passed = all(result.status.passes for result in results)
        return passed and not (judgement.causes or judgement.divergences or judgement.blame)


def faults_for(subject: str) -> list[Fault]:
    return [fault for fault in FAULTS if subject in fault.subjects]
