"""Small graphs, written out, for the tests that need no framework."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.graph import Structure


def info(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def model_of(nodes, inputs, outputs, constants=None) -> onnx.ModelProto:  # type: ignore[no-untyped-def]
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def structure() -> Structure:
    """y = relu(x @ kernelᵀ + (beta - mean / sqrt(variance))), with the ReLU's input as a tap."""
    nodes = [
        helper.make_node("Transpose", ["kernel"], ["turned"], perm=[1, 0]),
        helper.make_node("Sqrt", ["variance"], ["deviation"]),
        helper.make_node("Div", ["mean", "deviation"], ["scaled"]),
        helper.make_node("Sub", ["beta", "scaled"], ["shift"]),
        helper.make_node("MatMul", ["x", "turned"], ["product"]),
        helper.make_node("Add", ["product", "shift"], ["before"]),
        helper.make_node("Relu", ["before"], ["y"]),
    ]
    inputs = [info("x", "batch", 3), info("kernel", 2, 3)]
    inputs += [info(name, 2) for name in ("beta", "mean", "variance")]
    outputs = [info("y", "batch", 2), info("before", "batch", 2)]
    model = model_of(nodes, inputs, outputs)
    return Structure(model, ("x",), ("y",), ("before",), ("counter",))


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"kernel": (2, 3), "beta": (2,), "mean": (2,), "variance": (2,)}
    drawn = {name: rng.uniform(0.5, 2, shape).astype(np.float32) for name, shape in shapes.items()}
    return drawn | {"beta": drawn["beta"] + 5}  # so that the ReLU lets something through


@pytest.fixture
def older_runtime(monkeypatch, tmp_path):
    """An ONNX Runtime that does not know the opset of what it is given: what it says is its own.

    Which opsets it knows changes with every release, so it is given one that none will.
    """
    from exporters.graph import session_process

    load = session_process.SessionProcess.start_loading

    def load_newer(self, path):
        model = onnx.load(path)
        model.opset_import[0].version = 9999
        onnx.save(model, tmp_path / "newer.onnx")
        return load(self, tmp_path / "newer.onnx")

    monkeypatch.setattr(session_process.SessionProcess, "start_loading", load_newer)
