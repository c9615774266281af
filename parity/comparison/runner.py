"""What can be asked of the children of one comparison, once their models are loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from parity.comparison.request import Request, runtime_of
from parity.comparison.state import Reference, SubjectCapture
from parity.network.table import LayerTable
from parity.numerics import floor
from parity.processes import registry
from parity.processes.children import Children
from parity.processes.requests import RunRequest
from parity.processes.subjects import keeps_gpu_memory, runs_graph

Progress = Callable[[str, str], None]
"""Called with a runtime and what it does now."""

Manifest = Callable[[str, str, str], dict[str, Any]]
"""Gives the manifest of a capture of a subject, by a child, in a precision."""


@dataclass(frozen=True)
class Runner:
    """The children of one comparison, the input that they run on, and where captures are written.

    Every method raises the `ParityError` that a child answers, and `ChildError` when it dies.
    """

    request: Request
    children: Children
    folder: Path
    input: Path
    """The input's `.npy` file, (N, C, H, W) float32."""
    devices: Mapping[str, str]
    """By subject, `cpu` or `gpu`."""
    manifest: Manifest
    progress: Progress = lambda runtime, text: None
    turn: AbstractContextManager[Any] = field(default_factory=nullcontext)
    """Held while a model runs: a small card has no room for two runtimes at a time."""

    def on(self, path: Path) -> Self:
        """The same children on another input file."""
        return replace(self, input=path)

    def path(self, subject: str, label: str) -> Path:
        """Where the capture of a subject under a label lies."""
        return self.folder / f"{label}.{subject}.safetensors"

    def run_reference(
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
                "run_reference",
                x=str(self.input),
                rows=list(rows),
                out=str(path),
                manifest=manifest,
                replicates=replicates,
                seed=self.request.seed,
                isolate=isolate,
                accumulate=accumulate,
                reuse_float64=given,
                plain_capture=None if plain is None else str(plain),
            )
        return Reference(
            path, floor.from_json(answer["floors"]), floor.from_json(answer["isolated"])
        )

    def run_subject(
        self,
        subject: str,
        rows: Sequence[str],
        label: str,
        *,
        feed: Path | None = None,
        **changes: Any,
    ) -> SubjectCapture:
        """Run a subject at `rows`; with `feed` every part is given the reference's input.

        `changes` are other fields of `RunRequest` than the comparison's, to show their effect.
        """
        runtime = runtime_of(subject)
        self.progress(runtime, f"running {subject}" if feed is None else f"isolating {subject}")
        child = self.request.child(subject)
        request = RunRequest(
            x=str(self.input),
            rows=tuple(rows),
            out=str(self.path(subject, label)),
            feed=None if feed is None else str(feed),
            device=self.devices[subject],
            precision=self.request.precision,
            xla=self.request.xla and registry.get(runtime).compiles_xla,
            handle=subject if runs_graph(subject) else "",
        )
        request = replace(request, **changes)
        manifest = self.manifest(subject, child, request.precision)
        request = replace(request, manifest=manifest)
        with self.turn:
            facts = self.children[child].call("run", **request.to_json())
            if self._must_suspend(subject, child):
                self.children[child].suspend()
        return SubjectCapture(Path(request.out), facts)

    def _must_suspend(self, subject: str, child: str) -> bool:
        """Whether only the end of its process gives back what a subject has taken of a card."""
        return self.request.serial and self.devices[subject] == "gpu" and keeps_gpu_memory(child)

    def run_subjects(
        self, subjects: Sequence[str], rows: Sequence[str], label: str, *, feed: Path | None = None
    ) -> dict[str, Path]:
        """Run several subjects side by side; their captures by subject."""
        with self.children.threads(max(len(subjects), 1)) as pool:
            runs = {
                name: pool.submit(self.run_subject, name, rows, label, feed=feed)
                for name in subjects
            }
            return {name: run.result().path for name, run in runs.items()}

    def run_float64(
        self,
        subject: str,
        rows: Sequence[str],
        label: str,
        table: LayerTable,
        *,
        feed: Path | None = None,
    ) -> SubjectCapture:
        """Run a subject in float64: a model by itself, a graph read into PyTorch.

        With `feed` every part is given the reference's input. ONNX Runtime's CPU provider has no
        float64 convolution.
        """
        path = self.path(subject, label)
        runtime = runtime_of(subject)
        common = {
            "x": str(self.input),
            "rows": list(rows),
            "out": str(path),
            "feed": None if feed is None else str(feed),
        }
        child = self.request.child(subject)
        if not runs_graph(subject):
            self.progress(runtime, "running in float64")
            manifest = self.manifest(subject, child, "float64")
            facts = self.children[child].call("run_float64", manifest=manifest, **common)
            return SubjectCapture(path, facts)
        graph = self.folder / f"{subject}.full.onnx"
        if not graph.exists():
            every = [point.row for point in table.points("layer")]
            self.children[child].call("save_graph", handle=subject, rows=every, path=str(graph))
        evaluator = registry.graph_evaluator()
        self.progress(evaluator, f"running the graph of {subject} in float64")
        child = self.request.home(evaluator)
        facts = self.children[child].call(
            "run_graph_float64",
            graph=str(graph),
            table=table.to_json(),
            manifest=self.manifest(subject, child, "float64"),
            **common,
        )
        return SubjectCapture(path, facts)

    # What the explanation of a difference asks ---------------------------------------------------

    def declared_batch(self, subject: str) -> int | None:
        """The batch that a graph's input declares; None for any."""
        declared: int | None = self._ask(subject, "read_batch_size", handle=subject)["declared"]
        return declared

    def refused_batches(self, subject: str, counts: Sequence[int]) -> list[str]:
        """A line for each batch size of `counts` that a graph cannot be run at."""
        refused: list[str] = self._ask(
            subject, "check_batch_sizes", handle=subject, x=str(self.input), counts=list(counts)
        )["problems"]
        return refused

    def dump_weights(self, subject: str) -> Path:
        """Write the weights that a subject's own model holds, in canonical form, once."""
        path = self.folder / f"held-{subject}.safetensors"
        if not path.exists():
            self._ask(subject, "save_weights", path=str(path))
        return path

    def dump_rows(self, subject: str, rows: Sequence[Mapping[str, Any]], name: str) -> Dump:
        """Write the weights of layers that no table has; the answer has their completed table."""
        path = self.folder / f"extra-{subject}-{name}.safetensors"
        answer = self._ask(subject, "save_row_weights", rows=list(rows), path=str(path))
        return Dump(LayerTable.from_json(answer["table"]), path)

    def node_weights(
        self, subject: str, row: str
    ) -> tuple[dict[str, np.ndarray[Any, Any]], Mapping[str, str]]:
        """The weights that a graph has in a row, by role, and the names of their tensors.

        They are in canonical layouts.
        """
        path = self.folder / f"held-{subject}-{row}.npz"
        answer = self._ask(subject, "save_node_weights", handle=subject, row=row, path=str(path))
        with np.load(path) as arrays:
            return {role: arrays[role] for role in arrays.files}, answer["names"]

    def _ask(self, subject: str, operation: str, **arguments: Any) -> dict[str, Any]:
        return self.children[self.request.child(subject)].call(operation, **arguments)


@dataclass(frozen=True)
class Dump:
    """Weights on disk, and the table that names them."""

    table: LayerTable
    path: Path
