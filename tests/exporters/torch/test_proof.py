"""What the verification of a PyTorch export runs, sees and refuses, with the right values."""

from __future__ import annotations

import os
import signal

import numpy as np
import onnx
import pytest

pytestmark = pytest.mark.framework

torch_onnx = pytest.importorskip("exporters.torch_onnx")

import onnxruntime
import torch
import torch.nn.functional as F
from torch import nn

from exporters.errors import ExportError
from exporters.graph import session_process
from tests.exporters.torch.test_export import Call


def run_file(path, *arrays):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, arrays, strict=True)))


def export(function, example, path, **options):
    return torch_onnx.export(Call(function), example, path, **options)


@pytest.mark.parametrize(
    "function",
    [
        lambda _, x: x * 2 if x.shape[0] > 1 else x * 3,
        lambda _, x: x[:, None, :].squeeze().cumsum(0) if x.shape[0] > 1 else x.cumsum(1),
    ],
    ids=["branch", "squeeze"],
)
def test_a_module_that_does_something_else_at_one_row_is_refused(function, tmp_path):
    with pytest.raises(ExportError, match="N=1"):
        export(function, [(4,)], tmp_path / "a.onnx")


def test_a_sample_of_one_row_is_run_at_each_n_that_is_reported(tmp_path):
    seen = set()

    def function(_, x):
        if not torch.compiler.is_exporting():
            seen.add(x.shape[0])
        return x * 2

    sample = [np.ones((1, 4), np.float32)]
    done = export(function, [(4,)], tmp_path / "a.onnx", sample=sample)
    assert {check.batch for check in done.checks} == seen == {1, 2, 3}
    with pytest.raises(ExportError, match="N=1"):
        export(
            lambda _, x: x * 2 if x.shape[0] > 1 else x * 3, [(4,)], tmp_path / "b.onnx",
            sample=sample,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (lambda _, x: F.avg_pool1d(F.dropout(x, 0.5, training=True), 2), "aten.dropout"),
        (lambda _, x: x + torch.randn_like(x), "aten.randn_like"),
        (lambda _, x: torch.bernoulli(x.sigmoid()), "aten.bernoulli"),
    ],
    ids=["dropout", "randn", "bernoulli"],
)
def test_a_random_operator_is_named_with_its_line(function, operator, tmp_path):
    with pytest.raises(ExportError, match=rf"draws random numbers.*{operator}.*\.py:\d+"):
        export(function, [(4,)], tmp_path / "a.onnx")


def test_randomness_that_is_no_operator_is_found_by_running_twice(tmp_path):
    with pytest.raises(ExportError, match="differs between two runs"):
        export(lambda _, x: x + np.random.rand(), [(4,)], tmp_path / "a.onnx")


def test_dropout_in_eval_mode_and_random_numbers_that_nothing_reads_are_no_matter(tmp_path):
    def function(self, x):
        torch.rand(3)
        return F.dropout(self.fc(x), 0.5, training=self.training)

    torch_onnx.export(Call(function, fc=nn.Linear(4, 3)), [(4,)], tmp_path / "a.onnx")


def test_the_callers_random_numbers_are_as_they_were(tmp_path):
    torch.manual_seed(3)
    np.random.seed(3)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(3)
    np.random.seed(3)
    export(lambda _, x: x * 2, [(4,)], tmp_path / "a.onnx")
    assert (torch.rand(1), np.random.rand()) == expected


def test_an_output_that_never_changes_is_verified_with_other_weights(tmp_path):
    head = nn.Linear(4, 3)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    module = nn.Sequential(nn.Linear(4, 4), nn.GELU(), head)
    done = torch_onnx.export(module, [(4,)], tmp_path / "a.onnx")
    assert any("was 0.0 on every input" in note for note in done.notes)
    assert any("verified with other weights" in note for note in done.notes)
    structure = torch_onnx.trace(module, [(4,)])
    gelu = next(n for n in structure.model.graph.node if n.op_type == "Erf")
    gelu.op_type = "Tanh"
    with pytest.raises(ExportError, match="never changed with the input, and with other weights"):
        torch_onnx.export(module, [(4,)], tmp_path / "b.onnx", structure=structure)


def test_a_constant_output_is_said_to_be_one(tmp_path):
    path = tmp_path / "a.onnx"
    done = export(lambda _, x: (x * 2, torch.full((3,), 5.0)), [(4,)], path)
    assert any("is a constant, 5.0" in note for note in done.notes)
    np.testing.assert_array_equal(run_file(path, np.ones((1, 4), np.float32))[1], [5, 5, 5])


def test_integers_are_drawn_with_negatives_where_the_module_takes_them(tmp_path):
    path = tmp_path / "a.onnx"
    export(lambda _, i: i // 3, [torch.tensor([[1, 2], [3, 4]])], path)
    np.testing.assert_array_equal(run_file(path, np.array([[-139, 5]]))[0], [[-47, 1]])
    export(lambda _, i: i.float() // 0.7, [torch.tensor([[1, 2], [3, 4]])], path)
    expected = (torch.arange(-500, 500).float() // 0.7).numpy()
    found = run_file(path, np.arange(-500, 500).reshape(500, 2))[0]
    np.testing.assert_array_equal(found.reshape(-1), expected)


@pytest.mark.parametrize(
    ("kind", "function"),
    [
        ("Div", lambda _, i: i // 3),  # as ONNX's integer division, which truncates
        ("Log", lambda _, x: F.logsigmoid(x)),
        ("Round", lambda _, x: torch.round(x)),
        ("Relu", lambda _, x: torch.where(x >= 0, x, -1.0)),
    ],
)
def test_a_graph_that_is_wrong_on_some_numbers_alone_is_refused(kind, function, tmp_path):
    """Negative integers, large floats, halves and zeros: none of them is drawn by chance."""
    integers = kind == "Div"
    example = [torch.tensor([[1, 2], [3, 4]])] if integers else [(2,)]
    structure = torch_onnx.trace(Call(function), example)
    graph = structure.model.graph
    x, y = graph.input[0].name, graph.output[0].name
    make = onnx.helper.make_node
    wrong = {
        "Div": [make("Constant", [], ["three"], value_ints=[3]), make("Div", [x, "three"], [y])],
        "Log": [make("Sigmoid", [x], ["s"]), make("Log", ["s"], [y])],
        "Round": [
            make("Constant", [], ["half"], value_float=0.5),
            make("Add", [x, "half"], ["s"]),
            make("Floor", ["s"], [y]),
        ],
        "Relu": [
            make("Constant", [], ["zero"], value_float=0.0),
            make("Constant", [], ["minus"], value_float=-1.0),
            make("Greater", [x, "zero"], ["c"]),
            make("Where", ["c", x, "minus"], [y]),
        ],
    }[kind]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(wrong)
    with pytest.raises(ExportError, match="something else"):
        torch_onnx.export(Call(function), example, tmp_path / "a.onnx", structure=structure)


def test_indices_keep_within_the_table(tmp_path):
    path = tmp_path / "a.onnx"
    torch_onnx.export(nn.Embedding(7, 4), [torch.tensor([[1, 2, 0]])], path)
    module = nn.Embedding(7, 4)
    torch_onnx.export(module, [torch.tensor([[1, 2, 0]])], path)
    found = run_file(path, np.array([[6, 0, 3]]))[0]
    np.testing.assert_array_equal(found, module(torch.tensor([[6, 0, 3]])).detach())


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("mean over the batch", lambda _, x: x.mean(0)),
        ("three rows always", lambda _, x: x.sum(0).reshape(3, 2)),
        ("logits of all pairs", lambda _, x: x @ x.T),
    ],
)
def test_an_output_without_the_batch_on_axis_0_is_compared_whole(name, function, tmp_path):
    path = tmp_path / "a.onnx"
    export(function, [(6,)], path)
    x = np.random.default_rng(1).standard_normal((4, 6), np.float32)
    np.testing.assert_allclose(run_file(path, x)[0], function(None, torch.tensor(x)), rtol=1e-4)


def test_the_floor_is_that_of_the_precision_computed_in(tmp_path):
    def function(self, x):
        return self.fc(self.conv(x.half()).relu().flatten(1)).float()

    module = Call(function, conv=nn.Conv2d(3, 8, 3).half(), fc=nn.Linear(288, 5).half())
    path = tmp_path / "a.onnx"
    torch_onnx.export(module, [torch.randn(2, 3, 8, 8)], path)
    x = torch.randn(3, 3, 8, 8)
    np.testing.assert_allclose(
        run_file(path, x.numpy())[0], module(x).detach(), rtol=0.02, atol=0.01
    )
    structure = torch_onnx.trace(Call(lambda _, x: x * 2), [(4,)])
    graph = structure.model.graph
    last = graph.node[-1]
    name, last.output[0] = last.output[0], "wide"
    graph.node.add(op_type="Cast", input=["wide"], output=["narrow"]).attribute.add(
        name="to", i=onnx.TensorProto.FLOAT16, type=onnx.AttributeProto.INT
    )
    graph.node.add(op_type="Cast", input=["narrow"], output=[name]).attribute.add(
        name="to", i=onnx.TensorProto.FLOAT, type=onnx.AttributeProto.INT
    )
    with pytest.raises(ExportError, match="something else"):  # the module has no float16
        torch_onnx.export(
            Call(lambda _, x: x * 2), [(4,)], tmp_path / "b.onnx", structure=structure
        )


@pytest.mark.parametrize("size", [(223, 224), (31, 47), (50, 17)])
def test_bilinear_resizing_is_as_exact_as_the_coordinates_are(size, tmp_path):
    path = tmp_path / "a.onnx"
    module = nn.Upsample(size, mode="bilinear")
    torch_onnx.export(module, [(2, 20, 21)], path)
    x = torch.randn(2, 2, 20, 21)
    np.testing.assert_allclose(run_file(path, x.numpy())[0], module(x), atol=1e-3)


def test_buffers_and_attributes_are_as_they_were(tmp_path):
    def function(self, x):
        self.average.mul_(0.9).add_(0.1 * x.mean())
        self.calls = self.calls + 1
        self.last = x
        return x - self.average

    module = Call(function)
    module.register_buffer("average", torch.tensor(0.5))
    module.calls, module.last = 0, None
    path = tmp_path / "a.onnx"
    torch_onnx.export(module, [(4,)], path)
    assert module.average == 0.5
    assert module.calls == 0
    assert module.last is None
    x = np.ones((1, 4), np.float32)
    np.testing.assert_allclose(run_file(path, x)[0], 1 - 0.55, rtol=1e-6)


def test_a_crash_of_onnx_runtime_is_a_message(tmp_path, monkeypatch):
    load = session_process.SessionProcess.start_loading

    def crash(self, path):
        os.kill(self._process.pid, signal.SIGSEGV)
        return load(self, path)

    with monkeypatch.context() as patched:
        patched.setattr(session_process.SessionProcess, "start_loading", crash)
        with pytest.raises(ExportError, match=r"ONNX Runtime crashed while loading.*SIGSEGV"):
            export(lambda _, x: x * 2, [(4,)], tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []
    export(lambda _, x: x * 2, [(4,)], tmp_path / "a.onnx")  # the next export has another process


def test_the_process_stays_for_the_next_export(tmp_path):
    export(lambda _, x: x * 2, [(4,)], tmp_path / "a.onnx")
    first = session_process.get_shared_process()
    export(lambda _, x: x * 3, [(4,)], tmp_path / "b.onnx")
    assert session_process.get_shared_process() is first


LARGE = [(64, 64)]
"""So many numbers that one extreme sample and one with ties are the batch of N = 2."""


def test_the_batch_of_two_of_a_large_input_is_extreme_and_has_ties(tmp_path):
    batches = []

    def function(_, x):
        if not torch.compiler.is_exporting():
            batches.append(x.shape[0])
        return x * 2

    done = export(function, LARGE, tmp_path / "a.onnx")
    assert batches == [3, 1, 2]
    assert [(check.batch, check.inputs) for check in done.checks] == [(1, "normal"), (3, "normal")]
    assert {(c.batch, c.inputs) for c in done.other_checks} == {(2, "extreme"), (2, "ties")}


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_one_batch_of_a_large_input_that_differs_is_refused(batch, tmp_path):
    def function(_, x):
        if torch.compiler.is_exporting():
            return x * 2
        return x * 3 if x.shape[0] == batch else x * 2

    with pytest.raises(ExportError, match=f"N={batch}"):
        export(function, LARGE, tmp_path / "a.onnx")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: torch.where(x.abs() > 30, x * 3, x * 2),
        lambda x: torch.where(x == 0, x + 1, x * 2),
    ],
    ids=["extreme", "zero"],
)
def test_one_sample_of_the_batch_of_two_that_differs_is_refused(wrong, tmp_path):
    def function(_, x):
        return x * 2 if torch.compiler.is_exporting() else wrong(x)

    with pytest.raises(ExportError, match="something else"):
        export(function, LARGE, tmp_path / "a.onnx")


@pytest.mark.parametrize(
    "function",
    [
        lambda _, x: torch.exp(x * 3),  # of an extreme input no finite number
        lambda _, x: x - x.mean(0),  # rows that depend on one another
    ],
    ids=["not-finite", "mixed-rows"],
)
def test_normal_inputs_are_the_batch_of_two_where_the_others_cannot_be(function, tmp_path):
    done = export(function, LARGE, tmp_path / "a.onnx")
    assert {(c.batch, c.inputs) for c in done.checks} >= {(1, "normal"), (2, "normal")}
    assert {c.batch for c in done.other_checks} <= {1}
