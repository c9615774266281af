"""Published mistakes that the structure proves, in the reports of the variants that have them."""

from __future__ import annotations

import pytest

import parity as api
from parity.report.codec import to_json

pytestmark = [pytest.mark.framework, pytest.mark.slow]


def compared(name):
    return api.compare(
        f"resnext50_32x4d@{name}",
        classes=10,
        image_size=(64, 64),
        subjects=("keras", "torch"),
        input="random",
    )


def test_a_projection_in_every_block_is_one_cause_and_proved():
    """Twelve sums are wrong; without the surplus projections each of them is at the floor."""
    report = compared("torch-project-every-block")
    (cause,) = report.causes
    assert (cause.cause, cause.subject) == ("projection-in-every-block", "torch")
    assert cause.layer == "layer1.1.downsample.0"
    assert cause.evidence["layers"] == 12
    assert cause.evidence["x_floor_after"] <= 4.0 < cause.evidence["x_floor_before"]
    assert (
        "Without them the errors of 12 isolated layers, from stage1.block1.add on" in cause.message
    )
    assert to_json(report)["causes"][0]["cause"] == "projection-in-every-block"


def test_groups_that_read_the_whole_input_are_a_cause_though_the_model_cannot_be_run():
    report = compared("keras-dense-groups")
    assert "its weights cannot be copied" in report.subjects["keras"].failure
    (cause,) = report.causes
    assert (cause.cause, cause.subject) == ("groups-read-whole-input", "keras")
    assert cause.layer == "stage1.block0.conv2"
    assert cause.evidence == {"layers": 16.0, "groups": 32.0}
    assert "is not a grouped convolution" in cause.message
