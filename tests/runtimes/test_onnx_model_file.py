"""ONNX files are read with their external data, and nothing else on the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper
from onnx.reference import ReferenceEvaluator

from parity.errors import GraphError
from parity.runtimes.onnx.model_file import (
    load_model,
    outer_names,
    parse_model,
    restore_decimal,
)
from tests.runtimes.onnx_models import WEIGHTS, drawn, model, network, node


@pytest.fixture
def external(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save_model(
        network(), path, save_as_external_data=True, location="model.data", size_threshold=0
    )
    return path


def with_location(path: Path, **fields: str) -> Path:
    """Rewrite where the kernel's values are."""
    proto = onnx.load(path, load_external_data=False)
    tensor = next(each for each in proto.graph.initializer if each.name == "kernel")
    kept = {entry.key: entry.value for entry in tensor.external_data} | fields
    del tensor.external_data[:]
    for key, value in kept.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())
    return path


def test_external_data_are_read(external: Path) -> None:
    loaded = load_model(external)
    for name, value in WEIGHTS.items():
        np.testing.assert_array_equal(loaded.tensors[name], value)
        assert loaded.tensors[name].shape == np.shape(value)


@pytest.mark.parametrize("location", ["../outside.data", "/etc/hostname", "sub/../../outside.data"])
def test_data_outside_the_folder_are_refused(external: Path, location: str) -> None:
    (external.parent.parent / "outside.data").write_bytes(bytes(4096))
    with pytest.raises(GraphError, match=r"'kernel' has data in .* outside the model's folder"):
        load_model(with_location(external, location=location, offset="0"))


def test_a_link_out_of_the_folder_is_refused(external: Path) -> None:
    outside = external.parent.parent / "outside.data"
    outside.write_bytes(bytes(4096))
    (external.parent / "link.data").symlink_to(outside)
    with pytest.raises(GraphError, match="outside the model's folder"):
        load_model(with_location(external, location="link.data", offset="0"))


@pytest.mark.parametrize(
    "fields",
    [{"length": "8"}, {"offset": "999999"}, {"offset": "-4"}, {"length": "999999"}],
    ids=str,
)
def test_data_of_another_size_are_refused(external: Path, fields: dict[str, str]) -> None:
    with pytest.raises(GraphError, match="'kernel' needs 648 bytes"):
        load_model(with_location(external, **fields))


def test_missing_data_are_named(external: Path) -> None:
    (external.parent / "model.data").unlink()
    with pytest.raises(GraphError, match=r"'\w+' has data in 'model.data'"):
        load_model(external)


def test_external_data_of_a_branch_are_checked_too(tmp_path: Path) -> None:
    tensor = onnx.numpy_helper.from_array(drawn(3), "value")
    external_data_helper.set_external_data(tensor, location="../elsewhere", offset=0, length=12)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    inner = node("Constant", "", "c", value=tensor)
    branch = onnx.helper.make_graph(
        [inner], "branch", [], [onnx.helper.make_empty_tensor_value_info("c")]
    )
    choice = node("If", "flag", "y", then_branch=branch, else_branch=branch)
    proto = model([choice], {"flag": ()}, ["y"], {}, dtypes={"flag": TensorProto.BOOL})
    path = tmp_path / "branch.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(GraphError, match="outside the model's folder"):
        load_model(path)


@pytest.mark.parametrize("content", [b"", b"not a model", bytes(100)])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(GraphError, match=r"model\.onnx: (cannot be read|is not)"):
        load_model(path)


def test_constant_nodes_become_initializers() -> None:
    loaded = parse_model(network(), "model")
    np.testing.assert_array_equal(loaded.tensors["rest"], [-1])
    assert "Constant" not in {each.op_type for each in loaded.graph.node}
    # Whatever was changed, it is still the same model.
    message = onnx.ModelProto()
    message.CopyFrom(loaded.skeleton)
    message.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in loaded.tensors.items()
    )
    whole = ReferenceEvaluator(message).run(None, {"image": drawn(1, 3, 8, 8)})
    expected = ReferenceEvaluator(network()).run(None, {"image": drawn(1, 3, 8, 8)})
    np.testing.assert_array_equal(whole[0], expected[0])


def test_nodes_in_another_order_are_sorted() -> None:
    proto = network()
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    loaded = parse_model(proto, "model")
    made = set(loaded.tensors) | {"image"}
    for each in loaded.graph.node:
        assert {name for name in each.input if name} <= made
        made |= set(each.output)


def test_a_circle_of_nodes_is_refused() -> None:
    nodes = [node("Add", "x b", "a"), node("Neg", "a", "b")]
    with pytest.raises(GraphError, match="circle"):
        parse_model(model(nodes, {"x": (2,)}, ["b"], {}), "model")


def test_what_an_inner_graph_reads_from_outside() -> None:
    inner = onnx.helper.make_graph(
        [node("Add", "a w", "s"), node("Mul", "s outer", "t")], "body",
        [onnx.helper.make_empty_tensor_value_info("a")],
        [onnx.helper.make_empty_tensor_value_info("t"),
         onnx.helper.make_empty_tensor_value_info("passed")],
        [onnx.numpy_helper.from_array(drawn(2), "w")],
    )  # fmt: skip
    assert outer_names(inner) == ["outer", "passed"]


@pytest.mark.parametrize("value", [1e-5, 1.001e-5, 1e-3, 0.2, 2.0**-17, 1 / 3])
def test_a_decimal_is_restored_only_where_it_rounds_to_the_files_value(value: float) -> None:
    stored = float(np.float32(value))
    restored = restore_decimal(stored)
    assert np.float32(restored) == np.float32(value)
    assert restored == (value if value == float(f"{value:.6g}") else stored)
    assert restore_decimal(stored, value) == value
