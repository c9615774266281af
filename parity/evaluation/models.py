"""The models of an evaluation: every framework's own, and the graphs exported from them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from parity.comparison.cache_entries import build_tap_names, graph_key
from parity.comparison.checkpoints import CANONICAL, convert_checkpoint, detect_format
from parity.comparison.graphs.image_shapes import (
    DataImages,
    OpenShape,
    fill_shape,
    find_image_shape,
    read_stated_shape,
)
from parity.comparison.graphs.inputs import DeclaredInput, format_shape
from parity.errors import (
    SUBJECT_ERRORS,
    InputError,
    UsageError,
    WeightError,
    WrongFrameworkError,
)
from parity.network import weights as weight_files
from parity.network.spec import ModelSpec
from parity.network.table import LayerTable
from parity.numerics.npz import save_npz
from parity.processes import futures, registry
from parity.processes.cache import Cache
from parity.processes.children import Children
from parity.processes.interpreters import select_interpreter
from parity.processes.references import ModelReference, parse_reference
from parity.processes.subjects import parse_subject, subject_kinds
from parity.text import quote

Progress = Callable[[str, str], None]


@dataclass(frozen=True)
class ModelRequest:
    """A model to evaluate. Raises `UsageError` for subjects that it does not have.

    `spec` is a registered architecture, whose `weights` are given; else `reference` names any
    model. `input_shape` is the (C, H, W) that the user or the checkpoint states, by default what
    the model states or runs on; `data` are the images that it will be given. `subjects` are all
    that there are if it is empty.
    """

    input_shape: OpenShape = (None, None, None)
    data: DataImages = field(default_factory=lambda: DataImages(3))
    spec: ModelSpec | None = None
    reference: ModelReference | None = None
    weights: Path | None = None
    subjects: tuple[str, ...] = ()
    threads: int = 1
    device: str = "cpu"
    trust: tuple[str, ...] = ()
    custom_objects: str | None = None
    python: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.spec is not None and self.weights is None:
            raise UsageError(f"{self.spec.name}: give its weights with --weights FILE")
        if self.threads < 1:
            raise UsageError(f"--threads: must be a whole number above 0, found {self.threads}")
        if self.device not in ("cpu", "gpu"):
            raise UsageError(f"--device: expected cpu or gpu, found {quote(self.device)}")
        for name in self.subjects:
            parts = parse_subject(name)
            if name not in subject_kinds() or parts.backend or parts.device or parts.environment:
                raise UsageError(
                    f"--subjects: expected some of {', '.join(subject_kinds())}, "
                    f"found {quote(name)}"
                )

    def wants(self, name: str) -> bool:
        """Whether a subject is to be evaluated."""
        return name in self.subjects or not self.subjects

    @property
    def sides(self) -> tuple[str, ...]:
        """The frameworks whose model is needed for a registered architecture."""
        names = self.subjects or subject_kinds()
        return tuple(dict.fromkeys(parse_subject(name).side for name in names))

    @property
    def first_children(self) -> tuple[str, ...]:
        """The children to start before anything else is known, the slowest first."""
        if self.spec is not None:
            names = self.subjects or subject_kinds()
            needed = {*self.sides, *(parse_subject(name).runtime for name in names)}
        else:
            assert self.reference is not None
            runtime = self.reference.runtime or registry.reference_candidates()[0]
            needed = {runtime, *registry.graph_runtimes()}
        return tuple(name for name in registry.all_runtimes() if name in needed)


@dataclass(frozen=True)
class Predictor:
    """A loaded subject: the child that computes it, and the arguments of its requests."""

    name: str
    child: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class LoadedModels:
    """The subjects that were loaded, in their order, and the reasons why others were not.

    `reference` computes the float64 reference; None where no runtime can.
    """

    predictors: dict[str, Predictor] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    reference: Predictor | None = None
    input_shape: tuple[int, int, int] = (0, 0, 0)
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class ModelLoader:
    """Loads the models of a request into children, all at the same time."""

    def __init__(
        self, request: ModelRequest, children: Children, folder: Path, progress: Progress
    ) -> None:
        self._request = request
        self._children = children
        self._folder = folder
        self._progress = progress
        self._loaded = LoadedModels()
        self._lock = threading.Lock()
        self._versions_lock = threading.Lock()

    def load(self) -> LoadedModels:
        """Load every subject. Raises the errors of the user's input.

        A runtime that is missing or dies has its reason in `failures`, unless none is left.
        """
        if self._request.spec is not None:
            self._loaded.input_shape = self._request.spec.input_shape
            self._load_registered(self._request.spec)
        else:
            self._load_reference()
        names = [*subject_kinds(), *registry.graph_runtimes()]
        found = self._loaded.predictors
        self._loaded.predictors = {name: found[name] for name in names if name in found}
        return self._loaded

    def _hello(self, name: str) -> None:
        self._progress(name, f"starting {registry.label(name)}")
        answer = self._children[name].hello()
        self._children[name].call("set_threads", count=self._request.threads)
        with self._lock:
            self._loaded.versions |= answer["versions"]

    def _add(self, name: str, child: str, **arguments: Any) -> None:
        with self._lock:
            self._loaded.predictors[name] = Predictor(
                name, child, {**arguments, "device": self._request.device}
            )

    def _set_reference(self, child: str) -> None:
        arguments = {"precision": "float64"}
        self._loaded.reference = Predictor("reference", child, arguments)

    # A registered architecture --------------------------------------------------------------------

    def _load_registered(self, spec: ModelSpec) -> None:
        request = self._request
        table = spec.table_for(request.sides)
        weights: Future[Path] = Future()
        graphs: dict[str, Future[Path]] = {side: Future() for side in request.sides}
        runtime = registry.graph_runtimes()[0]
        wanted = [name for name in subject_kinds() if request.wants(name)]
        from_graphs = [name for name in wanted if parse_subject(name).runs_graph]
        with self._children.threads(2 * len(request.sides) + 2) as pool:
            tasks = {
                side: pool.submit(
                    self._load_side, side, spec, table, weights, graphs[side],
                    f"{runtime}-{side}" in from_graphs, side in wanted,
                )
                for side in request.sides
            }  # fmt: skip
            if from_graphs:
                tasks[runtime] = pool.submit(
                    self._load_graphs, runtime, spec, table, weights, graphs, from_graphs
                )
            with futures.pass_errors_to(weights):
                futures.set_result_if_pending(weights, self._read_weights(spec, table))
            for task in tasks.values():
                task.result()
        candidates = [s for s in registry.reference_candidates() if s in request.sides]
        alive = [s for s in candidates if s not in self._loaded.failures]
        if alive:
            self._set_reference(alive[0])

    def _read_weights(self, spec: ModelSpec, table: LayerTable) -> Path:
        path = self._request.weights
        assert path is not None
        if not path.is_file():
            raise WeightError(f"{path}: no such file")
        if detect_format(path) == CANONICAL:
            _require_classes(path, spec, table)
            return path
        target = self._folder / "canonical.safetensors"
        convert_checkpoint(spec, path, target, self._children, self._progress, table=table)
        return target

    def _load_side(
        self,
        side: str,
        spec: ModelSpec,
        table: LayerTable,
        weights: Future[Path],
        graph: Future[Path],
        exports: bool,
        is_wanted: bool,
    ) -> None:
        """Load the framework's own model, and export its graph if it is needed."""
        child = self._children[side]
        try:
            self._hello(side)
            self._progress(side, "building the model")
            child.call("load", spec=spec.to_json())
            child.call("use_table", table=table.to_json())
            if exports and not spec.exports_weights:
                futures.set_result_if_pending(graph, self._export_structure(side, spec, table))
            child.call("load_weights", path=str(weights.result()))
            if exports and spec.exports_weights:
                futures.set_result_if_pending(
                    graph, self._export(side, spec, table, "export_model")
                )
            if is_wanted:
                self._add(side, side)
            self._progress(side, "done")
        except BaseException as error:
            futures.set_error_if_pending(graph, error)
            if not isinstance(error, SUBJECT_ERRORS):
                raise
            self._loaded.failures[side] = str(error)

    def _export_structure(self, side: str, spec: ModelSpec, table: LayerTable) -> Path:
        """Return the graph's structure, from the cache where an earlier command traced it."""
        cache = Cache()
        key = graph_key(spec, side, None, python=select_interpreter(side, self._request.python))
        cached = cache.find("graphs", key)
        if cached is not None:
            return cached
        return cache.publish("graphs", key, self._export(side, spec, table, "export_structure"))

    def _export(self, side: str, spec: ModelSpec, table: LayerTable, operation: str) -> Path:
        self._progress(side, "exporting to ONNX")
        path = self._folder / f"{side}.onnx"
        self._children[side].call(
            operation,
            path=str(path),
            opset=None,
            input_shape=list(spec.input_shape),
            names=build_tap_names(table, side),
        )
        return path

    def _load_graphs(
        self,
        runtime: str,
        spec: ModelSpec,
        table: LayerTable,
        weights: Future[Path],
        graphs: Mapping[str, Future[Path]],
        names: list[str],
    ) -> None:
        try:
            self._hello(runtime)
        except SUBJECT_ERRORS as error:
            self._loaded.failures |= dict.fromkeys(names, str(error))
            return
        for name in names:
            side = parse_subject(name).side
            common = {"handle": name, "table": table.to_json()}
            try:
                path = str(graphs[side].result())
                if spec.exports_weights:
                    self._children[runtime].call("load_file", path=path, **common)
                else:
                    self._children[runtime].call(
                        "load_structure",
                        structure=path, path=str(weights.result()), side=side, **common,
                    )  # fmt: skip
            except SUBJECT_ERRORS as error:
                self._loaded.failures[name] = str(error)
                continue
            self._add(name, runtime, handle=name)
        self._progress(runtime, "done")

    # Any other model ------------------------------------------------------------------------------

    def _load_reference(self) -> None:
        """Load the model that a reference names, and the graph exported from it."""
        reference = self._request.reference
        assert reference is not None
        candidates = registry.reference_candidates()
        runtime = reference.runtime or candidates[0]
        try:
            self._load_in(runtime, reference)
        except WrongFrameworkError as error:
            runtime = error.framework or candidates[-1]
            self._load_in(runtime, reference)
        inputs = self._children[runtime].call("read_inputs")["inputs"]
        self._loaded.input_shape = self._choose_shape(
            reference.text, runtime, [DeclaredInput.from_json(each) for each in inputs]
        )
        if runtime not in registry.model_runtimes():
            if self._request.weights is not None:
                raise UsageError(f"{reference.text}: an ONNX file has its weights; no --weights")
            self._add(runtime, runtime)
            return
        if self._request.wants(runtime):
            self._add(runtime, runtime)
        self._set_reference(runtime)
        graph_runtime = registry.graph_runtimes()[0]
        name = f"{graph_runtime}-{runtime}"
        if not self._request.wants(name):
            return
        try:
            self._export_reference(runtime, graph_runtime, str(inputs[0]["name"]))
        except SUBJECT_ERRORS as error:
            self._loaded.failures[name] = str(error)
            return
        self._add(name, graph_runtime)

    def _choose_shape(
        self, name: str, runtime: str, declared: Sequence[DeclaredInput]
    ) -> tuple[int, int, int]:
        """Return the (C, H, W) of the images: wanted, stated, what the model runs on, the data's.

        Raises `UsageError` for a shape that the model does not state, `InputError` for one that it
        does not run on.
        """
        stated = read_stated_shape(name, runtime, declared)
        wanted = fill_shape(self._request.input_shape, stated)
        channels, height, width = wanted
        if wanted == stated and channels and height and width:
            return channels, height, width
        if any(spec.origin == "declared" for spec in declared):
            for size, own, option in zip(
                wanted, stated, ("--channels", "--image-size", "--image-size"), strict=True
            ):
                if own not in (None, size):
                    raise UsageError(
                        f"{option}: {name} takes images of {format_shape(stated)}, the images have "
                        f"{format_shape(wanted)}; leave it out"
                    )
        found = find_image_shape(name, self._children[runtime], wanted, self._request.data)
        if None in wanted:
            shape = format_shape(found.shape)
            self._loaded.notes += (
                f"{name}: states no size of its images; it runs on {shape}"
                if found.is_only
                else f"{name}: states no size of its images; it is given {shape}, which "
                "--image-size and --channels change",
            )
        return found.shape

    def _load_in(self, runtime: str, reference: ModelReference) -> None:
        child = self._children[runtime]
        self._hello(runtime)
        self._progress(runtime, "building the model")
        answer = child.call(
            "load_reference",
            reference=reference.to_json(),
            trust=list(self._request.trust),
            custom_objects=self._request.custom_objects,
        )
        path = self._request.weights
        if path is not None and runtime in registry.model_runtimes():
            child.call("load_checkpoint", path=str(path))
        elif not answer.get("brings_weights", True):
            raise UsageError(f"{reference.text}: give its weights with --weights FILE")
        self._progress(runtime, "done")

    def _export_reference(self, runtime: str, graph_runtime: str, name: str) -> None:
        child = self._children[runtime]
        arrays = self._folder / "inputs.npz"
        images = np.zeros((1, *self._loaded.input_shape), np.float32)
        if runtime == "keras":
            images = images.transpose(0, 2, 3, 1)
        save_npz(str(arrays), {name: images})
        path = self._folder / f"{runtime}.onnx"
        self._progress(runtime, "exporting to ONNX")
        child.call("export_graph", path=str(path), inputs=str(arrays), opset=None)
        self._hello(graph_runtime)
        self._children[graph_runtime].call(
            "load_reference", reference=parse_reference(str(path)).to_json()
        )


def load_models(
    request: ModelRequest, children: Children, folder: Path, progress: Progress
) -> LoadedModels:
    """Load the subjects of a request; see `ModelLoader.load`."""
    return ModelLoader(request, children, folder, progress).load()


def _require_classes(path: Path, spec: ModelSpec, table: LayerTable) -> None:
    """Raise `InputError` if the head of a checkpoint has another number of classes."""
    (*_, (_, head)) = table.weights()
    _, shape = weight_files.read_types(path).get(head.name, ("", head.shape))
    if shape[:1] != head.shape[:1]:
        raise InputError(
            f"{path}: the checkpoint has {shape[0]} classes, the data have {spec.classes}; give "
            "data with the model's classes"
        )
