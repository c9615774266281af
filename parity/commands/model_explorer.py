"""The files that Model Explorer shows: two graphs, and which nodes of them are pairs.

The forms are those of google-ai-edge/model-explorer: a graph collection (`input_graph.ts`) and the
data for synchronised navigation (`sync_navigation.ts`), as of version 0.1.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from parity import files
from parity.errors import OutputError
from parity.network.alignment import Alignment
from parity.network.graph import Graph, Node

PAIRS = "pairs.json"
"""The file to upload under "Sync navigation"."""


def write_files(
    folder: Path, graphs: tuple[Graph, Graph], names: tuple[str, str], alignment: Alignment
) -> list[Path]:
    """Write the two graphs and their pairs into `folder`; return the files.

    Raises `OutputError` for a folder that cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be a folder: {error.strerror}") from error
    contents: dict[str, Any] = {
        f"{name}.json": format_collection(graph, name)
        for name, graph in zip(names, graphs, strict=True)
    }
    contents[PAIRS] = format_pairs(alignment)
    written = []
    for name, content in contents.items():
        files.write_text(folder / name, json.dumps(content))
        written.append(folder / name)
    return written


def format_collection(graph: Graph, label: str) -> dict[str, Any]:
    """Return a graph as a collection of one; inputs and outputs of the model are nodes too."""
    places = {
        tensor: (node.id, index)
        for node in graph.nodes
        for index, tensor in enumerate(node.outputs)
    }
    nodes: list[dict[str, Any]] = []
    for port in graph.inputs:
        places[port.tensor] = (f"input:{port.name}", 0)
        nodes.append(
            {
                "id": f"input:{port.name}",
                "label": port.name,
                "namespace": "",
                "outputsMetadata": _describe_tensors(graph, (port.tensor,)),
            }
        )
    nodes += [_format_node(graph, node, places) for node in graph.nodes]
    for port in graph.outputs:
        edges = _format_edges((port.tensor,), places)
        name = f"output:{port.name}"
        nodes.append({"id": name, "label": port.name, "namespace": "", "incomingEdges": edges})
    return {"label": label, "graphs": [{"id": label, "nodes": nodes}]}


def format_pairs(alignment: Alignment) -> dict[str, Any]:
    """Return the pairs as the data for synchronised navigation, the reference on the left.

    A node is in one entry alone, as Model Explorer expects it: pairs that share a node are joined.
    """
    entries: list[tuple[list[str], list[str]]] = [
        ([f"input:{one}"], [f"input:{two}"]) for one, two in alignment.inputs.items()
    ]
    entries += [([f"output:{one}"], [f"output:{two}"]) for one, two in alignment.outputs.items()]
    of_node: dict[tuple[int, str], int] = {}
    for pair in alignment.pairs:
        keys = [*((0, each) for each in pair.reference), *((1, each) for each in pair.other)]
        place = next((of_node[key] for key in keys if key in of_node), len(entries))
        if place == len(entries):
            entries.append(([], []))
        for side, node in keys:
            if (side, node) not in of_node:
                of_node[side, node] = place
                entries[place][side].append(node)
    return {
        "type": "sync_navigation",
        "mappingEntries": [{"leftNodeIds": left, "rightNodeIds": right} for left, right in entries],
        # Equal ids of two models mean nothing.
        "disableMappingFallback": True,
    }


def _format_node(graph: Graph, node: Node, places: dict[str, tuple[str, int]]) -> dict[str, Any]:
    attributes = {
        "operation": node.operation,
        "layer": node.path,
        "source": node.source,
        **{name: str(value) for name, value in node.hyper.items()},
    }
    for weight in node.parameters:
        shape = "×".join(map(str, weight.shape))
        attributes[weight.role or weight.name] = f"{weight.name} {shape} {weight.dtype}"
    return {
        "id": node.id,
        "label": node.kind if node.kind != "opaque" else node.operation,
        "namespace": node.path.replace(".", "/"),
        "attrs": [{"key": key, "value": value} for key, value in attributes.items() if value],
        "incomingEdges": _format_edges(node.inputs, places),
        "outputsMetadata": _describe_tensors(graph, node.outputs),
    }


def _format_edges(
    tensors: tuple[str, ...], places: dict[str, tuple[str, int]]
) -> list[dict[str, str]]:
    return [
        {
            "sourceNodeId": places[tensor][0],
            "sourceNodeOutputId": str(places[tensor][1]),
            "targetNodeInputId": str(index),
        }
        for index, tensor in enumerate(tensors)
    ]


def _describe_tensors(graph: Graph, tensors: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {
            "id": str(index),
            "attrs": [
                {
                    "key": "tensor_shape",
                    "value": f"{graph.tensors[tensor].dtype} "
                    + "×".join(map(str, graph.tensors[tensor].shape)),
                }
            ],
        }
        for index, tensor in enumerate(tensors)
    ]
