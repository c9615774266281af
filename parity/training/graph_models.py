"""The models that references name, made ready to train: read, aligned, with one start."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from parity.comparison.graphs.image_shapes import (
    DataImages,
    OpenShape,
    fill_shape,
    find_image_shape,
    read_stated_shape,
)
from parity.comparison.graphs.inputs import DeclaredInput, format_shape
from parity.comparison.graphs.preparation import Preparation
from parity.comparison.graphs.request import GraphRequest, GraphSubject
from parity.comparison.graphs.state import SubjectModel
from parity.comparison.graphs.weight_assignment import WeightAssignment
from parity.comparison.graphs.weights import group_weight_pairs
from parity.errors import ChildError, UsageError, WeightError
from parity.network import kinds
from parity.network.alignment import Alignment, WeightPair
from parity.network.graph import Graph, Node, Parameter
from parity.network.rearrangement import Rearrangement
from parity.network.rows import Row, Weight
from parity.network.table import LayerTable
from parity.network.trained_layout import ChoicePoint, TrainedLayout
from parity.processes import registry
from parity.processes.children import Children
from parity.processes.references import SCRIPT, WEIGHTS, parse_reference, split_name
from parity.training.models import HOOKED_KINDS, TrainedModel, find_hidden_kinks
from parity.training.verification import REFERENCE

Progress = Callable[[str, str], None]

_STATISTICS = ("mean", "variance")

_TORCH_CALLS: Mapping[str, tuple[str, ...]] = {"relu": ("relu",), "max_pool": ("max_pool2d",)}
"""By kind, the operations that PyTorch's hooks count; those of Keras count all of the kind."""


@dataclass(frozen=True)
class GraphModelRequest:
    """Models to train by reference. Raises `UsageError` for a combination that cannot be.

    `image_size` and `channels` are what the user gives; `data_channels` and `data_size` are those
    of the data, for a model that states none. `classes` is their number. `init` is a reference or
    checkpoint whose weights are the start, None for the reference framework's own.
    """

    references: tuple[str, ...]
    classes: int
    data: str
    data_channels: int
    data_size: tuple[int, int] | None = None
    image_size: tuple[int, int] | None = None
    channels: int | None = None
    init: str | None = None
    seed: int = 0
    threads: int = 1
    trust: tuple[str, ...] = ()
    custom_objects: str | None = None

    def __post_init__(self) -> None:
        if len(self.references) > len(registry.model_runtimes()):
            raise UsageError(
                f"{' '.join(self.references)}: expected one model of each framework, found "
                f"{len(self.references)}"
            )


def name_run(references: Sequence[str]) -> str:
    """Return the default name of a run's folder: the models' names."""
    stems = [parse_reference(split_name(text)[1]).stem for text in references]
    return re.sub(r"[^A-Za-z0-9_.@-]+", "-", "-".join(stems)).strip("-") or "model"


def load_graph_models(
    request: GraphModelRequest, children: Children, folder: Path, progress: Progress
) -> TrainedModel:
    """Load the models in their children, pair their weights, and give all the same start.

    Raises `UsageError` for models that cannot be trained on these data, or together, `WeightError`
    for a weight without a partner.
    """
    given = GraphRequest(
        references=request.references,
        export=False,
        device="cpu",
        seed=request.seed,
        trust=request.trust,
        custom_objects=request.custom_objects,
    )
    preparation = Preparation(
        given, children, folder, progress, preferred=REFERENCE, seed=request.seed,
        threads=request.threads, complete=lambda subjects, declared: _complete_inputs(
            request, subjects, declared, children, preparation.notes
        ),
    )  # fmt: skip
    _, reference, models = preparation.read_models()
    if preparation.failures:
        raise ChildError("; ".join(f"{n}: {text}" for n, text in preparation.failures.items()))
    base = models[reference.name]
    for model in models.values():
        _require_classifier(model, request)
    alignments = preparation.align_all(base, models)
    start: str | None = request.init
    if start is None and base.brings_weights:
        start = base.subject.name
    assignment = WeightAssignment(
        replace(given, weights=start), children, folder, progress, preparation.notes
    )
    with closing(assignment):
        assignment.assign(
            base, models, alignments, lambda named: preparation.load_weight_source(base, named)
        )
        for name, text in assignment.failures.items():
            raise ChildError(f"{name}: {text}")
    return _describe(request, base, models, alignments, tuple(preparation.notes))


def _require_frameworks(runtimes: Mapping[str, str]) -> None:
    """Raise `UsageError` unless each model, by name, is of a framework of its own that trains."""
    found: dict[str, str] = {}
    for name, runtime in runtimes.items():
        label = registry.label(runtime)
        if runtime not in registry.model_runtimes():
            raise UsageError(f"{name}: {label} does not train; give a model of Keras or PyTorch")
        if runtime in found:
            raise UsageError(
                f"{found[runtime]} and {name} are both models of {label}; give one of each "
                "framework"
            )
        found[runtime] = name


def _require_classifier(model: SubjectModel, request: GraphModelRequest) -> None:
    """Raise `UsageError` unless a model gives one score for each class of the data."""
    graph, text = model.graph, _text_of(model)
    shapes = [graph.tensors[port.tensor].shape for port in graph.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 2:
        found = " and ".join("x".join(map(str, shape)) for shape in shapes)
        raise UsageError(
            f"{text}: its output is {found}; expected one row of scores for each image"
        )
    if shapes[0][-1] != request.classes:
        raise UsageError(
            f"{text}: its output has {shapes[0][-1]} values, {request.data} has "
            f"{request.classes} classes; build the model with {request.classes}"
        )


def _text_of(model: SubjectModel) -> str:
    return _name_subject(model.subject)


def _name_subject(subject: GraphSubject) -> str:
    return subject.name if subject.reference is None else subject.reference.text


# Inputs ------------------------------------------------------------------------------------------


def _complete_inputs(
    request: GraphModelRequest,
    subjects: Mapping[str, GraphSubject],
    declared: Mapping[str, list[DeclaredInput]],
    children: Children,
    notes: list[str],
) -> dict[str, list[DeclaredInput]]:
    """Return the one input of each model with its whole shape: that of the images.

    In this order: what the user gives, what a model states, what a model alone runs on, the size
    of the data. Raises `UsageError` where nothing states a size, or a Keras model states another,
    and `InputError` for a model that does not run on images of this shape.
    """
    _require_frameworks({name: subject.runtime for name, subject in subjects.items()})
    stated = {
        name: read_stated_shape(name, subjects[name].runtime, each)
        for name, each in declared.items()
    }
    wanted: OpenShape = (request.channels, *(request.image_size or (None, None)))
    for images in stated.values():
        wanted = fill_shape(wanted, images)
    data = DataImages(request.data_channels, request.data_size)
    if None in wanted:
        wanted = _find_shape(request, subjects, declared, wanted, data, children, notes)
    channels, height, width = wanted
    found = {}
    for name, specs in declared.items():
        if subjects[name].runtime == "keras":
            for size, own, option in zip(
                wanted, stated[name], ("channels", "height", "width"), strict=True
            ):
                if own not in (None, size):
                    raise UsageError(
                        f"{name}: its input has {option} {own}, the images have {size}; "
                        "--image-size and --channels change them"
                    )
            shape = (1, height, width, channels)
        else:
            if stated[name] != wanted:
                child = children[subjects[name].child]
                find_image_shape(_name_subject(subjects[name]), child, wanted, data)
            shape = (1, channels, height, width)
        found[name] = [DeclaredInput(specs[0].name, shape, "float32", "images")]
    return found


def _find_shape(
    request: GraphModelRequest,
    subjects: Mapping[str, GraphSubject],
    declared: Mapping[str, list[DeclaredInput]],
    wanted: OpenShape,
    data: DataImages,
    children: Children,
    notes: list[str],
) -> OpenShape:
    """Return the shape of images on which the models run, where they state none.

    Raises `UsageError` where they take any size and neither the user nor the data have one.
    """
    found = {
        name: find_image_shape(
            _name_subject(subjects[name]), children[subjects[name].child], wanted, data
        )
        for name in declared
    }
    is_sized = None not in wanted[1:] or data.size is not None
    if not is_sized and not any(each.is_only for each in found.values()):
        raise UsageError(
            f"{' '.join(request.references)}: nothing states the size of the images; give "
            "--image-size"
        )
    # A model that runs on one size alone decides for one that takes any.
    name = max(found, key=lambda each: found[each].is_only)
    what = "runs on" if found[name].is_only else "is given"
    notes.append(
        f"{_name_subject(subjects[name])}: states no size of its images; it {what} "
        f"{format_shape(found[name].shape)}"
    )
    return found[name].shape


# The description ---------------------------------------------------------------------------------


def _describe(
    request: GraphModelRequest,
    base: SubjectModel,
    models: Mapping[str, SubjectModel],
    alignments: Mapping[str, Alignment],
    notes: tuple[str, ...],
) -> TrainedModel:
    other = next((model for model in models.values() if model is not base), None)
    alignment = None if other is None else alignments[other.subject.name]
    trained = _find_trained(base.graph)
    shapes = {name: parameter.shape for name, parameter in trained.items()}
    names = _name_nodes(base.graph)
    points = _find_choices(base.graph, other, alignment, names)
    table = _build_table(base, other, alignment, trained, names)
    layouts = {
        base.subject.runtime: TrainedLayout(
            shapes,
            request.classes,
            choices=tuple(point for point, _ in points),
            calls=_count_calls(base.graph),
        )
    }
    if other is not None and alignment is not None:
        layouts[other.subject.runtime] = TrainedLayout(
            shapes,
            request.classes,
            pairs=_pair_weights(base, other, alignment, trained),
            choices=tuple(point for _, point in points),
            calls=_count_calls(other.graph),
        )
    shape = base.graph.tensors[base.graph.inputs[0].tensor].shape
    size = shape[1:3] if base.subject.runtime == "keras" else shape[2:4]
    runtimes = {model.subject.runtime: model for model in models.values()}
    ordered = tuple(name for name in registry.model_runtimes() if name in runtimes)
    return TrainedModel(
        name=" ".join(request.references),
        table=table,
        identity=_identify(request, {name: runtimes[name] for name in ordered}),
        image_size=(size[0], size[1]),
        channels=shape[3] if base.subject.runtime == "keras" else shape[1],
        frameworks=ordered,
        hidden_kinks=find_hidden_kinks(table.rows, hooked=[point.name for point, _ in points]),
        layouts=layouts,
        children={name: model.subject.child for name, model in runtimes.items()},
        notes=notes,
    )


def _find_trained(graph: Graph) -> dict[str, Parameter]:
    """Return the weights that training changes, by name: trained ones and moving statistics."""
    found: dict[str, Parameter] = {}
    for node in graph.nodes:
        for each in node.parameters:
            if not each.dtype.startswith(("float", "bfloat")):
                continue
            if each.trainable or each.role in _STATISTICS:
                known = found.get(each.name)
                if known is None or not known.role:
                    found[each.name] = each
    return found


def _pair_weights(
    base: SubjectModel, other: SubjectModel, alignment: Alignment, trained: Mapping[str, Parameter]
) -> tuple[WeightPair, ...]:
    """Return the pairs that make the other's weights of the base's, number by number.

    Raises `WeightError` for a weight that is folded or summed, with its name.
    """
    owners = {each.name: each for each in other.graph.parameters}
    folded = [name for name in alignment.folded_parameters[0] if name in trained]
    if folded:
        raise WeightError(
            f"{_text_of(other)}: {folded[0]} is folded into another weight there: the two models "
            "have other numbers to train"
        )
    groups = group_weight_pairs(alignment, _as_keys(trained), _as_keys(owners))
    pairs = [pair for group in groups.values() for pair in group]
    for pair in pairs:
        if pair.transform.term is not None or pair.transform.is_zero:
            raise WeightError(
                f"{_text_of(other)}: {pair.other} is a sum of weights in {_text_of(base)}, such as "
                f"{pair.reference}: as one weight it would be trained otherwise"
            )
    partners = {pair.reference for pair in pairs}
    missing = [name for name in trained if name not in partners]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise WeightError(
            f"{_text_of(base)}: {missing[0]}{more} has no partner in {_text_of(other)}; `parity "
            "align` lists the pairs"
        )
    return tuple(pairs)


def _as_keys(parameters: Mapping[str, Parameter]) -> Mapping[str, Any]:
    # Whether a weight is there is all that the grouping asks of the values.
    return parameters


# Choices -----------------------------------------------------------------------------------------


def _count_calls(graph: Graph) -> dict[str, int]:
    """Return the number of calls of each hooked kind in a forward pass."""
    return {kind: len(_list_calls(graph, kind)) for kind in HOOKED_KINDS}


def _list_calls(graph: Graph, kind: str) -> list[str]:
    """Return the ids of the nodes whose calls the framework's hooks count, in their order."""
    operations = None if graph.framework == "keras" else _TORCH_CALLS[kind]
    return [
        node.id
        for node in graph.nodes
        if node.kind == kind and (operations is None or node.operation in operations)
    ]


def _find_choices(
    graph: Graph, other: SubjectModel | None, alignment: Alignment | None, names: Mapping[str, str]
) -> list[tuple[ChoicePoint, ChoicePoint]]:
    """Return the points of ReLUs and max-pools that both models have, for each model."""
    if other is None or alignment is None:
        return []
    found: list[tuple[ChoicePoint, ChoicePoint]] = []
    for kind in HOOKED_KINDS:
        calls, others = _list_calls(graph, kind), _list_calls(other.graph, kind)
        for _, pair in alignment.tensors:
            one, two = graph.producers.get(pair.reference), other.graph.producers.get(pair.other)
            if one is None or two is None or one.id not in calls or two.id not in others:
                continue
            name = names[one.id]
            crop = (
                _find_crop(graph, one, other.graph, two, pair.rearrangement)
                if kind != "relu"
                else _NONE
            )
            if crop is None or any(point.name == name for point, _ in found):
                continue
            found.append(
                (
                    ChoicePoint(name, kind, calls.index(one.id)),
                    ChoicePoint(name, kind, others.index(two.id), pair.rearrangement, crop),
                )
            )
    return found


_NONE = (0, 0, 0, 0)


def _find_crop(
    graph: Graph, node: Node, other_graph: Graph, other: Node, rearrangement: Rearrangement
) -> tuple[int, int, int, int] | None:
    """Return what an operation before the other's max-pool pads; None where it cannot be told."""
    plane = graph.tensors[node.inputs[0]].shape
    other_plane = other_graph.tensors[other.inputs[0]].shape
    if (
        len(plane) != 4
        or rearrangement.split
        or rearrangement.merged
        or rearrangement.order != (0, 3, 1, 2)
    ):
        return None
    if plane[2:] == other_plane[1:3]:
        return _NONE
    before = other_graph.producers.get(other.inputs[0])
    if before is None or before.kind != "pad":
        return None
    inner = other_graph.tensors[before.inputs[0]].shape
    pairs = [tuple(pair) for pair in before.hyper.get("padding", ())]
    if inner[1:3] != plane[2:] or len(pairs) != 2:
        return None
    (top, bottom), (left, right) = pairs
    return (top, bottom, left, right)


# The table ---------------------------------------------------------------------------------------


def _name_nodes(graph: Graph) -> dict[str, str]:
    """Return a unique name for each node, by its id: its module's path, and what it computes."""
    alone = _find_leaves(graph)
    found: dict[str, str] = {}
    taken: set[str] = set()
    for node in graph.nodes:
        own = node.path if node.id in alone else f"{node.path}.{node.operation}".strip(".")
        name, number = own or node.operation, 1
        while name in taken:
            number += 1
            name = f"{own or node.operation}:{number}"
        taken.add(name)
        found[node.id] = name
    return found


def _find_leaves(graph: Graph) -> set[str]:
    """Return the ids of the nodes that are alone what their module computes."""
    by_path: dict[str, list[str]] = {}
    for node in graph.nodes:
        by_path.setdefault(node.path, []).append(node.id)
    return {ids[0] for path, ids in by_path.items() if path and len(ids) == 1}


def _build_table(
    base: SubjectModel,
    other: SubjectModel | None,
    alignment: Alignment | None,
    trained: Mapping[str, Parameter],
    names: Mapping[str, str],
) -> LayerTable:
    """Return the base's operations as rows, each weight at the first that reads it.

    A row has the path of its module if it is alone what the module computes, or has weights.
    """
    partners: dict[str, str] = {}
    if alignment is not None and other is not None:
        for pair in alignment.pairs:
            for identifier in pair.reference:
                if pair.other:
                    path = other.graph.by_id[pair.other[-1]].path
                    partners[identifier] = path or pair.other[-1]
    leaves, seen = _find_leaves(base.graph), set[str]()
    rows: list[Row] = []
    is_torch = base.subject.runtime == REFERENCE
    for node in base.graph.nodes:
        own = [p for p in node.parameters if p.name in trained and p.name not in seen]
        seen.update(p.name for p in own)
        path = node.path if node.id in leaves or node.parameters else ""
        tensor = base.graph.tensors[node.outputs[0]]
        rows.append(
            Row(
                name=names[node.id],
                stage="model",
                kind=node.kind,
                keras=partners.get(node.id, "") if is_torch else path,
                torch=path if is_torch else "",
                shape=_channels_first(tensor.shape[1:], tensor.axes, is_torch=is_torch),
                weights=tuple(_to_weight(node, p) for p in own),
            )
        )
    return LayerTable(tuple(rows))


def _to_weight(node: Node, parameter: Parameter) -> Weight:
    kind = kinds.find(node.kind)
    roles = () if kind is None else kind.roles
    keras = next((role.keras for role in roles if role.name == parameter.role), "")
    return Weight(parameter.role, parameter.name, keras, parameter.shape)


def _channels_first(shape: tuple[int, ...], axes: str, *, is_torch: bool) -> tuple[int, ...]:
    """Return an output's shape, without the batch, with the channels before the positions."""
    last = len(shape) == 2 and axes in ("", "N T C")
    if len(shape) > 1 and (last or not is_torch):
        return (shape[-1], *shape[:-1])
    return shape


# Identity ----------------------------------------------------------------------------------------


def _identify(request: GraphModelRequest, models: Mapping[str, SubjectModel]) -> dict[str, Any]:
    """Return what makes the models these: their references, files and operations."""
    return {
        "references": list(request.references),
        "files": {
            name: digest
            for text in request.references
            for name, digest in _hash_files(split_name(text)[1]).items()
        },
        "operations": {name: _hash_graph(model.graph) for name, model in models.items()},
    }


def _hash_files(text: str) -> dict[str, str]:
    """Return the SHA-256 of the script, the model file and the checkpoint of a reference."""
    reference = parse_reference(text)
    paths = [str(reference.options.get(WEIGHTS, ""))]
    if reference.form == SCRIPT or not reference.is_code:
        paths.append(reference.target)
    found = {}
    for path in map(Path, filter(None, paths)):
        if path.is_file():
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _hash_graph(graph: Graph) -> str:
    """Return the SHA-256 of a graph's operations, without their lines and the weights' values."""
    nodes = [
        [
            node.kind,
            node.operation,
            node.path,
            node.inputs,
            node.outputs,
            dict(node.hyper),
            [[p.name, p.role, p.shape, p.dtype] for p in node.parameters],
        ]
        for node in graph.nodes
    ]
    return hashlib.sha256(json.dumps(nodes, sort_keys=True, default=str).encode()).hexdigest()
