"""PyTorch's modules as graphs: the record changes nothing, and its tensors can be run at."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from parity.errors import GraphError, InputError, WeightError
from parity.network import kinds
from parity.network.graph import OPAQUE, Graph
from parity.runtimes.torch import graphs
from parity.runtimes.torch.model_outputs import flatten_outputs
from parity.runtimes.torch.parameters import read_parameters, write_parameters
from parity.runtimes.torch.replicas import copy_to_precision
from parity.runtimes.torch.tensors import named_weights
from tests.runtimes.torch_models import CASES

pytestmark = pytest.mark.framework


def build(name):
    torch.manual_seed(0)
    return CASES[name].build().eval()


def run_plain(model, inputs):
    """The model's own output, without anything that watches it."""
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in inputs.items()}
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    tensors = {n: t.to(dtype) if t.is_floating_point() else t for n, t in tensors.items()}
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.inference_mode():
            return flatten_outputs(model(**tensors))
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def widen(inputs):
    return {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in inputs.items()}


def capture(model, graph, inputs, change=None):
    """Every tensor of the graph by id; `change` may replace one."""
    found = {}

    def hook(tensor, array):
        found[tensor] = array.copy()
        return change(tensor, array) if change is not None else None

    shared = graphs.find_shared(model, inputs)
    graphs.run_tensors(model, inputs, graph.tensors, hook, shared=shared)
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_record_is_a_valid_graph_and_survives_a_file(name):
    graph = graphs.record(build(name), CASES[name].inputs)
    graph.validate(name)
    assert Graph.from_json(graph.to_json()) == graph
    assert [port.name for port in graph.inputs] == list(CASES[name].inputs)


@pytest.mark.parametrize("name", CASES)
def test_what_is_captured_is_the_plain_run(name):
    model, inputs = build(name), CASES[name].inputs
    expected = run_plain(model, inputs)
    graph = graphs.record(model, inputs)
    found = capture(model, graph, inputs)
    assert set(expected) == {port.name for port in graph.outputs}
    for port in graph.outputs:
        assert np.array_equal(found[port.tensor], expected[port.name].numpy(), equal_nan=True)
    for tensor, array in found.items():
        assert array.shape == graph.tensors[tensor].shape
        assert str(array.dtype) == graph.tensors[tensor].dtype
    again = run_plain(model, inputs)
    assert all(torch.equal(expected[key].nan_to_num(), again[key].nan_to_num()) for key in again)


@pytest.mark.parametrize("name", CASES)
def test_ids_are_the_same_in_float64(name):
    model, inputs = build(name), CASES[name].inputs
    graph = graphs.record(model, inputs)
    wide = copy_to_precision(model, "float64")
    narrow = capture(model, graph, inputs)
    found = capture(wide, graph, widen(inputs))
    for tensor, array in found.items():
        assert array.dtype == (np.float64 if narrow[tensor].dtype == np.float32 else
                               narrow[tensor].dtype)  # fmt: skip
        scale = np.abs(np.nan_to_num(array[np.isfinite(array)])).max(initial=1.0)
        close = np.isclose(narrow[tensor], array, rtol=1e-4, atol=1e-4 * scale, equal_nan=True)
        assert close.all(), tensor
    assert next(model.parameters(), torch.zeros(())).dtype == torch.float32
    again = graphs.record(wide, widen(inputs))
    assert [node.outputs for node in again.nodes] == [node.outputs for node in graph.nodes]
    assert [node.kind for node in again.nodes] == [node.kind for node in graph.nodes]


@pytest.mark.parametrize("name", CASES)
def test_replaced_tensors_reach_what_follows(name):
    """Every tensor replaced by what it is changes nothing; each one moved changes an output."""
    model, inputs = build(name), CASES[name].inputs
    graph = graphs.record(model, inputs)
    plain = capture(model, graph, inputs)
    same = capture(model, graph, inputs, lambda tensor, array: array)
    assert all(np.array_equal(plain[key], same[key], equal_nan=True) for key in plain)
    zeros = capture(model, graph, inputs, lambda tensor, array: np.full_like(array, 0))
    for node in graph.nodes:
        if node.kind not in kinds.registry() or not node.inputs or not node.outputs:
            continue
        kind = kinds.get(node.kind)
        if kind.compute.__qualname__.startswith(("_identity", "_reshape", "_flatten")):
            # What only moves values gives the zeros that it was given.
            assert not np.asarray(zeros[node.outputs[0]]).any(), node


def canonical(node, weights):
    """The weights of a node by role, in canonical axes."""
    from parity.network import axes

    kind = kinds.get(node.kind)
    found = {}
    for parameter in node.parameters:
        assert parameter.role, (node, parameter)
        value = weights[parameter.name]
        order = kind.role(parameter.role).axes
        found[parameter.role] = axes.reorder(value, parameter.axes or order, order)
    return found


SKIPPED = {"computed", "numpy", "scripted"}
"""Of which weights are computed, so that the operator needs more than the graph has."""


@pytest.mark.parametrize("name", [name for name in CASES if name not in SKIPPED])
def test_the_operator_of_each_kind_gives_what_was_captured(name):
    """The kind, its hyperparameters, the roles and the order of the operands are all right."""
    model, inputs = build(name), CASES[name].inputs
    wide, inputs = copy_to_precision(model, "float64"), widen(inputs)
    graph = graphs.record(wide, inputs)
    weights = read_parameters(wide)
    found = capture(wide, graph, inputs)
    checked = 0
    for node in graph.nodes:
        computed = any(isinstance(value, dict) for value in node.constants.values())
        if node.kind == OPAQUE or computed or name == "views":
            continue
        given = [np.asarray(found[each], np.float64) for each in node.inputs]
        for position in sorted(node.constants, key=int):
            given.insert(int(position), np.asarray(node.constants[position], np.float64))
        actual = kinds.evaluate(node.kind, given, canonical(node, weights), node.hyper)
        expected = np.asarray(found[node.outputs[0]], np.float64)
        if kinds.get(node.kind).pools_image:
            actual = actual.reshape(expected.shape)
        assert actual.shape == expected.shape, node
        assert np.allclose(actual, expected, rtol=1e-9, atol=1e-12, equal_nan=True), node
        checked += 1
    assert checked or name == "views"


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_record_leaves_the_weights_as_they_are(precision):
    model = copy_to_precision(build("nested"), precision)
    before = read_parameters(model)
    graphs.record(model, CASES["nested"].inputs)
    after = read_parameters(model)
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("name", CASES)
def test_every_weight_is_there_with_its_role(name):
    model = build(name)
    graph = graphs.record(model, CASES[name].inputs)
    assert {each.name for each in graph.parameters} == set(named_weights(model))
    for node in graph.nodes:
        if node.kind != OPAQUE and kinds.get(node.kind).roles and node.parameters:
            assert any(each.role for each in node.parameters), node
    for each in graph.parameters:
        value = named_weights(model)[each.name].detach().double().numpy()
        assert each.shape == value.shape
        moments = (value.sum(), (value**2).sum(), value.min(), value.max())
        assert np.allclose(each.moments, moments, rtol=1e-12, atol=1e-12)


def test_layers_that_read_weights_are_layers():
    """Of a decoder's queries; the weight itself stays one to whatever else reads it."""
    graph = graphs.record(build("queries"), CASES["queries"].inputs)
    layers = [(n.kind, len(n.inputs)) for n in graph.nodes if n.parameters and n.inputs]
    assert layers == [
        ("multi_head_attention", 3), ("bias_add", 1), ("layer_norm", 1),
        ("multi_head_attention", 3), ("dense", 1), ("dense", 1), ("dense", 1),
    ]  # fmt: skip
    *_, head = (node for node in graph.nodes if node.kind == "dense")
    assert [each.name for each in head.parameters] == ["queries"]
    assert [n.operation for n in graph.nodes if not n.inputs] == ["parameter"] * 3
    assert not graph.notes


def test_a_layer_that_reads_a_table_is_a_layer():
    graph = graphs.record(build("positions"), CASES["positions"].inputs)
    table, layer, product = graph.nodes
    assert (table.operation, table.inputs, table.parameters) == ("parameter", (), ())
    assert (layer.kind, layer.inputs) == ("dense", table.outputs)
    assert [each.name for each in layer.parameters] == ["project.weight"]
    assert (product.kind, product.parameters) == ("einsum", ())


def kinds_of(name):
    graph = graphs.record(build(name), CASES[name].inputs)
    return [node.kind for node in graph.nodes]


def test_kinds_of_a_residual_block():
    assert kinds_of("residual") == [
        "conv", "batch_norm", "relu", "conv", "batch_norm", "conv", "add", "relu",
    ]  # fmt: skip


def test_a_node_says_where_it_comes_from():
    graph = graphs.record(build("nested"), CASES["nested"].inputs)
    node = graph.nodes[0]
    assert node.path == "body.0.conv1"
    assert node.source.startswith("torch_models.py:")
    assert node.parameters[0].name == "body.0.conv1.weight"
    assert graph.tensors[node.outputs[0]].axes == "N C H W"
    assert graph.tensors[graph.inputs[0].tensor].axes == "N C H W"


def test_maxima_over_an_axis_and_of_an_image_have_kinds():
    graph = graphs.record(build("maxima"), CASES["maxima"].inputs)
    found = [node.kind for node in graph.nodes]
    assert OPAQUE not in found
    assert {"global_max_pool", "reduce_max", "reduce_min"} <= set(found)


def test_a_computed_kernel_is_given_as_it_is_read():
    model, inputs = build("computed"), CASES["computed"].inputs
    convolution = graphs.record(model, inputs).nodes[0]
    found = {}

    def keep(tensor, array):
        found[tensor] = array.copy()

    graphs.run_tensors(model, inputs, {convolution.constant_ids["kernel"]}, keep)
    (kernel,) = found.values()
    assert np.array_equal(kernel, model.normed.weight.detach().numpy())


def test_weights_that_are_computed_keep_their_names():
    graph = graphs.record(build("computed"), CASES["computed"].inputs)
    convolution = graph.nodes[0]
    assert {each.name for each in convolution.parameters} >= {
        "normed.parametrizations.weight.original0", "normed.parametrizations.weight.original1",
    }  # fmt: skip
    kernel = convolution.find_parameter("kernel")
    assert kernel is not None
    assert kernel.name.endswith("original1")
    tied = next(node for node in graph.nodes if "tied.weight" in str(node.parameters))
    assert (tied.kind, tied.find_parameter("kernel").axes) == ("dense", "")
    plain = graphs.record(build("functional"), CASES["functional"].inputs)
    product = next(node for node in plain.nodes if node.kind == "dense")
    assert (product.parameters[0].name, product.parameters[0].axes) == ("weight", "I O")


def test_outputs_have_names():
    names = {
        form: [port.name for port in graphs.record(build(form), CASES[form].inputs).outputs]
        for form in ("outputs_tuple", "outputs_dict", "outputs_named", "outputs_dataclass")
    }
    assert names == {
        "outputs_tuple": ["output_0", "output_1.0"],
        "outputs_dict": ["boxes", "scores.0"],
        "outputs_named": ["left", "right"],
        "outputs_dataclass": ["first", "second"],
    }


def test_what_a_run_hides_is_a_note():
    notes = {
        name: " ".join(graphs.record(build(name), CASES[name].inputs).notes)
        for name in ("branching", "numpy", "scripted", "residual")
    }
    assert "another path" in notes["branching"]
    assert "NumPy" in notes["numpy"]
    assert "TorchScript" in notes["scripted"]
    assert notes["residual"] == ""


def test_another_path_is_an_error():
    model = build("branching")
    graph = graphs.record(model, CASES["branching"].inputs)
    ids = [*graph.tensors, "99.0"]
    with pytest.raises(GraphError, match=r"did not compute 1 of \d+ tensors.*'99.0'"):
        graphs.run_tensors(model, CASES["branching"].inputs, ids, lambda tensor, array: None)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"y": CASES["residual"].inputs["x"]}, "no input 'y'; it takes x"),
        ({}, "'x' is missing; it takes x"),
    ],
)
def test_inputs_of_other_names_are_refused(inputs, message):
    with pytest.raises(InputError, match=message):
        graphs.record(build("residual"), inputs)


def test_a_model_that_raises_says_where_and_how_far_it_came():
    inputs = {"left": np.zeros((2, 4), np.float32), "right": np.zeros((2, 9), np.float32)}
    with pytest.raises(GraphError, match=r"torch_models.py:\d+: RuntimeError: .*mat1") as caught:
        graphs.record(build("two_inputs"), inputs)
    assert "1 operations ran before" in caught.value.__notes__[0]
    assert "a: linear gave (2, 5)" in caught.value.__notes__[1]


def test_what_a_function_changes_later_is_not_in_what_was_captured():
    class Later(nn.Module):
        def forward(self, x):
            y = x + 1
            return y.mul_(2.0)

    model, inputs = Later(), {"x": np.ones((1, 2), np.float32)}
    graph = graphs.record(model, inputs)
    found = {}
    graphs.run_tensors(model, inputs, graph.tensors, found.__setitem__)
    assert found["1.0"].tolist() == [[2.0, 2.0]]
    assert found["2.0"].tolist() == [[4.0, 4.0]]


def test_a_view_taken_later_reads_what_was_replaced():
    class View(nn.Module):
        def forward(self, x):
            y = x + 1
            return y.view(-1) + y.reshape(-1)

    model, inputs = View(), {"x": np.ones((1, 2), np.float32)}
    graph = graphs.record(model, inputs)
    found = capture(model, graph, inputs, lambda t, a: np.zeros_like(a) if t == "1.0" else None)
    assert not found[graph.outputs[0].tensor].any()


def test_a_view_made_earlier_changes_with_what_it_looks_at():
    class Alias(nn.Module):
        def forward(self, x):
            y = x * 2
            row = y[0]
            y.add_(1.0)
            return row * 1.0

    model, inputs = Alias(), {"x": np.ones((2, 2), np.float32)}
    graph = graphs.record(model, inputs)
    added = graph.nodes[2]
    assert added.operation == "add"
    assert graph.nodes[3].inputs == (added.outputs[1],)
    assert capture(model, graph, inputs)["4.0"].tolist() == [3.0, 3.0]


def test_float_casts_do_not_end_float64():
    class Cast(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            wide = self.fc(x).float().to(torch.float32)
            return torch.softmax(wide, -1, dtype=torch.float32) + torch.zeros(4)

    model, inputs = Cast().eval(), CASES["branching"].inputs
    graph = graphs.record(model, inputs)
    assert [node.kind for node in graph.nodes] == ["dense", "softmax", "add"]
    found = capture(copy_to_precision(model, "float64"), graph, inputs)
    assert {array.dtype for array in found.values()} == {np.dtype(np.float64)}


def test_a_copy_of_integers_is_no_operation():
    """As on a GPU, to which integers are moved."""

    class Copy(nn.Module):
        def forward(self, ids):
            return ids.to(torch.int64, copy=True) + 1, ids.to(torch.int32)

    graph = graphs.record(Copy(), {"ids": np.array([[1, 2]])})
    assert [(node.kind, node.inputs) for node in graph.nodes] == [
        ("add", ("0.0",)),
        ("cast", ("0.0",)),
    ]


def test_weights_are_written_bit_for_bit():
    model = build("nested")
    values = read_parameters(model)
    other = {name: value + np.float32(0.25) for name, value in values.items()}
    write_parameters(model, other)
    found = read_parameters(model)
    assert all(np.array_equal(found[name], other[name]) for name in values)
    with pytest.raises(WeightError, match="has no such weight"):
        write_parameters(model, {"none": np.zeros(1)})
    with pytest.raises(WeightError, match=r"expected \(3,\), found \(1,\)"):
        write_parameters(model, {"head.fc.bias": np.zeros(1)})


def test_tied_weights_are_there_once():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
    model[1].weight = model[0].weight
    graph = graphs.record(model.eval(), {"input": np.array([[1, 2]])})
    assert [each.name for each in graph.parameters] == ["0.weight"]
    assert list(read_parameters(model)) == ["0.weight"]
    assert graph.nodes[1].find_parameter("kernel").name == "0.weight"


def test_a_copy_has_weights_of_its_own():
    model = build("nested")
    second = copy_to_precision(model, "float32")
    write_parameters(second, {n: np.zeros_like(v) for n, v in read_parameters(model).items()})
    assert any(value.any() for value in read_parameters(model).values())


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_lower_precisions_run(precision):
    model, inputs = build("nested"), CASES["nested"].inputs
    graph = graphs.record(model, inputs)
    found = capture(copy_to_precision(model, precision), graph, inputs)
    assert set(found) == set(graph.tensors)


def test_an_error_without_a_line_of_the_model_names_no_file():
    model = nn.Sequential(nn.Linear(4, 2))
    with pytest.raises(GraphError, match=r"^the model: RuntimeError: .*shapes cannot be mult"):
        graphs.record(model, {"input": np.zeros((1, 5), np.float32)})
