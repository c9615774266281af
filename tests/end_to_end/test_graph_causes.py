"""ONNX files that were changed behind the exporter's back, given to a comparison: why they differ.

Each is made of a healthy export of resnet18; the report names what was done to it.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import parity as api
from parity.report.codec import to_json

pytestmark = [pytest.mark.framework, pytest.mark.slow]

SMALL = {"classes": 10, "image_size": (64, 64)}
LAYER = "stage2.block1.conv1"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    found = {}
    for side in ("keras", "torch"):
        found[side] = folder / f"{side}.onnx"
        api.export("resnet18", found[side], side=side, **SMALL)
    return found


def compared(side, path, **options):
    subjects = (side, f"onnx-{side}")
    return api.compare(
        "resnet18", f"onnx-{side}={path}", subjects=subjects, input="random", **SMALL, **options
    )


def edited(source, target, change):
    model = onnx.load(source)
    change(model)
    onnx.save(model, target)
    return target


def node_of(model, tensor=LAYER):
    return next(node for node in model.graph.node if tensor in node.output)


def kernel_of(model):
    name = node_of(model).input[1]
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


@pytest.mark.parametrize("side", ["keras", "torch"])
def test_a_healthy_file_has_no_cause(files, side):
    report = compared(side, files[side])
    assert report.verdict == "parity"
    assert report.causes == ()
    assert report.levels["structure"].messages == ()


@pytest.mark.parametrize("side", ["keras", "torch"])
def test_one_weight_of_a_file_that_was_changed(files, tmp_path, side):
    held = {}

    def change(model):
        tensor = kernel_of(model)
        value = numpy_helper.to_array(tensor).copy()
        held.update(name=tensor.name, before=value[3, 2, 1, 0], after=value[3, 2, 1, 0] + 1)
        value[3, 2, 1, 0] += 1.0
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))

    report = compared(side, edited(files[side], tmp_path / "changed.onnx", change))
    assert report.verdict == "divergence"
    (cause,) = report.causes
    assert (cause.cause, cause.layer, cause.subject) == ("changed-weights", LAYER, f"onnx-{side}")
    assert f"`{held['name']}`, its kernel" in cause.message
    assert f"{held['after']:.9g} at (3, 2, 1, 0)" in cause.message
    assert f"the reference has {held['before']:.9g}; no other differs" in cause.message
    assert cause.evidence["x_floor_after"] <= 4.0 < cause.evidence["x_floor_before"]
    assert to_json(report)["causes"][0]["cause"] == "changed-weights"
    assert any("the exported graph" in line for line in report.attribution)


def test_an_exporter_that_wrote_another_layer(files, tmp_path):
    def change(model):
        node = node_of(model)
        node.output[0] = "before"
        at = list(model.graph.node).index(node)
        model.graph.node.insert(at + 1, onnx.helper.make_node("Sin", ["before"], [LAYER]))

    report = compared("torch", edited(files["torch"], tmp_path / "sine.onnx", change))
    (cause,) = report.causes
    assert (cause.cause, cause.layer) == ("exported-graph", LAYER)
    # A file from elsewhere may be another model's: nothing was applied to this one's layer.
    assert "Against the graph's own nodes, evaluated in float64, the error falls" in cause.message
    assert "if the file is this model's, export again" in cause.message


def freeze(count):
    def change(model):
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = count
        del model.graph.value_info[:]

    return change


def test_a_batch_that_is_frozen_at_what_is_compared_is_told(files, tmp_path):
    path = edited(files["torch"], tmp_path / "one.onnx", freeze(1))
    report = compared("torch", path, batch=1)
    assert report.verdict == "parity"
    (told,) = report.levels["structure"].messages
    assert told.startswith("onnx-torch: its batch dimension is frozen: N=2: ")
    assert "N=3: " in told


@pytest.mark.parametrize(("frozen", "batch"), [(1, 2), (8, 1)])
def test_a_batch_that_is_frozen_at_another_size_is_a_cause(files, tmp_path, frozen, batch):
    path = edited(files["torch"], tmp_path / "frozen.onnx", freeze(frozen))
    report = compared("torch", path, batch=batch)
    assert report.verdict == "unknown"
    (cause,) = report.causes
    assert (cause.cause, cause.subject) == ("batch-frozen", "onnx-torch")
    assert f"fixed at {frozen}; it was given {batch} images" in cause.message
    assert cause.evidence["x_floor_after"] <= 4.0


def test_a_reshape_that_mixes_the_images_is_a_frozen_batch(files, tmp_path):
    """The input takes any batch, and a Reshape inside makes one sample of all of them."""

    def change(model):
        node = node_of(model, "logits")
        shape = numpy_helper.from_array(np.array([1, -1], np.int64), "frozen/shape")
        model.graph.initializer.append(shape)
        name = node.output[0]
        node.output[0] = "frozen/before"
        model.graph.node.append(
            onnx.helper.make_node("Reshape", ["frozen/before", "frozen/shape"], [name])
        )
        del model.graph.value_info[:]

    path = edited(files["torch"], tmp_path / "reshape.onnx", change)
    report = compared("torch", path, batch=2)
    assert report.verdict == "divergence"
    assert [cause.cause for cause in report.causes] == ["batch-frozen"]
