"""The pairs of own networks, their truth, and the comparison of one of them with equal weights."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from parity.commands.compare_graphs import judge_models
from parity.commands.values import no_progress
from parity.comparison.graphs.norm_pairs import pair_norms
from parity.comparison.graphs.preparation import Preparation
from parity.comparison.graphs.request import GraphRequest
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.state import GraphState, SubjectModel
from parity.errors import ChildError
from parity.network import alignment as aligning
from parity.network.alignment import Alignment
from parity.network.graph import Graph, Parameter
from parity.processes.children import Children
from parity.report.graph_assembly import assemble_graph_report
from parity.report.model import Report

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class OwnPair:
    """One network of `keras_networks.py` and `torch_networks.py`.

    `parts` are the PyTorch modules of a Keras layer that has several there. `twin` is a second
    Keras network, which takes the place of PyTorch's.
    """

    name: str
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    twin: str = ""

    @property
    def keras(self) -> str:
        return f"{FOLDER / 'keras_networks.py'}:{self.name}"

    @property
    def other(self) -> str:
        if self.twin:
            return f"{FOLDER / 'keras_networks.py'}:{self.twin}"
        return f"{FOLDER / 'torch_networks.py'}:{self.name}"


OWN_PAIRS = (
    OwnPair("u_net"),
    OwnPair("lstm_tagger"),
    OwnPair("gru_after"),
    OwnPair("gru_before", twin="gru_cells"),
    OwnPair("bidirectional"),
    OwnPair("last_state"),
    OwnPair("conv1d"),
    OwnPair("conv3d"),
    OwnPair("token_model"),
    OwnPair("attention_layer", {"attention": ("out_proj",)}),
    OwnPair("two_inputs"),
    OwnPair("two_outputs"),
    OwnPair("dict_outputs"),
    OwnPair("subclassed"),
    OwnPair("nested"),
    OwnPair("operators"),
    OwnPair("separable", {"first": ("first_depthwise", "first_pointwise")}),
    OwnPair("squeeze_excite"),
    OwnPair("flattened"),
    OwnPair("residual"),
    OwnPair("upsampled"),
)


@dataclass(frozen=True)
class OwnCount:
    """The alignment of one pair against the truth; `layers` are those that have a partner."""

    layers: int
    paired: int
    wrong: tuple[str, ...]


def name_layer(parameter: str, layers: frozenset[str]) -> str:
    """Return the layer, of those known, that owns a Keras variable or a PyTorch parameter."""
    parts = parameter.replace("/", ".").split(".")
    return next((part for part in reversed(parts) if part in layers), parameter)


def list_layers(pair: OwnPair, state: GraphState) -> frozenset[str]:
    """Return the names of layers that the PyTorch side of a pair has."""
    (model,) = (state.models[name] for name in state.alignments)
    every = {
        part for p in model.graph.parameters for part in p.name.replace("/", ".").split(".")[:-1]
    }
    return frozenset(every | pair.parts.keys())


def count_pairs(pair: OwnPair, state: GraphState) -> OwnCount:
    """Count a state's pairs of weights against the truth: equal names."""
    layers = list_layers(pair, state)
    (alignment,) = state.alignments.values()
    owners = {part: whole for whole, parts in pair.parts.items() for part in parts}
    right, wrong = set[str](), []
    for weights in alignment.weights:
        first, second = name_layer(weights.reference, layers), name_layer(weights.other, layers)
        if owners.get(first, first) == owners.get(second, second) and _same_part(weights):
            right.add(owners.get(first, first))
        else:
            wrong.append(f"{weights.reference} → {weights.other}")
    every = {name_layer(p.name, layers) for p in state.reference.graph.parameters}
    every = {owners.get(name, name) for name in every}
    return OwnCount(len(every), len(right), tuple(wrong))


def _same_part(weights: aligning.WeightPair) -> bool:
    """Return whether a pair is of one direction and, for separable layers, of one part."""
    first, second = weights.reference, weights.other
    if ("backward" in first) != ("_reverse" in second):
        return "backward" not in first and "_reverse" not in second
    for part in ("depthwise", "pointwise"):
        if f"{part}_kernel" in first and part not in second:
            return False
    return True


class EqualWeights(Preparation):
    """Treats every model as one without weights, so that all get the reference's."""

    def _read(self, *arguments: object, **options: object) -> SubjectModel:
        read = super()._read(*arguments, **options)  # type: ignore[arg-type]
        return replace(read, brings_weights=False)


def compare_with_equal_weights(
    request: GraphRequest, children: Children
) -> tuple[GraphState, Report]:
    """Compare models after one's weights were copied into the others by the alignment."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        preparation = EqualWeights(request, children, folder, no_progress)
        state = preparation.run()
        if state.failures:
            raise ChildError("; ".join(f"{n}: {t}" for n, t in state.failures.items()))
        runner = GraphRunner(state, children, folder, no_progress)
        state, findings = judge_models(state, runner)
        return state, assemble_graph_report(state, findings, 0.0)


def scrub_names(graph: Graph, seed: int = 0) -> Graph:
    """Return a graph without the names that a person gave: of weights, paths, ports and lines."""

    def scrub(text: str) -> str:
        return hashlib.sha1(f"{seed}{graph.framework}{text}".encode()).hexdigest()[:12]

    def rename(parameter: Parameter) -> Parameter:
        return replace(parameter, name=scrub(parameter.name))

    nodes = []
    for node in graph.nodes:
        constants = dict(node.constants)
        for key, value in constants.items():
            if isinstance(value, dict) and "parameter" in value:
                constants[key] = {**value, "parameter": scrub(value["parameter"])}
        nodes.append(
            replace(
                node,
                parameters=tuple(map(rename, node.parameters)),
                path=scrub(node.path),
                source="",
                constants=constants,
            )
        )
    return replace(
        graph,
        nodes=tuple(nodes),
        inputs=tuple(replace(port, name=scrub(port.name)) for port in graph.inputs),
        outputs=tuple(replace(port, name=scrub(port.name)) for port in graph.outputs),
        unused_parameters=tuple(map(rename, graph.unused_parameters)),
    )


def align_scrubbed(reference: Graph, other: Graph) -> Alignment:
    """Return the alignment of two graphs without names."""
    left, right = scrub_names(reference), scrub_names(other, 1)
    return pair_norms(left, right, aligning.align(left, right))
