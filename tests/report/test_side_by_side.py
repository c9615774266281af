"""The layers of two models side by side: what is paired, what reads what, and how it is drawn."""

from __future__ import annotations

import dataclasses

from parity.network import architectures
from parity.network.alignment import Alignment, NodePair
from parity.network.alignment.result import Confidence
from parity.network.graph import Graph, Node, Port, Tensor
from parity.numerics.verdict import FirstDivergence, Status
from parity.report import codec
from parity.report.formats.html import render
from parity.report.model import PairedLayer, Report
from parity.report.paired_layers import list_paired_layers
from parity.report.side_by_side import EDGES_WIDTH, ROW_HEIGHT, draw_side_by_side
from parity.report.table_layers import list_table_layers
from tests.report.samples import divergence, parity


def graph(framework: str, *nodes: tuple[str, str, str]) -> Graph:
    """A graph of `(id, kind, inputs)`, each with one output of its id."""
    found = tuple(
        Node(name, kind, kind, tuple(inputs.split()), (name,), path=f"{framework}.{name}")
        for name, kind, inputs in nodes
    )
    ids = ("x", *(node.id for node in found))
    tensors = {each: Tensor(each, (1, 4), "float32") for each in ids}
    return Graph(framework, found, tensors, (Port("x", "x"),), (Port("y", ids[-1]),))


def pair(reference: str, other: str, confidence: Confidence = Confidence.SURE) -> NodePair:
    return NodePair((reference,), tuple(other.split()), (), (), confidence, "", "kind")


RESIDUAL = graph(
    "torch", ("a", "conv", "x"), ("b", "relu", "a"), ("view", "reshape", "b"),
    ("c", "conv", "view"), ("d", "add", "a c"),
)  # fmt: skip
OTHER = graph(
    "keras", ("p", "conv", "x"), ("extra", "dropout", "p"), ("r", "conv", "extra"),
    ("s", "add", "p r"),
)  # fmt: skip
ALIGNMENT = Alignment(
    (pair("a", "p"), pair("c", "r", Confidence.AMBIGUOUS), pair("d", "s")),
    unpaired_reference=("b",),
    unpaired_other=("extra",),
)


def paired() -> tuple[PairedLayer, ...]:
    return list_paired_layers(
        "torch", {"torch": RESIDUAL, "keras": OTHER}, {"keras": ALIGNMENT}, points={"d": "logits"}
    )


def test_layers_are_in_execution_order_with_those_that_have_no_partner() -> None:
    assert [layer.places for layer in paired()] == [
        {"torch": "torch.a", "keras": "keras.p"},
        {"keras": "keras.extra"},
        {"torch": "torch.b"},
        {"torch": "torch.c", "keras": "keras.r"},
        {"torch": "torch.d", "keras": "keras.s"},
    ]


def test_what_reads_an_operation_that_is_left_out_reads_what_that_read() -> None:
    layers = paired()
    assert layers[3].inputs == {"torch": (2,), "keras": (1,)}  # c reads b through the reshape
    assert layers[4].inputs == {"torch": (0, 3), "keras": (0, 3)}
    assert layers[4].point == "logits"
    assert layers[3].confidence == {"keras": "ambiguous"}


def test_operations_that_are_one_pair_read_what_is_before_them() -> None:
    fused = dataclasses.replace(ALIGNMENT, pairs=(pair("a", "p extra"), *ALIGNMENT.pairs[1:]),
                                unpaired_other=())  # fmt: skip
    layers = list_paired_layers(
        "torch", {"torch": RESIDUAL, "keras": OTHER}, {"keras": fused}, points={}
    )
    assert layers[0].places["keras"] == "keras.p + keras.extra"
    assert layers[0].inputs == {}
    assert layers[2].inputs["keras"] == (0,)


def test_a_layer_table_gives_the_same_list() -> None:
    table = architectures.get("resnet18", classes=10, image_size=(64, 64)).table()
    layers = list_table_layers(
        table, {"torch": "torch", "keras": "keras"}, points={"stage1.block0.add": "stage1"}
    )
    by_name = {row.name: layer for row, layer in zip(table.rows, layers, strict=True)}
    numbers = {row.name: at for at, row in enumerate(table.rows)}
    assert [layer.places.get("torch", "") for layer in layers] == [row.torch for row in table.rows]
    assert [layer.places.get("keras", "") for layer in layers] == [row.keras for row in table.rows]
    added = by_name["stage1.block0.add"]
    assert len(added.inputs["torch"]) == len(added.inputs["keras"]) == 2
    assert added.point == "stage1"
    # Keras alone has layers that pad: what PyTorch reads there is the layer before.
    pad = next(row for row in table.rows if row.keras and not row.torch)
    behind = table.rows[numbers[pad.name] + 1]
    assert by_name[behind.name].inputs["keras"] == (numbers[pad.name],)
    assert by_name[behind.name].inputs.get("torch", ()) != (numbers[pad.name],)


def with_layers(report: Report) -> Report:
    """The report of Keras against PyTorch, with these layers."""
    return dataclasses.replace(report, layers=paired())


def test_a_shortcut_is_drawn_as_a_bracket() -> None:
    (side,) = draw_side_by_side(with_layers(parity()))
    assert (side.name, side.paired, side.alone) == ("keras", 3, (1, 1))
    top, bottom = ROW_HEIGHT / 2, 4.5 * ROW_HEIGHT
    # From a (row 0) to d (row 4); every other layer reads the one above it.
    left, right = EDGES_WIDTH - 6, 6
    assert side.edges[0] == f"M{EDGES_WIDTH} {top:g}H{left}V{bottom:g}H{EDGES_WIDTH}"
    assert side.edges[1] == f"M0 {top:g}H{right}V{bottom:g}H0"


def test_edges_that_overlap_are_in_lanes() -> None:
    layers = tuple(
        PairedLayer("add", (1,), {"torch": f"t{at}", "keras": f"k{at}"},
                    {"torch": (max(at - 3, 0),), "keras": (max(at - 1, 0),)})
        for at in range(6)
    )  # fmt: skip
    (side,) = draw_side_by_side(dataclasses.replace(parity(), layers=layers))
    assert {part.split("V")[0].split("H")[1] for part in side.edges[0].split("M")[1:]} == {
        "42", "36", "30",
    }  # fmt: skip
    assert side.edges[1] == ""


def test_a_layer_that_differs_says_so_and_its_model_is_open() -> None:
    report = divergence()
    failing = next(
        stage for stage in report.stages if stage.subjects["keras"].status is Status.DIVERGED
    )
    layers = (
        PairedLayer("conv", (1,), {"torch": "a", "onnx-torch": "a"}),
        PairedLayer("conv", (1,), {"torch": "b", "keras": "b"}, point=failing.name),
    )
    report = dataclasses.replace(
        report,
        layers=layers,
        divergences=(FirstDivergence("keras", failing.stage, None, failing.name, ("keras",)),),
    )
    other, keras = draw_side_by_side(report)
    assert (other.is_open, keras.is_open) == (False, True)
    assert [row.state for row in keras.rows] == ["lone", "fail"]
    page = render(report)
    assert "<details open><summary>torch and keras: 1 pairs" in page
    assert '<tr class="fail">' in page


def test_the_json_report_has_the_layers_and_a_page_without_them_no_section() -> None:
    report = with_layers(parity())
    assert codec.from_json(codec.to_json(report)).layers == report.layers
    assert 'id="sides"' in render(report)
    assert 'id="sides"' not in render(parity())


def test_names_stay_text() -> None:
    layers = (PairedLayer("<b>", (1,), {"torch": "<script>", "keras": '"><img>'}),)
    page = render(dataclasses.replace(parity(), layers=layers))
    section = page[page.index('id="sides"') : page.index('id="environment"')]
    assert "<script>" not in section
    assert "<img>" not in section
    assert "<b>" not in section
