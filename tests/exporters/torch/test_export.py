"""PyTorch modules of many kinds to ONNX; each export is verified by the exporter itself too."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import pytest

pytestmark = pytest.mark.framework

torch_onnx = pytest.importorskip("exporters.torch_onnx")

import torch
from torch import nn

from exporters.errors import ExportError
from exporters.graph import Structure, add_outputs, inject
from exporters.graph.session import open_session


class Grouped(nn.Module):
    """A residual block with a grouped convolution; one ReLU is called three times."""

    def __init__(self, *, inplace: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 8, 3, 1, 1, groups=4, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=inplace)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 5)

    def forward(self, image):
        x = self.relu(self.bn1(self.stem(image)))
        y = self.relu(self.bn2(self.conv(x)))
        return self.fc(torch.flatten(self.pool(self.relu(x + y)), 1))


class Call(nn.Module):
    """A function of named parts as a module."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def separable() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, groups=3),
        nn.Conv2d(6, 8, 1),
        nn.BatchNorm2d(8, affine=False),
        nn.SiLU(),
        nn.Conv2d(8, 8, 3, padding="same", groups=8),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 3),
    )


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(10, 20), nn.GELU(), nn.Dropout(), nn.BatchNorm1d(20), nn.Linear(20, 3)
    )


def several() -> nn.Module:
    def function(self, picture, facts):
        x = torch.cat([self.conv(picture).flatten(1), facts], 1)
        return {"p": self.head(x), "q": (facts * 2, picture.mean((2, 3)))}

    return Call(function, conv=nn.Conv2d(3, 4, 3), head=nn.Linear(148, 3))


def transformer() -> nn.Module:
    return nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu")


def recurrent() -> nn.Module:
    return Call(lambda self, x: self.lstm(x)[0], lstm=nn.LSTM(5, 8, batch_first=True))


def tokens() -> nn.Module:
    function = lambda self, t: self.norm(self.embed(t)).mean(1)  # noqa: E731
    return Call(function, embed=nn.Embedding(20, 16), norm=nn.LayerNorm(16))


def batch_mixing() -> nn.Module:
    return Call(lambda self, x: self.fc(x) - self.fc(x).mean(0), fc=nn.Linear(4, 3))


def branching() -> nn.Module:
    return Call(lambda _, x: torch.cond(x.sum() > 0, lambda y: y * 2, lambda y: y - 1, (x,)))


def mixture() -> nn.Module:
    """A sum over three operands, whose order of products PyTorch plans."""
    return Call(
        lambda self, x, y: torch.einsum("be,beh,eho->bo", x, y, self.weight),
        weight=nn.Parameter(torch.randn(4, 6, 12)),
    )


MODELS = {
    "grouped": (Grouped, [(3, 12, 12)]),
    "inplace": (lambda: Grouped(inplace=True), [(3, 12, 12)]),
    "separable": (separable, [(3, 16, 16)]),
    "mlp": (mlp, [(10,)]),
    "several": (several, [(3, 8, 8), (4,)]),
    "transformer": (transformer, [(5, 32)]),
    "recurrent": (recurrent, [(6, 5)]),
    "tokens": (tokens, [torch.tensor([[1, 2, 3, 4], [5, 6, 7, 19]])]),
    "one row": (tokens, [torch.tensor([[1, 2, 3, 4]])]),
    "batch mixing": (batch_mixing, [(4,)]),
    "branching": (branching, [(3,)]),
    "mixture": (mixture, [(4,), (4, 6)]),
}


def shaken(module: nn.Module) -> nn.Module:
    """Give batch-norm statistics of its own: the defaults do nothing."""
    torch.manual_seed(0)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            child.running_mean.normal_()
            child.running_var.uniform_(0.5, 2)
    return module.eval()


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("name", MODELS)
def test_any_module_is_exported_and_runs_at_batch_5(name, tmp_path):
    build, example = MODELS[name]
    path = tmp_path / "a.onnx"
    done = torch_onnx.export(shaken(build()), example, path)
    assert {check.batch for check in done.checks} == {1, 2, 3}
    session = open_session(path)
    feeds = {}
    for value in session.get_inputs():
        assert value.shape[0] == "batch"
        kind = np.int64 if "int64" in value.type else np.float32
        feeds[value.name] = np.ones((5, *value.shape[1:]), kind)
    assert all(len(array) == 5 for array in session.run(None, feeds))


def test_the_graph_is_the_network_and_the_weights_keep_names_and_bits(tmp_path):
    module = shaken(Grouped())
    path = tmp_path / "a.onnx"
    torch_onnx.export(
        module,
        [(3, 12, 12)],
        path,
        inputs=["input"],
        outputs=["logits"],
        metadata={"m": "1"},
    )
    read = onnx.load(path)
    assert operators(read) == {
        "Conv": 2, "BatchNormalization": 2, "Relu": 3, "Add": 1,
        "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1,
    }  # fmt: skip
    assert [value.name for value in read.graph.input] == ["input"]
    assert [value.name for value in read.graph.output] == ["logits"]
    state = {k: v for k, v in module.state_dict().items() if "num_batches" not in k}
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in read.graph.initializer}
    assert stored.keys() == state.keys()
    for name, tensor in state.items():
        np.testing.assert_array_equal(stored[name], tensor.numpy())
    assert {item.key: item.value for item in read.metadata_props}["m"] == "1"


TAPS = {
    "stem": "relu",
    "bn2": "bn2",
    "sum": "relu#2@input",
    "last": "relu#2",
    "image": "stem@input",
    "pool": "pool",
    "logits": "fc",
}


def test_a_state_dict_that_hooks_rename_is_exported_all_the_same(tmp_path):
    """Of a module that renames a weight."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()

    def renamed(module, state, prefix, metadata):
        state[f"{prefix}whole"] = state.pop(f"{prefix}0.weight")

    module.register_state_dict_post_hook(renamed)
    assert "whole" in module.state_dict()
    done = torch_onnx.export(module, [(3, 8, 8)], tmp_path / "m.onnx")
    assert done.checks
    assert set(torch_onnx.weights(module)) == {"0.weight", "0.bias"}


@pytest.mark.parametrize("inplace", [False, True])
def test_taps_are_what_the_calls_returned_and_cost_nothing(inplace):
    module = shaken(Grouped(inplace=inplace))
    example, names = [(3, 12, 12)], [name for name in TAPS if name != "logits"]
    ends = {"inputs": ["input"], "outputs": ["logits"]}
    plain = torch_onnx.trace(module, example, **ends)
    structure = torch_onnx.trace(module, example, **ends, taps=TAPS)
    weights = torch_onnx.weights(module)
    deployed = inject(structure, weights).proto()
    assert operators(deployed) == operators(inject(plain, weights).proto())

    image = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        m = module
        stem = torch.relu(m.bn1(m.stem(image)))
        bn2 = m.bn2(m.conv(stem))
        total = stem + torch.relu(bn2)
        pool = m.pool(torch.relu(total))
    expected = {"stem": stem, "bn2": bn2, "sum": total, "last": torch.relu(total)}
    expected |= {"image": image, "pool": pool}
    import onnxruntime

    asked = inject(structure, weights, outputs=names).proto()
    session = onnxruntime.InferenceSession(asked.SerializeToString())
    found = session.run(None, {"input": image.numpy()})[1:]
    for name, array in zip(names, found, strict=True):
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
    later = add_outputs(deployed, ["stem", "sum"])
    assert [value.name for value in later.graph.output] == ["logits", "stem", "sum"]


def test_a_structure_takes_other_weights_and_no_counter_is_needed(tmp_path):
    torch_onnx.trace(Grouped(), [(3, 12, 12)]).save(tmp_path / "a.structure")
    structure = Structure.load(tmp_path / "a.structure")
    assert structure.unused == ("bn1.num_batches_tracked", "bn2.num_batches_tracked")
    module = shaken(Grouped())
    done = torch_onnx.export(module, [(3, 12, 12)], tmp_path / "a.onnx", structure=structure)
    assert "trace" not in done.seconds
    without = {k: v for k, v in torch_onnx.weights(module).items() if "num_batches" not in k}
    inject(structure, without)


def test_the_module_is_left_as_it_was():
    module = Grouped().train()
    module.bn2.eval()
    torch_onnx.trace(module, [(3, 12, 12)], taps={"t": "relu"})
    assert module.training
    assert module.stem.training
    assert not module.bn2.training
    assert not module.relu._forward_hooks
    assert not module._forward_hooks
    assert int(module.bn1.num_batches_tracked) == 0
    with pytest.raises(ExportError):
        torch_onnx.trace(module, [(3, 12, 12)], taps={"t": "relu", "u": "relu#7"})
    assert not module.relu._forward_hooks


@pytest.mark.parametrize(
    ("taps", "message"),
    [({"t": "relu#3"}, r"never called 'relu#3'"), ({"t": "nothing"}, "no module 'nothing'")],
)
def test_wrong_taps_are_named(taps, message):
    with pytest.raises(ExportError, match=message):
        torch_onnx.trace(Grouped(), [(3, 12, 12)], taps=taps)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda _, x: torch.linalg.eigvals(x).real, "linalg_eig"),
        (lambda _, x: x * 2 if float(x.sum()) > 0 else x, "data-dependent"),
        (lambda _, x: x.reshape(2, -1), "batch"),
        (lambda _, x: x @ torch.zeros(7, 7), "cannot trace"),
    ],
    ids=["operator", "data-dependent", "fixed batch", "shapes"],
)
def test_what_cannot_be_exported_is_named_and_no_file_is_left(function, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        torch_onnx.export(Call(function), [(3, 3)], tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_computes_something_else_leaves_no_file(tmp_path):
    structure = torch_onnx.trace(Grouped(), [(3, 12, 12)])
    norm = next(n for n in structure.model.graph.node if n.op_type == "BatchNormalization")
    next(a for a in norm.attribute if a.name == "epsilon").f = 2e-3
    with pytest.raises(ExportError, match="computes something else: output at N=1"):
        torch_onnx.export(
            shaken(Grouped()), [(3, 12, 12)], tmp_path / "a.onnx", structure=structure
        )
    assert list(tmp_path.iterdir()) == []


def test_weights_that_overflow_are_refused(tmp_path):
    module = shaken(mlp())
    with torch.no_grad():
        module[0].weight[0, 0] = float("nan")
    with pytest.raises(ExportError, match="not finite"):
        torch_onnx.export(module, [(10,)], tmp_path / "a.onnx")


def test_an_unwritable_path_costs_no_tracing(tmp_path, monkeypatch):
    monkeypatch.setattr("exporters.torch.export.trace_arguments", None)
    with pytest.raises(ExportError, match="cannot be written"):
        torch_onnx.export(mlp(), [(10,)], tmp_path / "missing" / "a.onnx")


@pytest.mark.parametrize("heads", [(), (2,), (2, 3)], ids=["3d", "4d", "5d"])
@pytest.mark.parametrize("case", ["plain", "causal", "masked"])
def test_attention_of_any_number_of_axes(heads, case, tmp_path):
    """torch.onnx translates four axes alone; timm's Twins attends over five."""

    def attend(_, query, key, mask):
        mask = mask > 0 if case == "masked" else None
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, key, attn_mask=mask, is_causal=case == "causal"
        )

    shapes = [(*heads, 5, 4), (*heads, 7, 4), (*heads, 5, 7)]
    path = tmp_path / "a.onnx"
    torch_onnx.export(Call(attend), shapes, path)
    arrays = [np.random.default_rng(at).standard_normal((3, *s)) for at, s in enumerate(shapes)]
    tensors = [torch.from_numpy(array.astype(np.float32)) for array in arrays]
    session = open_session(path)
    feeds = {
        value.name: tensor.numpy()
        for value, tensor in zip(session.get_inputs(), tensors, strict=False)
    }
    (found,) = session.run(None, feeds)
    np.testing.assert_allclose(found, attend(None, *tensors).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("opset", [17, 18, 22])
def test_opsets(opset, tmp_path):
    path = tmp_path / "a.onnx"
    done = torch_onnx.export(shaken(Grouped()), [(3, 12, 12)], path, opset=opset)
    assert done.opset == opset
    assert onnx.load(path).opset_import[0].version == opset


def test_no_operator_has_an_output_that_nothing_reads(tmp_path):
    path = tmp_path / "a.onnx"
    torch_onnx.export(nn.Sequential(nn.LayerNorm(8), nn.Dropout()), [(5, 8)], path)
    (norm,) = onnx.load(path).graph.node
    assert (norm.op_type, len(norm.output)) == ("LayerNormalization", 1)


@pytest.mark.usefixtures("older_runtime")
def test_an_opset_that_onnx_runtime_does_not_know_is_one_line(tmp_path):
    path = tmp_path / "a.onnx"
    with pytest.raises(ExportError, match=r"ONNX Runtime does not load it: [A-Z][^/]*$"):
        torch_onnx.export(shaken(Grouped()), [(3, 12, 12)], path)
    assert not path.exists()


def test_nothing_is_printed(tmp_path):
    code = f"""
from exporters import torch_onnx
from tests.exporters.torch.test_export import Grouped
torch_onnx.export(Grouped(), [(3, 12, 12)], {str(tmp_path / "a.onnx")!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
