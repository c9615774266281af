"""Every check has a model in which it fails: what differs, and where, is named."""

from __future__ import annotations

from pathlib import Path

import pytest

import parity as api
from parity.errors import ParityError

pytestmark = pytest.mark.framework

SMALL_TABLE = "tests/twins/small.csv"
HEALTHY = "torch=tests.twins.torch_small:build"


def resnet(name):
    return api.compare(
        "resnet18",
        f"keras=tests.twins.broken:{name}",
        classes=10,
        image_size=(64, 64),
        subjects=("keras", "torch"),
    )


def small(name, *, table=SMALL_TABLE, **options):
    return api.compare(
        f"keras=tests.twins.keras_small:{name}",
        HEALTHY,
        table=table,
        image_size=(32, 32),
        input="random",
        **{"subjects": ("keras", "torch"), **options},
    )


def first_of(report):
    first = report.first_divergence
    return first.subject, first.stage, first.layer


def statuses(report):
    return {stage.name: stage.subjects["keras"].status for stage in report.stages}


@pytest.mark.parametrize(
    ("name", "stage", "layer", "told"),
    [
        ("stride_moved", "stage2", "stage2.block0.conv1", "stride is (2, 2) in torch, (1, 1)"),
        ("same_padding", "stage2", "stage2.block0.conv1", "padding is ((1, 1), (1, 1)) in torch"),
        ("other_epsilon", "stage1", "stage1.block1.bn1", "epsilon is 1e-05 in torch, 0.001"),
    ],
)
def test_another_hyperparameter_is_found_by_structure_and_by_numbers(name, stage, layer, told):
    report = resnet(name)
    assert report.verdict == "divergence"
    assert report.verdict.exit_code == 1
    assert first_of(report) == ("keras", stage, layer)
    structure = report.levels["structure"]
    assert structure.outcome == "fail"
    assert any(told in message and layer in message for message in structure.messages)
    assert all(found.subjects["torch"].status.passes for found in report.stages)


def test_an_epsilon_below_the_floor_is_found_by_structure():
    """1.001e-5 against 1e-5 moves nothing that float32 can show."""
    report = resnet("slight_epsilon")
    assert report.verdict == "divergence"
    (message,) = report.levels["structure"].messages
    assert "stage1.block1.bn1: epsilon is 1e-05 in torch, 1.001e-05 in keras" in message
    assert report.levels["numerics"].outcome == "pass"


def test_a_healthy_model_of_ones_own_passes():
    """With all four subjects, a table of five columns, and the weights that the models have."""
    report = small("build", subjects=("keras", "torch", "onnx-keras", "onnx-torch"))
    assert report.verdict == "parity", report
    assert [stage.name for stage in report.stages] == ["entry", "body", "pool", "head"]
    assert report.levels["weights"].outcome == "pass"
    assert report.weights.parameters == 429


# The six cases that widely used checkers let pass: each is flagged, and where it is.
@pytest.mark.parametrize(
    ("name", "stage", "layer", "status"),
    [
        ("reversed_classes", "head", "head", "diverged"),
        ("reversed_channels", "entry", "entry.conv", "diverged"),
        ("height_and_width_swapped", "entry", "entry.conv", "diverged"),
        ("one_nan", "body", "body.relu", "non-finite"),
        ("wrong_vector", "pool", "pool", "diverged"),
        ("all_nan", "head", "head", "non-finite"),
    ],
)
def test_what_other_checkers_let_pass(name, stage, layer, status):
    report = small(name)
    assert report.verdict.exit_code == 1
    assert first_of(report) == ("keras", stage, layer)
    found = statuses(report)
    assert found[stage] == status
    before = list(found)[: list(found).index(stage)]
    assert all(found[name].passes for name in before)
    assert all(result.subjects["torch"].status.passes for result in report.stages)


def test_one_nan_is_told_with_its_place():
    result = small("one_nan", depth="layer").stages
    relu = next(stage for stage in result if stage.name == "body.relu").subjects["keras"]
    assert relu.worst == (0, 2, 3, 5)
    assert "1 of 8192 values" in relu.message


def test_a_single_weight_changed_in_one_framework():
    report = small("one_weight", subjects=("keras", "torch", "onnx-keras", "onnx-torch"))
    assert report.verdict.exit_code == 1
    first = report.first_divergence
    assert (first.stage, first.layer) == ("body", "body.conv")
    assert set(first.subjects) == {"keras", "onnx-keras"}
    (message,) = report.levels["weights"].messages
    assert "body.weight: 1 of 144 values differ, the most at (5, 0, 1, 2)" in message


def test_a_layer_that_the_table_lacks():
    report = small("extra_layer")
    assert report.verdict.exit_code == 1
    assert any("'surprise' (Activation)" in m for m in report.levels["structure"].messages)
    assert first_of(report)[1] == "pool"


@pytest.fixture
def edited(tmp_path):
    """The small table with one line replaced, or taken out."""

    def edit(old, new):
        lines = Path(SMALL_TABLE).read_text().splitlines()
        assert old in lines
        path = tmp_path / "table.csv"
        kept = [new if line == old else line for line in lines]
        path.write_text("\n".join(line for line in kept if line) + "\n")
        return path

    return edit


def test_a_row_that_is_missing(edited):
    """A layer with weights that no row speaks of is named, though the numbers agree."""
    report = small("build", table=edited("body.conv,body,conv,body,body", ""))
    assert report.verdict == "divergence"
    messages = report.levels["structure"].messages
    assert any("'body' (Conv2D)" in message for message in messages)
    assert any("'body' (Conv2d)" in message for message in messages)


def test_a_row_of_another_kind(edited):
    report = small(
        "build",
        table=edited("body.relu,body,relu,body_relu,inner", "a.b,body,tanh,body_relu,inner"),
    )
    assert report.verdict == "divergence"
    assert any(
        "a.b: expected a tanh, found a relu" in message
        for message in report.levels["structure"].messages
    )


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("body.conv,body,conv,body,body", "body.conv,body,conv,bodie,body", "no layer 'bodie'"),
        ("body.conv,body,conv,body,body", "body.conv,body,conv,body,bodie", "no module 'bodie'"),
        ("pool,pool,global_avg_pool,pool,pool", "pool,pool,mean,pool,pool", "unknown kind 'mean'"),
    ],
)
def test_a_row_that_names_nothing(edited, old, new, told):
    with pytest.raises(ParityError, match=told) as caught:
        small("build", table=edited(old, new))
    assert caught.value.exit_code == 2
