"""Edits of ONNX files, one node at a time."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from parity.errors import GraphError
from parity.runtimes.onnx.repair import write_repaired


def write_model(path, operator, domain):
    node = helper.make_node(operator, ["x", "y"], ["sum"], "node", domain=domain)
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "y", "sum")
    ]
    graph = helper.make_graph([node], "graph", values[:2], values[2:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


@pytest.mark.parametrize(
    ("operator", "domain"), [("Mul", ""), ("Mul", "ai.onnx"), ("BiasAdd", "com.microsoft")]
)
def test_a_renamed_node_is_an_operator_of_onnx(tmp_path, operator, domain):
    source = write_model(tmp_path / "wrong.onnx", operator, domain)
    edit = {"tensor": "sum", "action": "rename", "kind": "add"}
    write_repaired(str(source), str(tmp_path / "right.onnx"), edits=[edit], weights=None)
    model = onnx.load(tmp_path / "right.onnx")
    (node,) = model.graph.node
    assert (node.op_type, node.domain) == ("Add", "")
    onnx.checker.check_model(model)


def test_an_operator_of_another_domain_has_no_attributes_of_onnx(tmp_path):
    source = write_model(tmp_path / "wrong.onnx", "Gelu", "com.microsoft")
    attributes = {"approximate": "tanh"}
    edit = {"tensor": "sum", "action": "set", "kind": "gelu", "attributes": attributes}
    with pytest.raises(GraphError, match="no Gelu makes 'sum'"):
        write_repaired(str(source), str(tmp_path / "out.onnx"), edits=[edit], weights=None)
    assert not (tmp_path / "out.onnx").exists()
