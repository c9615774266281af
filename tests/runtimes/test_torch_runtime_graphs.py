"""The operations of a PyTorch child that read any model and run it at its graph's tensors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from parity.errors import GraphError, WeightError
from parity.network import architectures
from parity.network.graph import OPAQUE, Graph
from parity.numerics import capture
from parity.processes.graph_requests import FloorRequest, GraphRunRequest, TensorPoint
from parity.runtimes.torch.runtime import Runtime
from parity.runtimes.torch.tensors import named_weights
from tests.runtimes.torch_models import CASES

pytestmark = pytest.mark.framework


def runtime_of(name: str) -> Runtime:
    torch.manual_seed(0)
    runtime = Runtime()
    runtime.model = CASES[name].build().eval()
    return runtime


@pytest.fixture
def inputs(tmp_path):
    path = tmp_path / "inputs.npz"
    np.savez(path, **CASES["nested"].inputs)
    return str(path)


def read(runtime: Runtime, inputs: str, folder: Path) -> Graph:
    out = folder / "graph.json"
    answer = runtime.read_graph(inputs=inputs, out=str(out))
    graph = Graph.from_json(json.loads(out.read_text()))
    assert answer["nodes"] == len(graph.nodes)
    return graph


def points_of(graph: Graph):
    return tuple(
        TensorPoint(f"p{node.id}", node.outputs[0]) for node in graph.nodes if node.kind != OPAQUE
    )


def run(runtime, inputs, points, out, **options):
    request = GraphRunRequest(inputs, points, str(out), **options)
    runtime.run_graph(**request.to_json())
    with capture.CaptureReader(out) as reader:
        return {point.name: reader.read(point.name) for point in points}


def test_a_model_is_read_run_and_measured(tmp_path, inputs):
    runtime = runtime_of("nested")
    graph = read(runtime, inputs, tmp_path)
    points = points_of(graph)
    narrow = run(runtime, inputs, points, tmp_path / "a.npz")
    wide = run(runtime, inputs, points, tmp_path / "b.npz", precision="float64")
    assert all(array.dtype == np.float64 for array in wide.values())
    assert all(np.allclose(narrow[key], wide[key], atol=1e-4) for key in wide)
    fed = run(runtime, inputs, points, tmp_path / "c.npz", feed=str(tmp_path / "b.npz"))
    assert all(np.allclose(fed[key], wide[key], atol=1e-4) for key in wide)
    request = FloorRequest(inputs, points, str(tmp_path / "b.npz"), 3, 0, isolate=True)
    floors = runtime.measure_floors(**request.to_json())
    assert set(floors["floors"]) == set(floors["isolated"]) == {point.name for point in points}


def test_what_is_fed_reaches_what_follows(tmp_path, inputs):
    """A tenth in the first layer's weights is seen there alone, where each part is fed."""
    runtime = runtime_of("nested")
    points = points_of(read(runtime, inputs, tmp_path))
    expected = run(runtime, inputs, points, tmp_path / "a.npz", precision="float64")
    with torch.no_grad():
        runtime.model.body[0].conv1.weight.mul_(1.1)
    wrong = run(runtime, inputs, points, tmp_path / "b.npz")
    fed = run(runtime, inputs, points, tmp_path / "c.npz", feed=str(tmp_path / "a.npz"))
    first, second = points[0].name, points[1].name
    assert not np.allclose(fed[first], expected[first], atol=1e-3)
    assert not np.allclose(wrong[second], expected[second], atol=1e-3)
    assert np.allclose(fed[second], expected[second], atol=1e-4)


def test_weights_go_through_a_file(tmp_path):
    one, other = runtime_of("nested"), runtime_of("nested")
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.zero_()
    one.save_parameters(path=str(tmp_path / "w.npz"))
    other.load_parameters(path=str(tmp_path / "w.npz"))
    expected, found = one.read_parameters(), other.read_parameters()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_an_input_may_have_the_name_of_an_argument_of_numpy(tmp_path):
    class File(torch.nn.Module):
        def forward(self, file, allow_pickle):
            return file + allow_pickle

    runtime, path = Runtime(), str(tmp_path / "example.npz")
    runtime.model = File()
    runtime.use_example((torch.ones(1, 2), torch.ones(1, 2)))
    runtime.read_inputs(example=path)
    assert [node.kind for node in read(runtime, path, tmp_path).nodes] == ["add"]


def test_inputs_are_described(tmp_path):
    runtime = runtime_of("two_inputs")
    assert runtime.read_inputs()["inputs"] == [
        {"name": name, "shape": None, "dtype": "", "origin": "unknown"}
        for name in ("left", "right")
    ]
    runtime.use_example((torch.zeros(2, 4), torch.zeros(2, 3)))
    answer = runtime.read_inputs(example=str(tmp_path / "example.npz"))
    assert answer["has_example"]
    assert answer["inputs"][1] == {
        "name": "right", "shape": [2, 3], "dtype": "float32", "origin": "example",
    }  # fmt: skip
    assert set(np.load(tmp_path / "example.npz").files) == {"left", "right"}


def test_candidates_for_inputs_are_tried():
    (candidate,) = runtime_of("residual").guess_inputs(shapes=[[1, 8, 8, 3]])["candidates"]
    assert candidate[0]["shape"] == [1, 3, 8, 8]
    json.dumps(candidate)


@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d"])
def test_a_registered_twin_is_read_before_it_has_weights(name):
    runtime = Runtime()
    runtime.spec = architectures.get(name)
    runtime.model = runtime.build(runtime.spec)
    graph = runtime.record({"x": np.zeros((1, 3, 64, 64), np.float32)})
    graph.validate(name)
    assert next(runtime.model.parameters()).is_meta
    assert all(node.kind != OPAQUE for node in graph.nodes)
    assert {each.name for each in graph.parameters} == set(named_weights(runtime.model))
    assert all(each.role and each.moments is None for n in graph.nodes for each in n.parameters)
    with pytest.raises(WeightError, match="it has no values yet"):
        runtime.run_tensors({}, [], lambda t, a: None)
    values = {n: np.ones(t.shape, np.float32) for n, t in
              named_weights(runtime.model).items()}  # fmt: skip
    runtime.write_parameters(values)
    assert not next(runtime.model.parameters()).is_meta
    runtime.run_tensors({"x": np.zeros((1, 3, 64, 64), np.float32)}, ["1.0"], lambda t, a: None)


def test_a_tensor_that_is_not_there_is_an_error(tmp_path, inputs):
    with pytest.raises(GraphError, match="did not compute 1 of 1"):
        run(runtime_of("nested"), inputs, (TensorPoint("p", "77.0"),), tmp_path / "a.npz")


def _count_traces(runtime: Runtime, monkeypatch) -> list[str]:
    traces: list[str] = []
    trace = runtime.trace_export

    def record(inputs, opset):
        traces.append(inputs)
        return trace(inputs, opset)

    monkeypatch.setattr(runtime, "trace_export", record)
    return traces


def _export(runtime: Runtime, inputs: str, out: Path):
    runtime.export_graph(path=str(out), inputs=inputs)
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    arrays = dict(np.load(inputs))
    names = [each.name for each in session.get_inputs()]
    return session.run(None, dict(zip(names, arrays.values(), strict=True)))[0]


def test_a_trace_made_early_is_exported_with_the_weights_of_now(tmp_path, inputs, monkeypatch):
    runtime = runtime_of("nested")
    traces = _count_traces(runtime, monkeypatch)
    runtime.trace_graph(inputs=inputs)
    before = _export(runtime_of("nested"), inputs, tmp_path / "a.onnx")
    with torch.no_grad():
        for weight in runtime.model.parameters():
            weight.mul_(1.1)
    after = _export(runtime, inputs, tmp_path / "b.onnx")
    assert len(traces) == 1
    own = runtime.model(*map(torch.tensor, CASES["nested"].inputs.values())).detach().numpy()
    assert np.allclose(after, own, atol=1e-4)
    assert not np.allclose(after, before, atol=1e-2)
    _export(runtime, inputs, tmp_path / "c.onnx")
    assert len(traces) == 2


def test_a_trace_of_other_shapes_or_one_that_failed_is_made_again(tmp_path, inputs, monkeypatch):
    runtime = runtime_of("nested")
    other = tmp_path / "other.npz"
    np.savez(other, **{k: np.concatenate([v, v]) for k, v in CASES["nested"].inputs.items()})
    runtime.trace_graph(inputs=str(other))
    traces = _count_traces(runtime, monkeypatch)
    _export(runtime, inputs, tmp_path / "a.onnx")
    assert traces == [inputs]
    monkeypatch.setattr(runtime, "trace_export", lambda *_: 1 / 0)
    runtime.trace_graph(inputs=inputs)
    monkeypatch.undo()
    _export(runtime, inputs, tmp_path / "b.onnx")
