"""The report of a training run: JSON by its schema, a page, the words about the band."""

from __future__ import annotations

import dataclasses
import json

import jsonschema
import pytest

from parity.report import training
from parity.training import history
from parity.training.callbacks import EpochMetrics
from parity.training.result import FrameworkResult, TrainingResult
from parity.training.steps import PartError, StepCause, StepComparison
from parity.training.verification import VerifiedStep
from parity.training.wording import describe_band


def epochs(*losses):
    return tuple(EpochMetrics(n, 1e-3, x, 1 - x, x, 1 - x) for n, x in enumerate(losses, start=1))


@pytest.fixture
def result(tmp_path):
    parts = [PartError(kind, "fc.bias", 1e-14) for kind in ("samples", "loss", "gradient")]
    good = StepComparison(1, (*parts, PartError("update", "fc.bias", 1e-14)))
    wrong = StepComparison(2, (*parts, PartError("update", "fc.bias", float("nan"))))
    cause = StepCause("epsilon", "ε is <1e-8>", "set ε", float("inf"), 1e-14)
    frameworks = tuple(
        FrameworkResult(name, epochs(0.5, 0.25), 2, 0.75, 0, tmp_path, tmp_path, 2.0, 64)
        for name in ("keras", "torch")
    )
    return TrainingResult(
        "resnet18", tmp_path, ("a", "b"), frameworks, ("a note",),
        verified_steps=(VerifiedStep(1, good, None), VerifiedStep(2, wrong, wrong, (cause,))),
        band={"loss": [(0.4, 0.6), (0.3, 0.4)]}, inside_band={"keras": (1, 2)},
    )  # fmt: skip


def test_the_schema_file_is_that_of_the_data_classes():
    assert json.loads(training.SCHEMA_FILE.read_text()) == training.build_schema()


def test_a_report_is_valid_and_has_no_infinity(result, tmp_path):
    path = tmp_path / "report.json"
    training.write_json(path, result)
    data = json.loads(path.read_text(), parse_constant=pytest.fail)
    jsonschema.validate(data, training.build_schema())
    assert data["verdict"] == "divergence"
    assert data["steps"][1]["semantics"]["errors"][-1]["rel_l2"] is None
    assert data["steps"][1]["causes"][0]["name"] == "epsilon"
    assert data["summary"][0].startswith("divergence: step 2")
    without = dataclasses.replace(result, verified_steps=())
    assert training.to_json(without)["verdict"] == "not compared"
    del data["steps"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, training.build_schema())


def test_the_page_has_verdict_steps_curves_and_escapes_text(result):
    history.write_picture(
        result.folder / "history.svg", "resnet18",
        {each.framework: each.epochs for each in result.frameworks}, result.band,
    )  # fmt: skip
    page = training.render_html(result)
    assert "<h1>resnet18: training, divergence</h1>" in page
    assert "ε is &lt;1e-8&gt;" in page
    assert "data:image/svg+xml;base64," in page
    assert "1 of 2 points of keras" in page
    assert "http" not in page.replace("http-equiv", "")
    # The cause's page of the documentation, in short.
    assert '<h3 id="cause-epsilon">epsilon</h3>' in page
    assert "docs/causes/training-epsilon.md" in page


def test_the_band_is_the_range_of_the_replicates():
    band = history.measure_band([epochs(0.5, 0.2), epochs(0.4, 0.3, 0.1)])
    assert band["loss"] == [(0.4, 0.5), (0.2, 0.3)]
    assert history.count_inside(band, epochs(0.45, 0.35)) == (4, 8)
    (sentence,) = describe_band({"keras": (4, 8)})
    assert sentence.startswith("4 of 8 points of keras's curves (50%) are inside the band")


def test_the_picture_shows_the_band(tmp_path):
    drawn = history.draw("m", {"torch": epochs(0.5, 0.2)}, {"loss": [(0.1, 0.6), (0.1, 0.3)]})
    labels = [text.get_text() for text in drawn.axes[1].get_legend().get_texts()]
    assert "band, training" in labels
    assert "band, training" not in [t.get_text() for t in drawn.axes[0].get_legend().get_texts()]


def test_the_band_starts_with_the_first_epoch_of_the_run():
    """That of a run with `--initial-epoch 20` is the 21st."""
    late = tuple(dataclasses.replace(epoch, epoch=epoch.epoch + 20) for epoch in epochs(0.5, 0.2))
    drawn = history.draw("m", {"torch": late}, {"loss": [(0.1, 0.6), (0.1, 0.3)]})
    (band,) = drawn.axes[1].collections
    assert (band.get_datalim(drawn.axes[1].transData).x0) == 21
