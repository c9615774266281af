"""Requests to the children of one comparison, once their models are loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from parity.comparison.request import Request, runtime_of
from parity.comparison.state import ReferenceRun, SubjectCapture
from parity.network.table import LayerTable
from parity.numerics import floor
from parity.processes import registry
from parity.processes.children import Children
from parity.processes.requests import RunRequest
from parity.processes.subjects import keeps_gpu_memory, runs_graph

Progress = Callable[[str, str], None]
"""Called with a runtime and its current step."""

BuildManifest = Callable[[str, str, str], dict[str, Any]]
"""Returns the manifest of a capture, from subject, child and precision."""


@dataclass(frozen=True)
class Runner:
    """The children of one comparison, their input, and the folder of their captures.

    Every method raises the `ParityError` that a child reports, and `ChildError` when it dies.
    """

    request: Request
    children: Children
    folder: Path
    input: Path
    """The input's `.npy` file, (N, C, H, W) float32."""
    devices: Mapping[str, str]
    """By subject, `cpu` or `gpu`."""
    build_manifest: BuildManifest
    progress: Progress = lambda runtime, text: None
    run_lock: AbstractContextManager[Any] = field(default_factory=nullcontext)
    """Acquired while a model runs: a small GPU has no memory for two runtimes at a time."""

    def with_input(self, path: Path) -> Self:
        """Return a runner of the same children on another input file."""
        return replace(self, input=path)

    def capture_path(self, subject: str, label: str) -> Path:
        """Return the path of the capture of a subject under a label."""
        return self.folder / f"{label}.{subject}.safetensors"

    def run_reference(
        self,
        rows: Sequence[str],
        label: str,
        *,
        isolate: bool = False,
        accumulate: bool = True,
        plain_capture: Path | None = None,
        replicates: int = floor.REPLICATES,
        reuse_capture: bool = False,
    ) -> ReferenceRun:
        """Run the reference in float64 and its float32 replicates at `rows`.

        With 0 `replicates` no floor is measured. `plain_capture` is the capture of the reference's
        model in float32 on the CPU, if there is one. With `reuse_capture` the float64 capture under
        this label, at the same rows, is used again. Without `accumulate` only the floors of
        isolated parts are measured, in half the time.
        """
        side = self.request.reference_side
        self.progress(side, "float64 reference and float32 floor")
        path = self.capture_path("reference", label)
        child = self.request.home_child(side)
        manifest = self.build_manifest("reference", child, "float64")
        with self.run_lock:
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
                reuse_float64=reuse_capture,
                plain_capture=None if plain_capture is None else str(plain_capture),
            )
        return ReferenceRun(
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
        """Run a subject at `rows`; with `feed`, a reference capture, every part is isolated.

        `changes` replace fields of the comparison's `RunRequest`.
        """
        runtime = runtime_of(subject)
        self.progress(runtime, f"running {subject}" if feed is None else f"isolating {subject}")
        child = self.request.child(subject)
        request = RunRequest(
            x=str(self.input),
            rows=tuple(rows),
            out=str(self.capture_path(subject, label)),
            feed=None if feed is None else str(feed),
            device=self.devices[subject],
            precision=self.request.precision,
            xla=self.request.xla and registry.get(runtime).compiles_xla,
            handle=subject if runs_graph(subject) else "",
        )
        request = replace(request, **changes)
        manifest = self.build_manifest(subject, child, request.precision)
        request = replace(request, manifest=manifest)
        with self.run_lock:
            facts = self.children[child].call("run", **request.to_json())
            if self._must_suspend(subject, child):
                self.children[child].suspend()
        return SubjectCapture(Path(request.out), facts)

    def _must_suspend(self, subject: str, child: str) -> bool:
        """Whether a subject's GPU memory is released only when its process ends."""
        return self.request.serial and self.devices[subject] == "gpu" and keeps_gpu_memory(child)

    def run_subjects(
        self, subjects: Sequence[str], rows: Sequence[str], label: str, *, feed: Path | None = None
    ) -> dict[str, Path]:
        """Run several subjects in parallel, and return their captures by subject."""
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
        """Run a subject in float64: a model in its framework, a graph read into PyTorch.

        With `feed`, a reference capture, every part is isolated. ONNX Runtime's CPU provider has no
        float64 convolution.
        """
        path = self.capture_path(subject, label)
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
            manifest = self.build_manifest(subject, child, "float64")
            facts = self.children[child].call("run_float64", manifest=manifest, **common)
            return SubjectCapture(path, facts)
        graph = self.folder / f"{subject}.full.onnx"
        if not graph.exists():
            all_rows = [point.row for point in table.points("layer")]
            self.children[child].call("save_graph", handle=subject, rows=all_rows, path=str(graph))
        evaluator = registry.graph_evaluator()
        self.progress(evaluator, f"running the graph of {subject} in float64")
        child = self.request.home_child(evaluator)
        facts = self.children[child].call(
            "run_graph_float64",
            graph=str(graph),
            table=table.to_json(),
            manifest=self.build_manifest(subject, child, "float64"),
            **common,
        )
        return SubjectCapture(path, facts)

    # Requests of the explanation of a difference -------------------------------------------------

    def read_declared_batch(self, subject: str) -> int | None:
        """Return the batch size that a graph's input declares; None for any."""
        batch: int | None = self._call(subject, "read_batch_size", handle=subject)["declared"]
        return batch

    def find_refused_batches(self, subject: str, counts: Sequence[int]) -> list[str]:
        """Return a line for each batch size of `counts` with which a graph cannot be run."""
        refusals: list[str] = self._call(
            subject, "check_batch_sizes", handle=subject, x=str(self.input), counts=list(counts)
        )["problems"]
        return refusals

    def dump_weights(self, subject: str) -> Path:
        """Write the weights of a subject's own model in canonical form, and return the file."""
        path = self.folder / f"weights-{subject}.safetensors"
        if not path.exists():
            self._call(subject, "save_weights", path=str(path))
        return path

    def dump_rows(self, subject: str, rows: Sequence[Mapping[str, Any]], name: str) -> WeightDump:
        """Write the weights of layers outside the table, and return the file with their table."""
        path = self.folder / f"extra-{subject}-{name}.safetensors"
        answer = self._call(subject, "save_row_weights", rows=list(rows), path=str(path))
        return WeightDump(LayerTable.from_json(answer["table"]), path)

    def read_node_weights(
        self, subject: str, row: str
    ) -> tuple[dict[str, np.ndarray[Any, Any]], Mapping[str, str]]:
        """Return a graph's weights and tensor names in a row, by role; layouts are canonical."""
        path = self.folder / f"weights-{subject}-{row}.npz"
        answer = self._call(subject, "save_node_weights", handle=subject, row=row, path=str(path))
        with np.load(path) as arrays:
            return {role: arrays[role] for role in arrays.files}, answer["names"]

    def _call(self, subject: str, operation: str, **arguments: Any) -> dict[str, Any]:
        return self.children[self.request.child(subject)].call(operation, **arguments)


@dataclass(frozen=True)
class WeightDump:
    """A weights file, and the layer table that names its weights."""

    table: LayerTable
    path: Path
