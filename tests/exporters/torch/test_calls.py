"""Arguments, results, names, wrong calls and messages of the PyTorch exporter."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest

pytestmark = pytest.mark.framework

torch_onnx = pytest.importorskip("exporters.torch_onnx")

import onnxruntime
import torch
from torch import nn

import exporters
from exporters.errors import ExportError
from tests.exporters.torch.test_export import Call


def run_file(path, **feeds):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def ones(*shape):
    return np.ones(shape, np.float32)


class Named(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


@dataclasses.dataclass
class Result:
    logits: torch.Tensor
    hidden: torch.Tensor


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda _, x: {"zeta": x + 1, "alpha": x + 2}, ["zeta", "alpha"]),
        (lambda _, x: Result(x + 1, x + 2), ["logits", "hidden"]),
        (lambda _, x: Named(x + 1, x + 2), ["first", "second"]),
        (lambda _, x: (x + 1, None, [x + 2]), ["output_0", "output_2_0"]),
        (lambda _, x: {"b": (x + 1, x + 2)}, ["b_0", "b_1"]),
    ],
    ids=["dict", "dataclass", "namedtuple", "tuple", "nested"],
)
def test_outputs_are_called_by_keys_and_fields_in_the_order_given(function, names, tmp_path):
    path = tmp_path / "a.onnx"
    torch_onnx.export(Call(function), [(3,)], path)
    found = run_file(path, inputs=ones(1, 3))
    assert list(found) == names
    assert [float(array[0, 0]) for array in found.values()] == [2, 3]


def test_the_callers_names_are_given_in_the_modules_order(tmp_path):
    path = tmp_path / "a.onnx"
    function = lambda _, x: {"zeta": x + 1, "alpha": x + 2}  # noqa: E731
    torch_onnx.export(Call(function), [(3,)], path, inputs=["x"], outputs=["one", "two"])
    found = run_file(path, x=ones(1, 3))
    assert {name: float(array[0, 0]) for name, array in found.items()} == {"one": 2, "two": 3}


class Keyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x, mask=None, *, scale=1.0, extra=None):
        y = self.fc(x) * scale
        y = y if mask is None else y * mask
        return y if extra is None else y + extra


@pytest.mark.parametrize(
    ("example", "kwargs", "names"),
    [
        ([(3,), None], {}, ["x"]),
        ([(3,)], {"extra": torch.randn(2, 3), "scale": 2.0}, ["x", "extra"]),
        ({"x": (3,), "mask": torch.ones(2, 3)}, {}, ["x", "mask"]),
        (torch.randn(2, 3), {"extra": (3,)}, ["x", "extra"]),
    ],
    ids=["none", "keywords", "dict", "tensor"],
)
def test_arguments_of_any_structure_keep_their_names(example, kwargs, names, tmp_path):
    module, path = Keyword().eval(), tmp_path / "a.onnx"
    torch_onnx.export(module, example, path, kwargs=kwargs)
    assert [value.name for value in onnx.load(path).graph.input] == names
    feeds = {name: 2 * ones(2, 3) for name in names}
    fixed = {k: v for k, v in kwargs.items() if isinstance(v, float)}
    expected = module(**{k: torch.tensor(v) for k, v in feeds.items()}, **fixed)
    np.testing.assert_allclose(
        run_file(path, **feeds)["output"], expected.detach(), rtol=1e-5, atol=1e-6
    )


def test_a_dict_argument_gives_inputs_called_by_its_keys(tmp_path):
    path = tmp_path / "a.onnx"
    example = [{"tokens": torch.randn(2, 3), "mask": torch.randn(2, 3)}]
    torch_onnx.export(Call(lambda _, b: b["tokens"] - 2 * b["mask"]), example, path)
    found = run_file(path, tokens=5 * ones(1, 3), mask=ones(1, 3))
    assert float(found["output"][0, 0]) == 3


class Clashing(nn.Module):
    """Its parameters and buffers are called as operators, and as forward's argument, are."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.randn(4))
        self.register_buffer("add", torch.randn(4))
        self.x = nn.Parameter(torch.randn(4))
        self.output = nn.Parameter(torch.randn(4))

    def forward(self, x):
        return ((x - self.mean) * self.x + self.add).mean(1, keepdim=True) * self.output


def test_names_of_buffers_arguments_and_operators_may_be_the_same(tmp_path):
    module, path = Clashing(), tmp_path / "a.onnx"
    torch_onnx.export(module, [(4,)], path)
    graph = onnx.load(path).graph
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(stored[name], tensor)
    x = np.random.default_rng(0).standard_normal((3, 4), np.float32)
    (found,) = run_file(path, **{graph.input[0].name: x}).values()
    np.testing.assert_allclose(found, module(torch.tensor(x)).detach(), rtol=1e-4, atol=1e-5)


def test_weights_keep_names_and_orientation_and_no_name_is_a_number(tmp_path):
    module, path = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval(), tmp_path / "a"
    torch_onnx.export(module, [(5, 16)], path)
    graph = onnx.load(path).graph
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(stored[name], tensor)
    names = {*stored, *(name for node in graph.node for name in node.output)}
    assert not [name for name in names if name.startswith("val_")]


@pytest.mark.parametrize(
    ("dynamic", "sizes"),
    [
        ({"inputs": {1: "batch"}}, [(5, 1, 3), (5, 4, 3)]),
        ({"inputs": {0: "batch", 1: "length"}}, [(1, 2, 3), (4, 9, 3)]),
        ({"inputs": {}}, [(5, 2, 3)]),
    ],
    ids=["batch on axis 1", "length", "fixed"],
)
def test_axes_that_vary_are_named_and_the_others_fixed(dynamic, sizes, tmp_path):
    path = tmp_path / "a.onnx"
    done = torch_onnx.export(
        Call(lambda _, x: x.cumsum(0)), [torch.randn(5, 2, 3)], path, dynamic=dynamic
    )
    dims = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    names = dynamic["inputs"]
    assert [d.dim_param or d.dim_value for d in dims] == [
        names.get(axis, size) for axis, size in enumerate((5, 2, 3))
    ]
    for size in sizes:
        x = np.random.default_rng(0).standard_normal(size, np.float32)
        np.testing.assert_allclose(run_file(path, inputs=x)["output"], x.cumsum(0), rtol=1e-5)
    if "length" in names.values():
        assert {"length=4", "length=3", "length=9"} <= {check.inputs for check in done.other_checks}


def test_a_fixed_batch_is_that_of_the_example(tmp_path):
    path = tmp_path / "a.onnx"
    done = torch_onnx.export(
        Call(lambda _, x: x.reshape(2, 2, -1).sum(1)), [torch.randn(2, 4)], path, fixed_batch=True
    )
    assert {check.batch for check in done.checks} == {1}
    assert run_file(path, inputs=ones(2, 4))["output"].tolist() == [[2, 2], [2, 2]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda path: (nn.Linear(3, 2), "abc", path), "example: found str 'abc'; pass a list"),
        (lambda path: (nn.Linear(3, 2), 5, path), "example: found int 5"),
        (lambda path: (nn.Linear(3, 2), (3,), path), r"\(3,\) is one shape; write \[\(3,\)\]"),
        (lambda path: (nn.Linear(3, 2), [], path), "does not fit Linear.forward"),
        (lambda path: (nn.Linear(3, 2), [(3,), (3,)], path), "does not fit Linear.forward"),
        (lambda path: (nn.Linear(3, 2), [object()], path), "item 0 of the example: found object"),
        (lambda path: (nn.Linear(3, 2), [(-3,)], path), "negative size"),
        (lambda path: (nn.Linear(3, 2), {"y": (3,)}, path), "does not fit Linear.forward"),
        (lambda path: (nn.Linear(3, 2), [torch.zeros(0, 3)], path), "empty batch"),
        (lambda path: (nn.Linear(3, 2), [None], path), "no tensor"),
        (lambda path: ("model.pt", [(3,)], path), "expected a torch.nn.Module, found str"),
        (lambda path: (lambda x: x, [(3,)], path), "expected a torch.nn.Module, found function"),
        (lambda path: (nn.Linear(3, 2), [(3,)], 7), "path: expected the path"),
        (lambda path: (nn.Linear(3, 2), [(3,)], None), "path: expected the path"),
        (
            lambda path: (nn.Linear(3, 2), [(4,)], path),
            r"cannot trace.*must have same.*\(in Linear",
        ),
    ],
)
def test_a_wrong_call_is_one_line_that_says_what_to_pass(arguments, message, tmp_path):
    with pytest.raises(ExportError, match=message) as found:
        torch_onnx.export(*arguments(tmp_path / "a.onnx"))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": "x"}, "inputs: expected a list of names, found 'x'"),
        ({"outputs": ["a", "b"]}, r"1 outputs \(output\), 2 names given"),
        ({"inputs": ["a", "b"]}, r"1 inputs \(input\), 2 names given"),
        ({"dynamic": {"nothing": {0: "batch"}}}, "no input is called nothing; there are input"),
        ({"dynamic": {"input": {5: "batch"}}}, "'input' has 2 axes, no axis 5"),
        ({"dynamic": [0]}, "dynamic: found list"),
        ({"opset": 3}, "opset 3"),
        ({"sample": [ones(3, 3)] * 2}, "sample: expected 1 arrays"),
        ({"sample": [ones(3)]}, "sample of 'input': expected 2 axes"),
        ({"sample": [ones(0, 3)]}, "it has no row"),
        ({"sample": ones(3)}, "sample"),
        ({"sample": "abc"}, "sample"),
    ],
)
def test_a_wrong_option_is_named(options, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        torch_onnx.export(nn.Linear(3, 2), [(3,)], tmp_path / "a.onnx", **options)
    assert list(tmp_path.iterdir()) == []


class Inner(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x).real


class Branch(nn.Module):
    def forward(self, x):
        if float(x.sum()) > 0:
            return x
        return -x


@pytest.mark.parametrize(
    ("inner", "parts"),
    [
        (Inner, ["linalg_eig", "1.block", r"test_calls.py:\d+", "torch.linalg.eigvals(x).real"]),
        (Branch, ["data-dependent", "1.block", r"test_calls.py:\d+", "torch.where"]),
    ],
)
def test_a_refusal_names_module_operator_and_line(inner, parts, tmp_path):
    part = nn.Sequential()
    part.add_module("block", inner())
    with pytest.raises(ExportError) as found:
        torch_onnx.export(nn.Sequential(nn.Identity(), part), [(3, 3)], tmp_path / "a.onnx")
    import re

    for text in parts:
        pattern = text if "\\d" in text else re.escape(text)
        assert re.search(pattern, str(found.value)), str(found.value)


@pytest.mark.parametrize(
    ("build", "example"),
    [
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(True), nn.SiLU(True)), [(3, 6, 6)]),
        (lambda: Call(_add_in_place, fc=nn.Linear(4, 4)), [(4,)]),
    ],
    ids=["activations", "+="],
)
def test_operators_in_place_stay_on_the_direct_path(build, example, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.export.ExportedProgram, "run_decompositions", None)
    torch_onnx.export(build(), example, tmp_path / "a.onnx")


def _add_in_place(self, x):
    y = self.fc(x)
    y += x
    y *= 2
    return y.relu_()


def test_a_view_that_is_changed_changes_what_it_is_a_view_of(tmp_path):
    def function(_, x):
        y = x * 2
        part = y[:, :2]
        part += 5
        return y

    path = tmp_path / "a.onnx"
    torch_onnx.export(Call(function), [(3,)], path)
    assert run_file(path, inputs=ones(1, 3))["output"].tolist() == [[7, 7, 2]]


def test_one_function_exports_a_module_and_asks_for_an_example(tmp_path):
    path = tmp_path / "a.onnx"
    done = exporters.export(nn.Linear(3, 2), path, [(3,)], outputs=["y"])
    assert done.seconds.keys() == {"trace", "inject", "write", "verify"}
    assert list(run_file(path, input=ones(1, 3))) == ["y"]
    with pytest.raises(ExportError, match="give an example"):
        exporters.export(nn.Linear(3, 2), path)
    with pytest.raises(ExportError, match="has no option 'shape'"):
        exporters.export(nn.Linear(3, 2), path, [(3,)], shape=3)
    for wrong in ("model.keras", None, {"a": 1}, lambda x: x):
        with pytest.raises(ExportError, match="expected a Keras model or a PyTorch module"):
            exporters.export(wrong, path)


@pytest.mark.parametrize("name", ["net.pt", "net.keras", "net.H5", "net.onnx.json", "net.txt"])
def test_a_name_that_says_another_format_is_refused_before_any_work(name, tmp_path):
    suffix = Path(name).suffix.lower()
    message = f"expected a name that ends in .onnx.*found '{suffix}'; give .*{Path(name).stem}"
    with pytest.raises(ExportError, match=message) as found:
        exporters.export(nn.Linear(3, 2), tmp_path / name, object())
    assert "\n" not in str(found.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["net", "net-1.5", "net.ONNX"])
def test_a_name_that_says_no_other_format_is_taken(name, tmp_path):
    assert exporters.export(nn.Linear(3, 2), tmp_path / name, [(3,)]).path.is_file()
