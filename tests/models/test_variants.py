"""The networks that people publish with differences: each is told, and each is explained."""

from __future__ import annotations

import pytest

import parity as api
from parity import spec
from parity.report.codec import to_json

LAMBDA = "resnext50_32x4d@keras-lambda-groups"
BOUND = "resnext50_32x4d@keras-bound-groups"
DENSE = "resnext50_32x4d@keras-dense-groups"
TEXTBOOK = "resnet18@d2l"
PROJECTED = "resnext50_32x4d@torch-project-every-block"


def compared(name):
    return api.compare(name, classes=10, image_size=(64, 64), subjects=("keras", "torch"))


def named(report):
    return {cause.cause for cause in report.causes}


def test_variants_are_found_and_are_no_architectures():
    assert {LAMBDA, BOUND, DENSE, PROJECTED} <= set(spec.variants())
    assert not set(spec.variants()) & set(spec.names())
    assert all(
        spec.from_json(spec.get(name).to_json()) == spec.get(name) for name in spec.variants()
    )


@pytest.mark.parametrize("name", spec.variants())
def test_their_tables_are_sound(name):
    spec.get(name).table().validate()


@pytest.mark.framework
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters"), [(LAMBDA, 25_097_192), (BOUND, 25_097_192), (DENSE, 68_951_464)]
)
def test_they_are_as_large_as_they_were_published(name, parameters):
    """Keras counts the running statistics, too."""
    from parity.models.written_groups.keras import build
    from parity.runtimes.keras import undrawn_weights

    with undrawn_weights():
        assert build(spec.get(name)).count_params() == parameters


@pytest.mark.framework
@pytest.mark.slow
def test_a_late_bound_loop_variable_is_named():
    report = compared(LAMBDA)
    assert report.verdict == "divergence"
    causes = named(report)
    assert {"groups-read-one-slice", "softmax", "batch-norm-epsilon"} <= causes
    assert "same-padding+groups-read-one-slice" in causes
    assert "not-explained" not in causes
    assert all(cause.evidence["x_floor_after"] <= 8.0 for cause in report.causes)
    first = report.causes[0]
    assert (first.layer, first.subject) == ("stage1.block0.conv2", "keras")
    assert "reads the last slice" in first.message
    assert "conv2_block1_2_concat" in first.message
    told = report.levels["structure"].messages
    assert any("bias is False in torch, True in keras" in line for line in told)
    assert len(told) < 10
    assert to_json(report)["causes"][0]["cause"] == "groups-read-one-slice"


def test_the_textbook_gives_the_shapes_that_it_prints():
    stages = {cut.name: cut.row.shape for cut in spec.get(TEXTBOOK).table().cuts("stage")}
    assert list(stages.values()) == [
        (64, 56, 56), (64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7), (512,), (10,),
    ]  # fmt: skip


@pytest.mark.framework
@pytest.mark.slow
def test_the_textbook_is_a_true_twin():
    report = api.compare(TEXTBOOK, image_size=(96, 96))
    assert report.verdict == "parity", report.levels
    assert set(report.subjects) == {"keras", "torch", "onnx-keras", "onnx-torch"}


@pytest.mark.framework
@pytest.mark.slow
def test_bound_groups_leave_the_honest_differences():
    causes = named(compared(BOUND))
    assert causes == {"same-padding", "softmax", "batch-norm-epsilon"}


@pytest.mark.framework
@pytest.mark.slow
def test_groups_that_read_the_whole_input_are_told_by_structure():
    report = compared(DENSE)
    assert report.verdict == "divergence"
    told = report.levels["structure"].messages
    assert len(told) == 5
    assert any(
        line.startswith("16 layers, stage1.block0.conv2 to stage4.block2.conv2: groups is 32")
        and line.endswith("is no grouped convolution")
        for line in told
    )
    assert "its weights cannot be copied" in report.subjects["keras"].failure


@pytest.mark.framework
@pytest.mark.slow
def test_a_projection_too_many_is_told_by_structure():
    report = compared(PROJECTED)
    assert report.reference == "keras"
    (told,) = report.levels["structure"].messages
    assert "torch has 24 layers that are not in the table" in told
    assert "layer1.1.downsample.0" in told
    assert {found.layer.rpartition(".")[2] for found in report.divergences} == {"add"}
