"""Keras models as graphs: the record changes nothing, and its tensors can be run at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from parity.errors import GraphError, InputError, PrecisionError, WeightError
from parity.network import axes, kinds
from parity.network.graph import OPAQUE, Graph
from parity.numerics import capture
from parity.processes.graph_requests import FloorRequest, GraphRunRequest, TensorPoint
from parity.runtimes.keras import doors, graphs
from parity.runtimes.keras.runtime import Runtime
from parity.runtimes.keras.variables import name_variables, raw_variable
from tests.runtimes import keras_models
from tests.runtimes.keras_models import CASES, drawn

pytestmark = pytest.mark.framework


def build(name):
    keras.utils.set_random_seed(1)
    model = CASES[name].build()
    spread(model, CASES[name].inputs)
    return model


def spread(model, inputs):
    """Give every floating weight values of its own: biases and statistics are not left at 0."""
    graphs.record(model, inputs, graphs.describe_inputs(model))
    random = np.random.default_rng(0)
    for name, variable in name_variables(model).items():
        raw = raw_variable(variable)
        if raw.dtype.is_floating:
            value = np.asarray(raw) + 0.1 * random.standard_normal(raw.shape)
            raw.assign(np.abs(value) + 0.1 if "variance" in name else value)


def runtime_of(name) -> Runtime:
    runtime = Runtime()
    runtime.model = build(name)
    return runtime


def run_plain(model, inputs):
    """The model's own output, without anything that watches it."""
    ordered = graphs.order_inputs(inputs, graphs.describe_inputs(model))
    output = graphs._run_plainly(model, ordered)
    return [np.asarray(tensor) for _, tensor in graphs.name_outputs(model, output)]


def widen(inputs):
    return {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in inputs.items()}


def capture_all(runtime, graph, inputs, *, model=None, change=None):
    """Every tensor of the graph by id; `change` may replace one."""
    found = {}

    def hook(tensor, array):
        found[tensor] = array.copy()
        return change(tensor, array) if change is not None else None

    runtime.run_tensors(inputs, set(graph.tensors), hook, model=model)
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_record_is_a_valid_graph_and_the_run_has_the_same_bits(name):
    runtime, inputs = runtime_of(name), CASES[name].inputs
    graph = runtime.record(inputs)
    graph.validate(name)
    assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph
    assert {port.name for port in graph.inputs} == set(inputs)
    found = capture_all(runtime, graph, inputs)
    expected = run_plain(runtime.model, inputs)
    assert len(graph.outputs) == len(expected)
    for port, array in zip(graph.outputs, expected, strict=True):
        assert found[port.tensor].tobytes() == array.tobytes(), port.name
    for tensor in graph.tensors.values():
        assert found[tensor.id].shape == tensor.shape
    assert {n.operation for n in graph.nodes if n.kind == OPAQUE} == set(CASES[name].opaque)


@pytest.mark.parametrize("name", CASES)
def test_float64_has_the_same_ids_and_is_float64_throughout(name):
    runtime, inputs = runtime_of(name), CASES[name].inputs
    graph = runtime.record(inputs)
    narrow = capture_all(runtime, graph, inputs)
    replica = runtime.copy_to_precision("float64")
    wide = capture_all(runtime, graph, widen(inputs), model=replica)
    assert set(wide) == set(narrow) == set(graph.tensors)
    for tensor, array in wide.items():
        assert array.shape == narrow[tensor].shape
        if array.dtype.kind == "f":
            assert array.dtype == np.float64, tensor
            scale = np.linalg.norm(array) + 1e-3
            assert np.linalg.norm(array - narrow[tensor]) <= 1e-4 * scale, tensor
    # The model is as it was.
    again = capture_all(runtime, graph, inputs)
    assert all(again[tensor].tobytes() == narrow[tensor].tobytes() for tensor in narrow)


@pytest.mark.parametrize("name", CASES)
def test_a_replaced_tensor_is_what_later_operations_read(name):
    """Each tensor in its turn; only those that read it, directly or not, are others."""
    runtime, inputs = runtime_of(name), CASES[name].inputs
    graph = runtime.record(inputs)
    before = capture_all(runtime, graph, inputs)
    floating = [t for t in before if before[t].dtype.kind == "f" and before[t].size]
    for tensor in floating[:: max(1, len(floating) // 6)]:

        def change(found, array, tensor=tensor):
            return 1 - array * 3 if found == tensor else None

        after = capture_all(runtime, graph, inputs, change=change)
        behind = descendants(graph, tensor)
        for other, array in before.items():
            if other not in behind:
                assert after[other].tobytes() == array.tobytes(), (tensor, other)
        readers = [n for n in graph.consumers.get(tensor, ()) if n.kind != "argmax"]
        outputs = [output for node in readers for output in node.outputs]
        assert not outputs or any(
            after[each].tobytes() != before[each].tobytes() for each in outputs
        ), tensor


def descendants(graph, tensor):
    found = {tensor}
    for node in graph.nodes:
        if found & set(node.inputs):
            found |= set(node.outputs)
    return found


@pytest.mark.parametrize("name", CASES)
def test_every_weight_has_a_role(name):
    runtime = runtime_of(name)
    graph = runtime.record(CASES[name].inputs)
    named = {p.name for node in graph.nodes for p in node.parameters if p.role}
    missing = set(runtime.read_parameters()) - named
    short = {path.partition(":")[0].rpartition("/")[2] for path in missing}
    assert short == set(CASES[name].without_role)
    for node in graph.nodes:
        for parameter in node.parameters:
            if parameter.role and node.kind != OPAQUE:
                kinds.get(node.kind).role(parameter.role)


_CANONICAL = """
conv depthwise_conv conv_transpose max_pool avg_pool global_max_pool global_avg_pool batch_norm
group_norm upsample prelu pad depth_to_space
"""
CANONICAL = frozenset(_CANONICAL.split())
"""Kinds whose operators take images with channels first; others take the framework's own axes."""


def to_canonical(graph, tensor, array):
    names = graph.tensors[tensor].axes.split()
    if "C" not in names:
        return array
    if "1" in names:
        array = array.squeeze(names.index("1"))
        names.remove("1")
    return np.moveaxis(array, names.index("C"), 1)


def turn_image(array):
    """An image of Keras's as the operator of a reshape takes it."""
    return np.moveaxis(array, -1, 1) if array.ndim == 4 else array


def canonical_weights(node, values):
    found = {}
    for parameter in node.parameters:
        if not parameter.role:
            continue
        value, role = values[parameter.name], kinds.get(node.kind).role(parameter.role)
        if "B" not in parameter.axes.split():
            value = axes.reorder(value, parameter.axes or role.axes, role.axes)
        found[parameter.role] = value
    return found


@pytest.mark.parametrize("name", CASES)
def test_what_a_node_states_computes_what_the_model_computed(name):
    """The kind, its hyperparameters, the roles and axes of the weights, in float64."""
    runtime, inputs = runtime_of(name), CASES[name].inputs
    graph = runtime.record(inputs)
    replica = runtime.copy_to_precision("float64")
    found = capture_all(runtime, graph, widen(inputs), model=replica)
    values = runtime.read_parameters(model=replica)
    tried = 0
    for node in graph.nodes:
        if not can_be_computed(graph, node):
            continue
        operands = operands_of(graph, node, found)
        expected = found[node.outputs[0]]
        if node.kind == "reshape":
            operands, expected = [turn_image(operands[0])], turn_image(expected)
        if node.kind == "dense":
            operands = [operands[0].reshape(-1, node.hyper["in"])]
        if node.kind in CANONICAL:
            operands = [to_canonical(graph, node.inputs[0], operands[0])]
            expected = to_canonical(graph, node.outputs[0], expected)
        actual = kinds.evaluate(node.kind, operands, canonical_weights(node, values), node.hyper)
        actual = np.asarray(actual, np.float64)
        assert actual.size == expected.size, (node.id, node.kind, node.hyper)
        actual = actual.reshape(expected.shape)
        error = np.abs(actual - expected).max() if expected.size else 0.0
        # Keras rounds the constants of some functions to float32.
        assert error <= 1e-6 * max(np.abs(expected).max(), 1.0), (node.id, node.kind, node.hyper)
        tried += 1
    assert tried or name == "resizes"


def can_be_computed(graph, node):
    if node.kind == OPAQUE or len(node.outputs) > 1:
        return False
    masked = {"lstm", "gru", "rnn"} if len(node.inputs) > 1 else set()
    # Weights that are computed from others, or of which a part is read.
    computed = node.path.startswith(("standardised", "quantised", "positions")) or (
        node.kind == "bias_add" and any(p.name.endswith("/raw") for p in node.parameters)
    )
    return (
        not computed
        and node.kind not in masked
        and not str(node.hyper.get("mode")).startswith(("keys", "corner", "nearest_exact"))
    )


def operands_of(graph, node, found):
    """The data and the constants of a node by position."""
    places = {int(place): np.asarray(value) for place, value in node.constants.items()}
    data = iter(found[tensor] for tensor in node.inputs)
    operands, index = [], 0
    for array in data:
        while index in places:
            operands.append(places.pop(index))
            index += 1
        operands.append(array)
        index += 1
    return [*operands, *(places[index] for index in sorted(places))]


FAMILIES = {
    "ResNet50V2": 64, "MobileNetV2": 64, "DenseNet121": 64, "EfficientNetB0": 64,
    "EfficientNetV2B0": 64, "InceptionV3": 96, "InceptionResNetV2": 96, "Xception": 96,
    "VGG16": 48, "NASNetMobile": 224, "ConvNeXtTiny": 64, "MobileNetV3Small": 64,
}  # fmt: skip
QUICK = ("MobileNetV3Small", "ConvNeXtTiny")


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES]
)
def test_the_applications_of_keras_are_read(name):
    size = FAMILIES[name]
    runtime = Runtime()
    runtime.model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    inputs = {graphs.describe_inputs(runtime.model)[0].name: 100 * drawn(1, size, size, 3)}
    graph = runtime.record(inputs)
    found = capture_all(runtime, graph, inputs)
    (expected,) = run_plain(runtime.model, inputs)
    assert found[graph.outputs[0].tensor].tobytes() == expected.tobytes()
    assert not [node.operation for node in graph.nodes if node.kind == OPAQUE]
    assert all(node.source.partition(":")[0].endswith(".py") for node in graph.nodes)
    named = {p.name for node in graph.nodes for p in node.parameters if p.role}
    # EfficientNet's statistics of the images are constants when it is built.
    missing = {n for n in set(runtime.read_parameters()) - named if "normalization" not in n}
    assert not missing
    wide = capture_all(runtime, graph, widen(inputs), model=runtime.copy_to_precision("float64"))
    assert set(wide) == set(graph.tensors)
    assert all(array.dtype == np.float64 for array in wide.values())


@pytest.mark.parametrize(
    "name", ["resnet18", pytest.param("resnext50_32x4d", marks=pytest.mark.slow)]
)
def test_a_registered_model_is_read(name):
    from parity.network import architectures
    from parity.runtimes.keras import load

    runtime = Runtime()
    runtime.model = load.build_twin(architectures.get(name))
    (spec,) = graphs.describe_inputs(runtime.model)
    inputs = {spec.name: drawn(1, *spec.shape[1:])}
    graph = runtime.record(inputs)
    (expected,) = run_plain(runtime.model, inputs)
    found = capture_all(runtime, graph, inputs)
    assert found[graph.outputs[0].tensor].tobytes() == expected.tobytes()
    assert {node.kind for node in graph.nodes} == {
        "conv", "batch_norm", "relu", "max_pool", "add", "global_avg_pool", "dense", "pad",
    }  # fmt: skip


# Names, lines, inputs ------------------------------------------------------------------------


def test_layers_that_read_weights_are_layers():
    """Of a decoder's queries."""
    graph = runtime_of("learned_queries").record(CASES["learned_queries"].inputs)
    layers = [node for node in graph.nodes if node.parameters and node.inputs]
    assert [node.kind for node in layers] == [
        "dense", "dense", "dense", "dense", "layer_norm",
        "dense", "dense", "dense", "dense", "dense", "dense",
    ]  # fmt: skip
    assert all(len(node.parameters) == 2 for node in layers)
    assert [n.operation for n in graph.nodes if not n.inputs] == ["parameter"]
    assert not graph.notes


def test_a_layer_that_reads_a_table_is_a_layer():
    graph = runtime_of("projected_table").record(CASES["projected_table"].inputs)
    layer = next(node for node in graph.nodes if node.parameters)
    table = next(node for node in graph.nodes if not node.inputs)
    assert (table.operation, table.parameters) == ("parameter", ())
    assert (layer.kind, layer.inputs) == ("dense", table.outputs)
    assert not any(node.parameters for node in graph.nodes if node is not layer)


def test_paths_and_lines_are_those_of_the_layers():
    graph = runtime_of("nested").record(CASES["nested"].inputs)
    assert graph.nodes[0].path.rpartition("/")[2].startswith("conv2d")
    assert graph.nodes[0].path.startswith("block/")
    assert all(node.source.startswith("keras_models.py:") for node in graph.nodes)
    lines = [int(node.source.partition(":")[2]) for node in graph.nodes]
    text = Path(keras_models.__file__).read_text().splitlines()
    assert "Conv2D(4, 3, strides=2" in text[lines[0] - 1]
    assert "DepthwiseConv2D" in text[lines[1] - 1]


def test_lines_of_a_subclass_are_those_that_ran():
    graph = runtime_of("subclassed").record(CASES["subclassed"].inputs)
    text = Path(keras_models.__file__).read_text().splitlines()
    lines = [text[int(node.source.partition(":")[2]) - 1].strip() for node in graph.nodes]
    assert lines[:2] == ["x = tf.nn.relu(self.conv(x))"] * 2
    assert lines[2:5] == ["x = self.norm(block(x)) + x"] * 3


def test_axes_are_named_where_a_layer_states_them():
    graph = runtime_of("unet").record(CASES["unet"].inputs)
    assert graph.tensors[graph.inputs[0].tensor].axes == "N H W C"
    assert {graph.tensors[node.outputs[0]].axes for node in graph.nodes} == {"N H W C"}
    first = runtime_of("channels_first").record(CASES["channels_first"].inputs)
    assert first.tensors[first.nodes[0].outputs[0]].axes == "N C H W"


def test_a_bias_is_a_part_of_its_layer_and_an_activation_is_not():
    graph = runtime_of("functional_sum").record(CASES["functional_sum"].inputs)
    kinds_found = [node.kind for node in graph.nodes]
    assert kinds_found == ["conv", "relu", "conv", "add", "multiply", "reduce_mean", "dense"]
    roles = [p.role for p in graph.nodes[0].parameters]
    assert roles == ["kernel", "bias"]
    assert graph.nodes[0].parameters[0].axes == "H W I O"


def test_parameters_have_their_moments():
    runtime = runtime_of("functional_sum")
    graph = runtime.record(CASES["functional_sum"].inputs)
    values = runtime.read_parameters()
    assert {p.name for p in graph.parameters} == set(values)
    for parameter in graph.parameters:
        value = values[parameter.name].astype(np.float64)
        expected = (value.sum(), (value**2).sum(), value.min(), value.max())
        np.testing.assert_allclose(parameter.moments, expected, rtol=1e-12)


def test_inputs_are_described():
    def described(name):
        specs = graphs.describe_inputs(CASES[name].build())
        return [(spec.name, spec.shape, spec.dtype, spec.origin) for spec in specs]

    assert described("two_inputs") == [
        ("b", (None, 4), "float32", "declared"), ("a", (None, 3), "float32", "declared"),
    ]  # fmt: skip
    assert {spec[0] for spec in described("named")} == {"image", "aux"}
    assert described("tagger") == [("image", (None, None), "int32", "declared")]
    assert described("subclassed") == [("x", None, "", "unknown")]
    runtime = Runtime()
    runtime.model = CASES["subclassed"].build()
    runtime.use_example(drawn(2, 8, 8, 3))
    (spec,) = runtime.describe_inputs()
    assert (spec.name, spec.shape, spec.origin) == ("x", (2, 8, 8, 3), "example")
    assert set(runtime.example_inputs()) == {"x"}


class Listed(keras.Model):
    """Takes ids and a mask as one argument, a list or a dictionary."""

    def __init__(self):
        super().__init__()
        self.table = keras.layers.Embedding(9, 4)

    def call(self, inputs):
        ids, mask = inputs if isinstance(inputs, list | tuple) else inputs.values()
        return self.table(ids) * keras.ops.cast(mask[..., None], "float32")


class Masked(Listed):
    """Takes a mask of its own."""

    def call(self, ids, mask):
        return super().call([ids, mask])


IDS, MASK = np.arange(10, dtype=np.int32).reshape(2, 5) % 9, np.ones((2, 5), np.int32)


@pytest.mark.parametrize(
    ("build", "example", "names"),
    [
        (Listed, (IDS, MASK), ["inputs", "input_1"]),
        (Listed, {"ids": IDS, "mask": MASK}, ["ids", "mask"]),
        (Masked, (IDS, MASK), ["ids", "mask"]),
    ],
)
def test_a_subclass_of_several_inputs_takes_them_as_its_example_does(
    build, example, names, tmp_path
):
    runtime = Runtime()
    runtime.model = build()
    runtime.use_example(example)
    inputs = runtime.example_inputs()
    assert list(inputs) == names
    graph = runtime.record(inputs)
    assert [port.name for port in graph.inputs] == names
    assert [graph.tensors[port.tensor].dtype for port in graph.inputs] == ["int32", "int32"]
    np.savez(tmp_path / "inputs.npz", **inputs)
    structure = runtime.trace_export(str(tmp_path / "inputs.npz"), None)
    types = [each.type.tensor_type.elem_type for each in structure.model.graph.input[:2]]
    assert types == [6, 6]  # int32


def test_a_subclass_that_was_called_says_how_many_inputs_it_takes():
    def names(model, *args):
        model(*args)
        return [spec.name for spec in graphs.describe_inputs(model)]

    assert names(Listed(), [IDS, MASK]) == ["inputs", "input_1"]
    assert names(Listed(), {"ids": IDS, "mask": MASK}) == ["ids", "mask"]
    assert names(Masked(), IDS, MASK) == ["ids", "mask"]
    runtime = Runtime()
    runtime.model = Listed()
    runtime.model([IDS, MASK])
    answer = runtime.guess_inputs(shapes=[[2, 5], [2, 5]], dtypes=["int64", "int64"])
    assert [each["dtype"] for each in answer["candidates"][0]] == ["int64", "int64"]


def test_outputs_are_named():
    def named(name):
        return [port.name for port in runtime_of(name).record(CASES[name].inputs).outputs]

    assert named("two_inputs") == ["p", "q"]
    assert set(named("named")) == {"x", "y"}
    assert named("raw_operations") == ["scores", "classes"]
    assert named("subclassed") == ["output"]


def test_inputs_that_do_not_fit_are_refused():
    runtime = runtime_of("two_inputs")
    good = CASES["two_inputs"].inputs
    with pytest.raises(InputError, match="no input 'c'; it takes b, a"):
        runtime.record({**good, "c": drawn(2, 1)})
    with pytest.raises(InputError, match="'a' is missing; it takes b, a"):
        runtime.record({"b": good["b"]})
    with pytest.raises(InputError, match=r"'a' has the shape \(None, 3\), found \(2, 9\)"):
        runtime.record({**good, "a": drawn(2, 9)})


def test_an_error_of_the_model_has_its_line():
    runtime = runtime_of("raw_operations")
    with pytest.raises(GraphError, match=r"^keras_models.py:\d+: "):
        runtime.record({"x": drawn(2, 8, 8, 5)})
    # Nothing is left patched.
    assert runtime.record(CASES["raw_operations"].inputs).nodes


def test_another_backend_is_refused(monkeypatch):
    doors.require_doors.cache_clear()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(GraphError, match="a model is read on TensorFlow alone"):
        doors.require_doors()
    doors.require_doors.cache_clear()


# Runs and weights ----------------------------------------------------------------------------


def test_a_tensor_that_a_run_does_not_compute_is_an_error():
    runtime = runtime_of("shared")
    runtime.record(CASES["shared"].inputs)
    with pytest.raises(GraphError, match=r"did not compute 99\.0"):
        runtime.run_tensors(CASES["shared"].inputs, ["99.0"], lambda tensor, array: None)


def test_weights_are_written_bit_for_bit():
    runtime = runtime_of("custom")
    before = runtime.read_parameters()
    assert any(name.endswith("/raw") for name in before)
    moved = {name: value * np.float32(1.5) for name, value in before.items()}
    runtime.write_parameters(moved)
    after = runtime.read_parameters()
    assert all(after[name].tobytes() == moved[name].tobytes() for name in moved)
    with pytest.raises(WeightError, match="nothing: the model has no such weight"):
        runtime.write_parameters({"nothing": np.zeros(1)})
    name = next(name for name in before if name.endswith("/g"))
    with pytest.raises(WeightError, match=r"expected \(3,\), found \(2,\)"):
        runtime.write_parameters({name: np.zeros(2, np.float32)})


def test_a_computed_kernel_has_the_axes_of_what_is_computed_and_a_scalar_is_none():
    runtime = runtime_of("computed_kernels")
    graph = runtime.record(CASES["computed_kernels"].inputs)
    kernels = [each for each in graph.parameters if each.role == "kernel"]
    assert len(kernels) == 3
    assert {each.axes for each in kernels} == {"H W I O"}
    (step,) = (each.name for each in graph.parameters if each.shape == ())
    runtime.write_parameters({step: np.float32(0.25).reshape(())})
    assert runtime.read_parameters()[step] == 0.25


def test_a_computed_kernel_is_given_as_it_is_read():
    runtime, inputs = runtime_of("computed_kernels"), CASES["computed_kernels"].inputs
    graph = runtime.record(inputs)
    found, values = {}, runtime.read_parameters()
    kernels = {n.find_parameter("kernel").name: n.constant_ids["kernel"]
               for n in graph.nodes if "kernel" in n.constant_ids}  # fmt: skip

    def keep(tensor, array):
        found[tensor] = array.copy()

    runtime.run_tensors(inputs, set(kernels.values()), keep)
    assert set(found) == set(kernels.values())
    (name,) = (each for each in kernels if "standardised" in each)
    wanted = values[name] - values[name].mean(axis=(0, 1, 2))
    assert np.allclose(found[kernels[name]], wanted, atol=1e-6)


@pytest.mark.parametrize("name", ["custom", "lstm", "compiled", "compiled_with_xla", "transformer"])
def test_a_replica_has_weights_of_its_own(name):
    runtime, inputs = runtime_of(name), CASES[name].inputs
    graph = runtime.record(inputs)
    before = capture_all(runtime, graph, inputs)
    replica = runtime.copy_to_precision("float32")
    weights = runtime.read_parameters(model=replica)
    runtime.write_parameters({n: v * 2 for n, v in weights.items()}, model=replica)
    other = capture_all(runtime, graph, inputs, model=replica)
    last = graph.outputs[-1].tensor
    assert not np.allclose(other[last], before[last])
    again = capture_all(runtime, graph, inputs)
    assert all(again[tensor].tobytes() == before[tensor].tobytes() for tensor in before)
    assert all(
        np.array_equal(value, weights[name]) for name, value in runtime.read_parameters().items()
    )


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_replica_of_less_precision_computes_in_it(precision):
    runtime, inputs = runtime_of("functional_sum"), CASES["functional_sum"].inputs
    graph = runtime.record(inputs)
    replica = runtime.copy_to_precision(precision)
    found = capture_all(runtime, graph, inputs, model=replica)
    expected = capture_all(runtime, graph, inputs)
    last = graph.outputs[0].tensor
    assert found[last].dtype == (np.float16 if precision == "float16" else np.float32)
    error = np.linalg.norm(found[last] - expected[last]) / np.linalg.norm(expected[last])
    assert 1e-5 < error < 0.1


def test_quantised_layers_cannot_be_copied():
    runtime = runtime_of("functional_sum")
    next(la for la in runtime.model.layers if isinstance(la, keras.layers.Dense)).quantize("int8")
    with pytest.raises(PrecisionError, match="its weights are quantised"):
        runtime.copy_to_precision("float64")


def test_a_model_is_read_run_and_measured_by_requests(tmp_path):
    runtime = runtime_of("unet")
    inputs, out = tmp_path / "inputs.npz", tmp_path / "graph.json"
    np.savez(inputs, **CASES["unet"].inputs)
    answer = runtime.read_graph(inputs=str(inputs), out=str(out))
    graph = Graph.from_json(json.loads(out.read_text()))
    assert answer["nodes"] == len(graph.nodes)
    points = tuple(TensorPoint(f"p{node.id}", node.outputs[0]) for node in graph.nodes)

    def run(name, **options):
        request = GraphRunRequest(str(inputs), points, str(tmp_path / name), **options)
        runtime.run_graph(**request.to_json())
        with capture.CaptureReader(tmp_path / name) as reader:
            return {point.name: reader.read(point.name) for point in points}

    narrow, wide = run("a.npz"), run("b.npz", precision="float64")
    assert all(np.allclose(narrow[key], wide[key], atol=1e-4) for key in wide)
    fed = run("c.npz", feed=str(tmp_path / "b.npz"))
    assert all(np.allclose(fed[key], wide[key], atol=1e-4) for key in wide)
    request = FloorRequest(str(inputs), points, str(tmp_path / "b.npz"), 3, 0, isolate=True)
    floors = runtime.measure_floors(**request.to_json())
    assert set(floors["floors"]) == set(floors["isolated"]) == {point.name for point in points}
    path = tmp_path / "weights.npz"
    runtime.save_parameters(path=str(path))
    runtime.load_parameters(path=str(path))


def test_a_cell_leaves_out_states_of_zeros_and_keeps_an_input_of_zeros():
    graph = runtime_of("cell_loops").record(CASES["cell_loops"].inputs)
    cells = [node for node in graph.nodes if node.kind.endswith("_cell")]
    assert [(node.kind, len(node.inputs), sorted(node.constants)) for node in cells] == [
        ("lstm_cell", 1, []), ("gru_cell", 1, []), ("gru_cell", 1, []), ("rnn_cell", 1, ["0"]),
        ("lstm_cell", 3, []), ("gru_cell", 2, []), ("gru_cell", 2, []), ("rnn_cell", 2, []),
    ]  # fmt: skip
