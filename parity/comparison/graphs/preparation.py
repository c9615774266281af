"""Loading, reading and aligning the models of a comparison, and giving them their weights."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from parity.comparison.graphs import points as graph_points
from parity.comparison.graphs.given_pairs import GivenTable, read_given_pairs
from parity.comparison.graphs.inputs import (
    DeclaredInput,
    InputArrays,
    choose_inputs,
    find_id_bounds,
    find_placeholders,
    redraw_integers,
)
from parity.comparison.graphs.norm_pairs import pair_norms
from parity.comparison.graphs.request import (
    FLOAT64,
    GraphRequest,
    GraphSubject,
    expect_runtime,
    select_subjects,
)
from parity.comparison.graphs.shared_inputs import resize_inputs, share_inputs
from parity.comparison.graphs.state import GraphState, PreparedModels, SubjectModel
from parity.comparison.graphs.weight_assignment import WeightAssignment
from parity.comparison.graphs.weights import align_models
from parity.comparison.placement import DeviceRequest, Placement, confirm_devices
from parity.comparison.results import NOT_COMPARED
from parity.comparison.settings import OWN
from parity.comparison.stated_models import choose_preprocessing, read_stated_models
from parity.errors import (
    SUBJECT_ERRORS,
    ChildError,
    GraphError,
    InputError,
    ParityError,
    RequirementError,
    UsageError,
    WrongFrameworkError,
)
from parity.network.alignment import Alignment
from parity.network.graph import Graph
from parity.numerics.npz import load_npz
from parity.processes import registry
from parity.processes.child import Child, refuse_crashing_file
from parity.processes.children import Children
from parity.processes.references import (
    FILE,
    ZOO,
    ModelReference,
    parse_reference,
)
from parity.processes.subjects import child_name
from parity.text import quote, suggest

Array = NDArray[Any]

Progress = Callable[[str, str], None]

Completion = Callable[
    [Mapping[str, GraphSubject], Mapping[str, list[DeclaredInput]]], dict[str, list[DeclaredInput]]
]
"""Is given the subjects and their declared inputs, by name; returns the inputs."""


@dataclass(frozen=True)
class PlannedExport:
    """The export of a model, and the child that will run it."""

    model: str
    """The model's name."""
    runtime: str
    child: str


@dataclass
class Preparation:
    """Loads the models of a request in their children, reads them and aligns them."""

    request: GraphRequest
    children: Children
    folder: Path
    progress: Progress
    notes: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    placement: Placement = field(default_factory=lambda: Placement({}))
    """The planned devices; a subject that it does not name runs on the CPU."""
    preferred: str | None = None
    """The runtime whose model is the reference, if the request names none."""
    seed: int = 0
    """That of the weights which the user's own code draws."""
    threads: int | None = None
    """The threads of each child; None for all that it takes."""
    complete: Completion | None = None
    """Completes the inputs that the models declare; examples are then left aside."""
    _instances: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _given: GivenTable | None = None
    _planned: list[GraphSubject] | None = None

    def run(self) -> GraphState:
        """Return the models with their graphs, alignments and weights.

        Raises user errors; what fails in one subject's runtime is kept in `failures`.
        """
        return self.build_state(self.prepare())

    def start(self) -> None:
        """Start the children of the models that were asked for."""
        self.children.start(subject.child for subject in self._plan_subjects())

    def prepare(self) -> PreparedModels:
        """Load the models, read them, pair them and give them their weights, as `run`."""
        given = None if self.request.table is None else read_given_pairs(self.request.table)
        subjects, reference, models = self.read_models()
        if given is not None:
            self._given = given.name_other([name for name in models if name != reference.name])
        self._require_weight_source()
        models = self._add_graph_reader(models, reference)
        exports = self._plan_exports(models, {})
        self.children.start(each.child for each in exports.values())
        base = models.get(f"{reference.name}{FLOAT64}", models[reference.name])
        alignments = self.align_all(base, models)
        weights = WeightAssignment(
            self.request, self.children, self.folder, self.progress, self.notes
        )
        with contextlib.closing(weights):
            source = weights.assign(
                base,
                models,
                alignments,
                lambda named: self.load_weight_source(base, named),
                lambda model, is_final: self._begin_export(model, exports, is_final=is_final),
            )
            for name, text in weights.failures.items():
                self.failures[name] = text
                del models[name], alignments[name]
            exports = self._plan_exports(models, exports)
            models = self._export_all(base, models, alignments, weights, exports)
        return PreparedModels(
            tuple(subjects), base.subject.name, models, alignments, weights.files, source,
            tuple(self.notes),
        )  # fmt: skip

    def _require_weight_source(self) -> None:
        """Raise the error of the model that `--weights` names, if it could not be read."""
        name = str(self.request.weights)
        if name in self.failures:
            raise ChildError(f"--weights: {name}: {self.failures[name]}")

    def read_models(self) -> tuple[list[GraphSubject], GraphSubject, dict[str, SubjectModel]]:
        """Load and read the models; return the subjects, the reference, and the models by name.

        Raises user errors, and `ChildError` if the reference cannot be loaded and read.
        """
        self.start()
        subjects = self._plan_subjects()
        answers = self._load_all(subjects)
        subjects = [answers[subject.name][0] for subject in subjects if subject.name in answers]
        if not subjects:
            raise ChildError("; ".join(f"{n}: {text}" for n, text in self.failures.items()))
        reference = self._choose_reference(subjects)
        models = self._read_all(subjects, answers, reference)
        if reference.name not in models:
            raise ChildError(f"{reference.name}: {self.failures[reference.name]}")
        return subjects, reference, models

    # Subjects ------------------------------------------------------------------------------------

    def _plan_subjects(self) -> list[GraphSubject]:
        if self._planned is None:
            self._planned = [
                GraphSubject(name, runtime, self._new_child(runtime, name), reference)
                for name, runtime, reference in self.request.name_models()
            ]
        return list(self._planned)

    def _new_child(self, runtime: str, model: str = "") -> str:
        """Return the name of a child that no other model has, in the environment of this model."""
        # Models are loaded by several threads, and no two may share a child.
        with self._lock:
            self._instances[runtime] = self._instances.get(runtime, 0) + 1
            return child_name(
                runtime,
                environment=self.request.environments.get(model),
                instance=self._instances[runtime],
            )

    def _load_all(
        self, subjects: Sequence[GraphSubject]
    ) -> dict[str, tuple[GraphSubject, dict[str, Any], dict[str, str]]]:
        """Load every model, side by side; one of the other framework is loaded there instead."""
        with self.children.threads(max(len(subjects), 1)) as pool:
            futures = {s.name: pool.submit(self._load, s) for s in subjects}
            return self._collect(futures, (ChildError, RequirementError))

    def _collect(
        self,
        futures: Mapping[str, Future[Any]],
        errors: tuple[type[ParityError], ...] = SUBJECT_ERRORS,
    ) -> dict[str, Any]:
        """Return the results by subject; keep the errors of subjects whose runtime failed."""
        found = {}
        for name, future in futures.items():
            try:
                found[name] = future.result()
            except errors as error:
                self.failures[name] = str(error)
        return found

    def _load(self, subject: GraphSubject) -> tuple[GraphSubject, dict[str, Any], dict[str, str]]:
        try:
            return self._load_in(subject)
        except WrongFrameworkError as error:
            other = error.framework
            self.progress(subject.name, f"is a model of {registry.label(other)}: {error}")
            child = self._new_child(other, subject.name)
            return self._load_in(replace(subject, runtime=other, child=child))

    def _load_in(
        self, subject: GraphSubject
    ) -> tuple[GraphSubject, dict[str, Any], dict[str, str]]:
        assert subject.reference is not None
        child = self.children[subject.child]
        self.progress(subject.name, f"starting {subject.runtime_label}")
        hello = child.hello()
        if self.threads is not None:
            child.call("set_threads", count=self.threads)
        self.progress(subject.name, "building the model")
        # A program crashes for reasons of its own.
        is_file = subject.reference.form == FILE
        with (
            refuse_crashing_file(subject.reference.target) if is_file else contextlib.nullcontext()
        ):
            answer = child.call(
                "load_reference",
                reference=subject.reference.to_json(),
                trust=list(self.request.trust),
                custom_objects=self.request.custom_objects,
                **({"seed": self.seed} if self.seed else {}),
            )
        return subject, answer, {**hello["versions"], "python": hello["python"]}

    def _note_example(
        self, subject: GraphSubject, example: Mapping[str, Array] | None, chosen: InputArrays
    ) -> None:
        """Note where the numbers of a model's example show too little to be compared on."""
        if self.request.input is not None or example is None or chosen.source == "the example":
            return
        if find_placeholders(example):
            self.notes.append(
                f"{subject.name}: its example has one number everywhere, at which much would not "
                f"show; compared on another input of its shape ({chosen.source})"
            )

    def _choose_reference(self, subjects: Sequence[GraphSubject]) -> GraphSubject:
        """Return the subject that is right: the one named, else the first framework's model."""
        wanted = self.request.reference
        if wanted is not None:
            for subject in subjects:
                if subject.name == wanted:
                    return subject
            if wanted in self.failures:
                raise ChildError(f"{wanted}: {self.failures[wanted]}")
            hint = suggest(wanted, [subject.name for subject in subjects])
            raise UsageError(f"--reference: no subject is called {quote(wanted)}{hint}")
        models = [s for s in subjects if s.runtime in registry.model_runtimes()]
        models.sort(key=lambda subject: subject.runtime != self.preferred)
        return (models or list(subjects))[0]

    # Reading -------------------------------------------------------------------------------------

    def _read_all(
        self,
        subjects: Sequence[GraphSubject],
        answers: Mapping[str, tuple[GraphSubject, dict[str, Any], dict[str, str]]],
        reference: GraphSubject,
    ) -> dict[str, SubjectModel]:
        declared: dict[str, list[DeclaredInput]] = {}
        examples: dict[str, dict[str, Array] | None] = {}
        for subject in subjects:
            with self._keep_failure(subject):
                declared[subject.name], examples[subject.name] = self._ask_inputs(subject)
        if self.complete is not None:
            declared = self.complete({subject.name: subject for subject in subjects}, declared)
            examples = dict.fromkeys(examples)
        order = sorted(
            (subject for subject in subjects if subject.name in declared),
            # Those that state their inputs first: the others are given the same.
            key=lambda s: _count_open(declared[s.name]),
        )
        chosen: dict[str, InputArrays] = {}
        prepared, preprocessing_notes = choose_preprocessing(
            self.request.preprocess, read_stated_models(self.request.onnx_files)
        )
        with self.children.threads(max(len(order), 1)) as pool:
            futures = {}
            for subject in order:
                own = declared[subject.name]
                others = [declared[s.name] for s in order if s is not subject]
                if any(spec.shape is None for spec in own) and examples[subject.name] is None:
                    with self._keep_failure(subject):
                        own = self._guess_inputs(subject, own, list(chosen.values()))
                if subject.name in self.failures:
                    continue
                chosen[subject.name] = choose_inputs(
                    self.request,
                    own,
                    examples[subject.name],
                    seed=self.request.seed,
                    others=others,
                    chosen=list(chosen.values()),
                    preprocess=prepared,
                )
                self._note_example(subject, examples[subject.name], chosen[subject.name])
                futures[subject.name] = pool.submit(
                    self._read, subject, chosen[subject.name], answers[subject.name]
                )
            if any(each.has_photograph for each in chosen.values()):
                self.notes += preprocessing_notes
            return self._collect(futures)

    @contextlib.contextmanager
    def _keep_failure(self, subject: GraphSubject) -> Iterator[None]:
        """Keep the error of a subject whose runtime fails; the others go on."""
        try:
            yield
        except SUBJECT_ERRORS as error:
            self.failures[subject.name] = str(error)

    def _guess_inputs(
        self,
        subject: GraphSubject,
        own: list[DeclaredInput],
        others: Sequence[InputArrays],
    ) -> list[DeclaredInput]:
        """Try another model's input shapes, in every order of their axes and as integers.

        What the user gave for an input is used as it is.
        """
        given = [self.request.shapes.get(spec.name) for spec in own]
        if any(spec.name in self.request.inputs for spec in own):
            return own
        shapes = [shape for shape in given if shape is not None]
        dtypes: list[str] = []
        if len(shapes) < len(given):
            if not others:
                return own
            shapes = [array.shape for array in others[0].arrays.values()]
            dtypes = [str(array.dtype) for array in others[0].arrays.values()]
            for position, shape in enumerate(given):
                if shape is not None and position < len(shapes):
                    shapes[position] = shape
        self.progress(subject.name, "trying the axis orders of its inputs")
        try:
            answer = self.children[subject.child].call(
                "guess_inputs",
                shapes=[list(shape) for shape in shapes],
                dtypes=dtypes,
                enough=1,
            )
        except InputError as error:
            if None not in given:
                text = _describe_inputs(dict(zip((s.name for s in own), given, strict=True)))
                raise InputError(f"{subject.name}: does not run on {text}: {error}") from error
            options = " ".join(f"--shape {spec.name}=…" for spec in own)
            raise InputError(f"{subject.name}: {error}; say {options}") from error
        found = answer["candidates"][0]
        for guess in found:
            text = "x".join(map(str, guess["shape"]))
            self.notes.append(
                f"{subject.name}: its input '{guess['name']}' states no shape; it runs with {text} "
                f"{guess['dtype']}"
            )
        return [
            DeclaredInput(guess["name"], tuple(guess["shape"]), guess["dtype"], "guess")
            for guess in found
        ]

    def _ask_inputs(
        self, subject: GraphSubject
    ) -> tuple[list[DeclaredInput], dict[str, Array] | None]:
        path = self.folder / f"example.{subject.name}.npz"
        answer = self.children[subject.child].call("read_inputs", example=str(path))
        declared = [DeclaredInput.from_json(entry) for entry in answer["inputs"]]
        if not answer["has_example"]:
            return declared, None
        return declared, load_npz(path)

    def _read(
        self,
        subject: GraphSubject,
        chosen: InputArrays,
        answer: tuple[GraphSubject, dict[str, Any], dict[str, str]],
    ) -> SubjectModel:
        """Record a model; where it reads ids, draw them from its whole vocabulary."""
        self.progress(subject.name, "reading the model")
        _, loaded, versions = answer
        graph, file, seconds, record = self._record(subject, chosen)
        if chosen.source.startswith("random"):
            bounds = find_id_bounds(graph)
            if bounds:
                arrays = redraw_integers(chosen.arrays, bounds, seed=self.request.seed)
                chosen = replace(chosen, arrays=arrays)
                graph, file, seconds, record = self._record(subject, chosen)
        return SubjectModel(
            subject=subject,
            graph=graph,
            inputs=chosen,
            input_file=file,
            brings_weights=loaded["brings_weights"],
            versions=versions,
            seconds=loaded["seconds"] + seconds,
            notes=(*loaded.get("notes", ()), *graph.notes),
            record=record,
        )

    def _record(
        self, subject: GraphSubject, chosen: InputArrays, label: str = ""
    ) -> tuple[Graph, Path, float, Any]:
        file = chosen.save(self.folder / f"inputs.{label}{subject.name}.npz")
        path = self.folder / f"graph.{label}{subject.name}.json"
        try:
            answer = self.children[subject.child].call(
                "read_graph", inputs=str(file), out=str(path)
            )
        except GraphError as error:
            given = [*self.request.inputs, *self.request.shapes]
            shapes = {n: array.shape for n, array in chosen.arrays.items() if n in given}
            if not shapes:
                raise
            # What the user gave does not fit; without it, the model itself would be at fault.
            text = _describe_inputs(shapes)
            raise InputError(f"{subject.name}: does not run on {text}: {error}") from error
        data = json.loads(path.read_text(encoding="utf-8"))
        graph = Graph.from_json(data, subject.name)
        return graph, file, answer["seconds"], answer["record"]

    def _add_graph_reader(
        self, models: dict[str, SubjectModel], reference: GraphSubject
    ) -> dict[str, SubjectModel]:
        """Where the reference is an ONNX file, PyTorch reads it in float64 as the reference.

        ONNX Runtime has no float64 convolution. The file that ONNX Runtime runs stays a subject.
        """
        if reference.runtime in registry.model_runtimes():
            return models
        evaluator = registry.graph_evaluator()
        subject = GraphSubject(
            f"{reference.name}{FLOAT64}",
            evaluator,
            self._new_child(evaluator),
            reference.reference,
        )
        answer = self._load_in(subject)
        read = self._read(subject, models[reference.name].inputs, answer)
        return {**models, subject.name: read}

    def read_at(self, state: GraphState, arrays: Mapping[str, Array]) -> GraphState:
        """Return the state with every model read again, on these inputs of the reference.

        The models keep their weights. One that does not run on inputs of these shapes, or whose
        axes cannot be told, is left out. Raises `GraphError` if the reference does not run on them.
        """
        label = "again."
        base = self._read_again(state.reference, InputArrays(arrays, "another size"), label)
        models: dict[str, SubjectModel] = {}
        alignments: dict[str, Alignment] = {}
        for name, model in state.models.items():
            if model.subject.name == base.subject.name:
                models[name] = replace(base, subject=model.subject)
                continue
            found = resize_inputs(model, state.alignments[name], arrays)
            if found is None:
                continue
            try:
                again = self._read_again(model, InputArrays(found, "another size"), label)
            except (GraphError, InputError):
                continue
            alignments[name] = align_models(base, again, self._given)
            models[name] = share_inputs(base, again, alignments[name])
        table = graph_points.build_table(
            base.graph,
            alignments,
            reference=base.subject.name,
            graphs={name: models[name].graph for name in alignments},
        )
        return replace(state, reference=base, models=models, alignments=alignments, table=table)

    def _read_again(self, model: SubjectModel, inputs: InputArrays, label: str) -> SubjectModel:
        self.progress(model.subject.name, "reading the model at another size")
        graph, file, _, record = self._record(model.subject, inputs, label)
        return replace(model, graph=graph, inputs=inputs, input_file=file, record=record)

    # Alignment -----------------------------------------------------------------------------------

    def align_all(
        self, base: SubjectModel, models: dict[str, SubjectModel]
    ) -> dict[str, Alignment]:
        alignments: dict[str, Alignment] = {}
        for name, model in list(models.items()):
            if model is base:
                continue
            self.progress(name, "pairing the layers")
            alignment = align_models(base, model, self._given)
            alignments[name] = alignment
            models[name] = share_inputs(base, model, alignment)
        return alignments

    # Weights -------------------------------------------------------------------------------------

    def load_weight_source(self, base: SubjectModel, reference: ModelReference) -> SubjectModel:
        """Load and read the model that `--weights` names, with the reference's inputs."""
        runtime = expect_runtime(reference)
        subject = GraphSubject("weights", runtime, self._new_child(runtime), reference)
        subject, *rest = self._load(subject)
        if not rest[0]["brings_weights"]:
            raise UsageError(
                f"--weights {reference.text}: this model has no weights of its own; add "
                ",weights=FILE"
            )
        own, example = self._ask_inputs(subject)
        if any(spec.shape is None for spec in own) and example is None:
            own = self._guess_inputs(subject, own, [base.inputs])
        # What the user gives is in the names of the compared models.
        request = replace(self.request, inputs={}, shapes={})
        chosen = choose_inputs(request, own, example, seed=request.seed, chosen=[base.inputs])
        source = self._read(subject, chosen, (subject, rest[0], rest[1]))
        return share_inputs(base, source, align_models(base, source))

    # Exports -------------------------------------------------------------------------------------

    def _plan_exports(
        self, models: Mapping[str, SubjectModel], known: Mapping[str, PlannedExport]
    ) -> dict[str, PlannedExport]:
        """Return the exports, by name: of the one model of each framework, where there is one.

        Those that are known keep their children; a model may have failed since they were planned.
        """
        if not self.request.export:
            return {}
        by_runtime: dict[str, list[SubjectModel]] = {}
        for model in models.values():
            if model.subject.runtime in registry.model_runtimes():
                by_runtime.setdefault(model.subject.runtime, []).append(model)
        planned = {}
        runtime = registry.graph_runtimes()[0]
        for group in by_runtime.values():
            model = group[0]
            name = f"onnx-{model.subject.name}"
            is_file = model.subject.reference is not None and model.subject.reference.runtime == (
                "onnx"
            )
            if len(group) == 1 and not is_file and name not in models and self._wants(name):
                planned[name] = known.get(name) or PlannedExport(
                    model.subject.name, runtime, self._new_child(runtime)
                )
        return planned

    def _begin_export(
        self, model: SubjectModel, planned: Mapping[str, PlannedExport], *, is_final: bool
    ) -> None:
        """Let a model that has its final weights be exported, or another be traced.

        A model that reads its weights as numbers, as a user's may, is traced with those that it is
        compared with: not now, if they may be replaced.
        """
        name = next((n for n, each in planned.items() if each.model == model.subject.name), None)
        if name is None:
            return
        if is_final:
            self._child(model).begin("export_graph", **self._request_export(model, name))
            return
        reference = model.subject.reference
        is_zoo = reference is not None and reference.form == ZOO
        keeps_weights = model.brings_weights and self.request.weights in (None, OWN)
        if is_zoo or keeps_weights:
            self._child(model).begin(
                "trace_graph", inputs=str(model.input_file), opset=self.request.opset
            )

    def _export_all(
        self,
        base: SubjectModel,
        models: dict[str, SubjectModel],
        alignments: dict[str, Alignment],
        weights: WeightAssignment,
        planned: Mapping[str, PlannedExport],
    ) -> dict[str, SubjectModel]:
        """Export the models as planned; a failure is a note."""
        with self.children.threads(max(len(planned), 1)) as pool:
            futures = {
                name: pool.submit(self._export, base, models[each.model], name, each, weights)
                for name, each in planned.items()
            }
            for name, future in futures.items():
                try:
                    exported, alignment = future.result()
                    weights.save(exported)
                    # An export has its model's weights; with those of the reference, the values
                    # agree.
                    alignments[name] = weights.check_values(base, exported, alignment)
                    models[name] = exported
                except ParityError as error:
                    if self.request.subjects:
                        self.failures[name] = str(error)
                    else:
                        self.notes.append(f"{name}{NOT_COMPARED}{error}")
        return models

    def _wants(self, name: str) -> bool:
        selected = [text.partition("@")[0] for text in self.request.subjects]
        return not selected or name in selected

    def _export(
        self,
        base: SubjectModel,
        model: SubjectModel,
        name: str,
        planned: PlannedExport,
        weights: WeightAssignment,
    ) -> tuple[SubjectModel, Alignment]:
        """Export a model, read the file and pair it with `base`; its check has begun."""
        self.progress(model.subject.name, "exporting to ONNX")
        arguments = self._request_export(model, name)
        self._child(model).call("export_graph", **arguments)
        reference = parse_reference(str(arguments["path"]))
        subject = GraphSubject(
            name, planned.runtime, planned.child, reference, exported_from=model.subject.name
        )
        answer = self._load_in(subject)
        declared, _ = self._ask_inputs(subject)
        arrays = dict(
            zip((spec.name for spec in declared), model.inputs.arrays.values(), strict=False)
        )
        for spec in declared:
            if spec.name in model.inputs.arrays:
                arrays[spec.name] = model.inputs.arrays[spec.name]
        exported = self._read(subject, InputArrays(arrays, model.inputs.source), answer)
        alignment = align_models(base, exported)
        exported = share_inputs(base, exported, alignment)
        weights.begin_save_and_run(exported, alignment)
        return exported, alignment

    def _request_export(self, model: SubjectModel, name: str) -> dict[str, Any]:
        """Return the arguments of the operation `export_graph`."""
        return {
            "path": str(self.folder / f"{name}.onnx"),
            "inputs": str(model.input_file),
            "opset": self.request.opset,
        }

    # State ---------------------------------------------------------------------------------------

    def _child(self, model: SubjectModel) -> Child:
        return self.children[model.subject.child]

    def build_state(self, prepared: PreparedModels) -> GraphState:
        """Return the state of the models that the request selects, with their devices."""
        subjects, models, alignments = prepared.subjects, prepared.models, prepared.alignments
        base = models[prepared.base]
        names = [*(s.name for s in subjects), *self.failures, *models]
        names = [n for n in dict.fromkeys(names) if not n.endswith(FLOAT64)]
        selected = select_subjects(names, self.request.subjects)
        every = {s.name: s for s in subjects} | {n: m.subject for n, m in models.items()}
        placement = self._confirm_devices(every, selected)
        placed = {
            name: replace(every[name], device=placement.devices.get(name, "cpu"))
            for name in selected
            if name in every
        }
        compared = {
            name: replace(models[name], subject=subject)
            for name, subject in placed.items()
            if name in models
        }
        reference = base
        # The check by values may have made an alignment anew.
        kept = {
            name: pair_norms(base.graph, models[name].graph, each)
            for name, each in alignments.items()
            if name in compared
        }
        table = graph_points.build_table(
            reference.graph,
            kept,
            reference=reference.subject.name,
            graphs={name: compared[name].graph for name in kept},
        )
        return GraphState(
            request=self.request,
            folder=self.folder,
            reference=reference,
            models=compared,
            alignments=kept,
            table=table,
            weights=prepared.weights,
            weight_source=prepared.weight_source,
            placement=placement,
            failures={n: t for n, t in self.failures.items() if n in selected},
            subjects=tuple(placed.values()),
            notes=(*prepared.notes, *(note for m in models.values() for note in m.notes)),
        )

    def _confirm_devices(
        self, subjects: Mapping[str, GraphSubject], selected: Mapping[str, str | None]
    ) -> Placement:
        """Ask the runtimes of subjects that are planned on the GPU; raises `DeviceMissing`."""
        wanted = [
            DeviceRequest(s.name, s.runtime, s.child, selected[s.name] or self.request.device)
            for s in subjects.values()
            if s.name in selected
        ]
        return confirm_devices(self.placement, wanted, self.children)


def _describe_inputs(shapes: Mapping[str, Sequence[int] | None]) -> str:
    """Return `'x' of 1x3x8x8, 'mask' of 1x8`."""
    return ", ".join(
        f"'{name}' of {'x'.join(map(str, shape or ()))}" for name, shape in shapes.items()
    )


def _count_open(declared: Sequence[DeclaredInput]) -> tuple[bool, int]:
    """Return whether an input states no shape, and the number of axes of any length."""
    shapes = [spec.shape for spec in declared]
    return None in shapes, sum(shape.count(None) for shape in shapes if shape is not None)
