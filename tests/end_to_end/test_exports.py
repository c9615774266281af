"""`parity export --onnx`: files that ONNX Runtime takes, from both frameworks."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import parity as api
from tests.end_to_end.conftest import SMALL

pytestmark = pytest.mark.framework

SIDES = ("keras", "torch")
STAGES = ["stem", "stage1", "stage2", "stage3", "stage4", "pool"]


def session(path):
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """ResNeXt-50 from both frameworks, at the lowest opset."""
    folder = tmp_path_factory.mktemp("exported")
    paths = {side: folder / f"{side}.onnx" for side in SIDES}
    done = {
        side: api.export(
            "resnext50_32x4d", path, side=side, opset=17, classes=10, image_size=(64, 64)
        )
        for side, path in paths.items()
    }
    return paths, done


@pytest.mark.parametrize("side", SIDES)
def test_grouped_convolutions_stay_grouped(exported, side):
    model = onnx.load(exported[0][side])
    onnx.checker.check_model(model, full_check=True)
    groups = [
        attribute.i
        for node in model.graph.node
        if node.op_type == "Conv"
        for attribute in node.attribute
        if attribute.name == "group" and attribute.i != 1
    ]
    assert groups == [32] * 16


@pytest.mark.parametrize("side", SIDES)
def test_names_axes_and_metadata(exported, side):
    paths, done = exported
    running = session(paths[side])
    (given,), (result,) = running.get_inputs(), running.get_outputs()
    assert (given.name, given.type) == ("input", "tensor(float)")
    assert given.shape == ["batch", 3, 64, 64]
    assert (result.name, result.shape) == ("logits", ["batch", 10])
    model = onnx.load(paths[side])
    held = {entry.key: entry.value for entry in model.metadata_props}
    assert held["model"] == "resnext50_32x4d"
    assert held["weights_sha256"] == done[side].weights_sha256
    assert held["exporter"] == f"parity {api.__version__}"
    assert {opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")} == {
        17
    }


def test_both_sides_agree_at_any_batch(exported):
    """With one set of random weights, whoever calibrated them."""
    paths, done = exported
    assert done["keras"].weights_sha256 == done["torch"].weights_sha256
    keras, torch = (session(paths[side]) for side in SIDES)
    for batch in (1, 5):
        data = np.random.default_rng(batch).standard_normal((batch, 3, 64, 64), np.float32)
        (left,), (right,) = keras.run(None, {"input": data}), torch.run(None, {"input": data})
        assert left.shape == (batch, 10)
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-3 * np.abs(left).max())


@pytest.mark.parametrize("side", SIDES)
def test_the_file_was_proved(exported, side):
    checks = exported[1][side].checks
    assert exported[1][side].batches == (1, 2, 3)
    assert all(np.isfinite(check["max_abs"]) for check in checks)


@pytest.mark.parametrize("side", SIDES)
def test_stage_outputs_and_a_newer_opset(parity, tmp_path, checkpoint, side):
    target = tmp_path / "out.onnx"
    done = parity(
        "export", "--onnx", target, "resnet18", *SMALL, "--from", side, "--stage-outputs",
        "--weights", checkpoint, "--opset", "22",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "opset 22" in done.out
    running = session(target)
    names = [result.name for result in running.get_outputs()]
    assert names == ["logits", *STAGES]
    values = running.run(None, {"input": np.ones((5, 3, 64, 64), np.float32)})
    shapes = [value.shape for value in values]
    assert shapes[:-1] == [
        (5, 10), (5, 64, 16, 16), (5, 64, 16, 16), (5, 128, 8, 8), (5, 256, 4, 4), (5, 512, 2, 2),
    ]  # fmt: skip
    # PyTorch's pooling keeps two axes of length 1, Keras's does not.
    assert shapes[-1] in ((5, 512), (5, 512, 1, 1))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--opset", "9"), "opset 9"),
        (("--opset", "999"), "opset 999"),
        (("--weights", "no.safetensors"), "no.safetensors"),
        (("--weights", __file__), "unknown checkpoint format"),
    ],
)
def test_a_refused_export_leaves_the_target_as_it_was(parity, tmp_path, arguments, told):
    target = tmp_path / "out.onnx"
    target.write_text("precious")
    done = parity("export", "--onnx", target, "resnet18", *SMALL, "--from", "torch", *arguments)
    assert done.code == 2
    assert told in done.error
    assert target.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out.onnx"]
