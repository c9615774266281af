"""The files for Model Explorer: every node and edge, and each node in one entry of the pairs."""

from __future__ import annotations

import json

import pytest

from parity.commands.model_explorer import PAIRS, format_collection, format_pairs, write_files
from parity.errors import OutputError
from parity.network.alignment import align
from tests.network.alignment import architectures
from tests.network.alignment.networks import KERAS, render


@pytest.fixture(scope="module")
def models():
    net = architectures.plain()
    left, right = render(net).graph, render(net, KERAS, seed=1).graph
    return left, right, align(left, right)


def test_a_collection_has_every_node_and_edge(models):
    for graph in models[:2]:
        collection = format_collection(graph, "net")
        (found,) = collection["graphs"]
        ids = [node["id"] for node in found["nodes"]]
        assert (
            len(set(ids)) == len(ids) == (len(graph.nodes) + len(graph.inputs) + len(graph.outputs))
        )
        by_id = {node["id"]: node for node in found["nodes"]}
        for node in graph.nodes:
            edges = by_id[node.id]["incomingEdges"]
            assert len(edges) == len(node.inputs)
            assert {edge["sourceNodeId"] for edge in edges} <= set(ids)
            shapes = by_id[node.id]["outputsMetadata"]
            assert len(shapes) == len(node.outputs)
        assert json.loads(json.dumps(collection)) == collection


def test_a_node_is_in_one_entry(models):
    left, right, alignment = models
    data = format_pairs(alignment)
    assert data["type"] == "sync_navigation"
    for side, graph in (("leftNodeIds", left), ("rightNodeIds", right)):
        ids = [each for entry in data["mappingEntries"] for each in entry[side]]
        assert len(set(ids)) == len(ids)
        known = {node["id"] for node in format_collection(graph, "x")["graphs"][0]["nodes"]}
        assert set(ids) <= known
    # Every pair of the alignment is in one entry.
    places = {
        node: number
        for number, entry in enumerate(data["mappingEntries"])
        for node in entry["rightNodeIds"]
    }
    for pair in alignment.pairs:
        assert len({places[node] for node in pair.other}) == 1
        entry = data["mappingEntries"][places[pair.other[0]]]
        assert set(pair.reference) <= set(entry["leftNodeIds"])


def test_the_files(models, tmp_path):
    left, right, alignment = models
    written = write_files(tmp_path / "views", (left, right), ("a", "b"), alignment)
    assert [path.name for path in written] == ["a.json", "b.json", PAIRS]
    assert all(json.loads(path.read_text()) for path in written)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be a folder"):
        write_files(tmp_path / "file", (left, right), ("a", "b"), alignment)
