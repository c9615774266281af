"""Asking the loaded children for captures: of a subject, fed or in float64, of the reference."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from parity.comparison.request import Request, runtime_of
from parity.network.table import LayerTable
from parity.numerics import floor
from parity.processes import registry
from parity.processes.children import Children
from parity.processes.subjects import keeps_gpu_memory, runs_graph

Progress = Callable[[str, str], None]


@dataclass(frozen=True)
class Reference:
    """The float64 reference: its capture, and the floor of each row, accumulated and isolated."""

    capture: Path
    floors: Mapping[str, floor.Floor]
    isolated_floors: Mapping[str, floor.Floor] = field(default_factory=dict)


@dataclass(frozen=True)
class SubjectCapture:
    """What one subject gave: the file, and what its child said of the run."""

    path: Path
    facts: Mapping[str, Any]


@dataclass
class SubjectRun:
    """What one subject produced: its capture, and facts for the report."""

    capture: Path
    runtime: str
    versions: dict[str, str]
    seconds: dict[str, float]
    flags: dict[str, Any] = field(default_factory=dict)
    proof: dict[str, Any] = field(default_factory=dict)
    instrumented: dict[str, float] | None = None


class Captures:
    """One comparison's children, once their models are loaded and their input is written."""

    def __init__(
        self,
        request: Request,
        children: Children,
        folder: Path,
        manifest: Callable[[str, str, str], dict[str, Any]],
        progress: Progress,
        devices: Mapping[str, str],
    ) -> None:
        self.request = request
        self.children = children
        self.folder = folder
        self.manifest = manifest
        self.progress = progress
        self.devices = devices
        self.input = folder / "input.npy"
        # A small card has no room for two runtimes at a time.
        self.turn: AbstractContextManager[Any] = Lock() if request.serial else nullcontext()

    def on(self, path: Path) -> Captures:
        """The same children on another input file."""
        other = copy.copy(self)
        other.input = path
        return other

    def path(self, subject: str, label: str) -> Path:
        return self.folder / f"{label}.{subject}.safetensors"

    def reference(
        self,
        rows: Sequence[str],
        label: str,
        *,
        isolate: bool = False,
        accumulate: bool = True,
        plain: Path | None = None,
        replicates: int = floor.REPLICATES,
        given: bool = False,
    ) -> Reference:
        """Run the reference in float64 and its float32 replicates at `rows`.

        Without `replicates` there is no floor. `plain` is the capture of the reference's own model
        in float32 on the CPU, if there is one. Where the float64 run is `given`, captured under
        this label at these rows, it is not run again. Without `accumulate` only the floors of
        isolated parts are measured, in half the time.
        """
        side = self.request.reference_side
        self.progress(side, "float64 reference and float32 floor")
        path = self.path("reference", label)
        child = self.request.home(side)
        manifest = self.manifest("reference", child, "float64")
        with self.turn:
            answer = self.children[child].call(
                "reference",
                x=str(self.input),
                rows=list(rows),
                out=str(path),
                manifest=manifest,
                replicates=replicates,
                seed=self.request.seed,
                isolate=isolate,
                accumulate=accumulate,
                given=given,
                plain=None if plain is None else str(plain),
            )
        return Reference(
            path, floor.from_json(answer["floors"]), floor.from_json(answer["isolated"])
        )

    def subject(
        self,
        subject: str,
        rows: Sequence[str],
        label: str,
        *,
        feed: Path | None = None,
        optimise: bool = True,
        precision: str | None = None,
        **changed: Any,
    ) -> SubjectCapture:
        """Run a subject at `rows`; with `feed` every part is given the reference's input.

        `precision` is the request's by default; in another one, or with other arguments of the
        child's `run` in `changed`, it shows what that changes.
        """
        runtime = runtime_of(subject)
        self.progress(runtime, f"running {subject}" if feed is None else f"isolating {subject}")
        path = self.path(subject, label)
        extra: dict[str, Any] = {}
        if runs_graph(subject):
            extra = {"handle": subject, "optimise": optimise}
        if self.request.xla and registry.get(runtime).compiles_xla:
            extra["xla"] = True
        precision = precision or self.request.precision
        child = self.request.child(subject)
        manifest = self.manifest(subject, child, precision)
        with self.turn:
            facts = self.children[child].call(
                "run",
                x=str(self.input),
                rows=list(rows),
                out=str(path),
                manifest=manifest,
                feed=None if feed is None else str(feed),
                **{"device": self.devices[subject], "precision": precision, **extra, **changed},
            )
            if self._must_rest(subject, child):
                self.children[child].suspend()
        return SubjectCapture(path, facts)

    def _must_rest(self, subject: str, child: str) -> bool:
        """Whether only the end of its process gives back what a subject has taken of a card."""
        return self.request.serial and self.devices[subject] == "gpu" and keeps_gpu_memory(child)

    def subjects(
        self, subjects: Sequence[str], rows: Sequence[str], label: str, *, feed: Path | None = None
    ) -> dict[str, Path]:
        """Run several subjects side by side."""
        with self.children.threads(max(len(subjects), 1)) as pool:
            runs = {
                name: pool.submit(self.subject, name, rows, label, feed=feed) for name in subjects
            }
            return {name: run.result().path for name, run in runs.items()}

    def in_float64(
        self,
        subject: str,
        rows: Sequence[str],
        label: str,
        table: LayerTable,
        *,
        feed: Path | None = None,
    ) -> SubjectCapture:
        """Run a subject in float64: Keras by itself, a graph read into PyTorch.

        With `feed` every part is given the reference's input.

        ONNX Runtime's CPU provider has no float64 convolution.
        """
        path = self.path(subject, label)
        runtime = runtime_of(subject)
        common = {"x": str(self.input), "rows": list(rows), "out": str(path)}
        if not runs_graph(subject):
            self.progress(runtime, "running in float64")
            child = self.request.child(subject)
            facts = self.children[child].call(
                "run_float64",
                manifest=self.manifest(subject, child, "float64"),
                feed=None if feed is None else str(feed),
                **common,
            )
            return SubjectCapture(path, facts)
        graph = self.folder / f"{subject}.full.onnx"
        if not graph.exists():
            every = [cut.row.name for cut in table.cuts("layer")]
            self.children[self.request.child(subject)].call(
                "write", handle=subject, rows=every, path=str(graph)
            )
        evaluator = registry.graph_evaluator()
        self.progress(evaluator, f"running the graph of {subject} in float64")
        child = self.request.home(evaluator)
        facts = self.children[child].call(
            "run_graph",
            graph=str(graph),
            table=table.to_json(),
            manifest=self.manifest(subject, child, "float64"),
            feed=None if feed is None else str(feed),
            **common,
        )
        return SubjectCapture(path, facts)
