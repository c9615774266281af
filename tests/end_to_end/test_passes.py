"""A folder of photographs is compared some at a time, and says what one comparison would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import parity as api
from parity import inputs, passes

pytestmark = pytest.mark.framework

SIZE = 32


@pytest.fixture
def four_at_a_time(monkeypatch):
    monkeypatch.setattr(inputs, "PASS", 4)


def folder(path: Path, *, dim: int, noisy: int) -> Path:
    """Photographs of faint noise around ImageNet's mean, and then of strong noise."""
    path.mkdir()
    rng = np.random.default_rng(0)
    for index in range(dim + noisy):
        low, high = (100, 130) if index < dim else (0, 256)
        pixels = rng.integers(low, high, (SIZE, SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(path / f"{index:02}.png")
    return path


def compared(photographs: Path, keras: str = "build", **options):
    return api.compare(
        keras=f"tests.twins.keras_small:{keras}",
        torch="tests.twins.torch_small:build",
        table="tests/twins/small.csv",
        image_size=(SIZE, SIZE),
        input=photographs,
        subjects=("keras", "torch", "onnx-torch"),
        **options,
    )


def test_passes_say_what_one_comparison_says(tmp_path, monkeypatch):
    photographs = folder(tmp_path / "photographs", dim=0, noisy=10)
    at_once = compared(photographs)
    monkeypatch.setattr(inputs, "PASS", 4)
    in_passes = compared(photographs)
    assert at_once.verdict == in_passes.verdict == "parity"
    assert at_once.input == in_passes.input
    assert in_passes.notes[0].startswith("10 items in 3 passes")
    for one, many in zip(at_once.stages, in_passes.stages, strict=True):
        assert one.shape == many.shape == (10, *one.shape[1:])
        for name, result in one.subjects.items():
            # A batch of another size may sum in another order, which is rounding too.
            assert many.subjects[name].max_abs <= 2 * result.max_abs
            assert result.max_abs <= 2 * many.subjects[name].max_abs
    assert in_passes.decision.top1 == dict.fromkeys(("keras", "torch", "onnx-torch"), 1.0)


@pytest.mark.usefixtures("four_at_a_time")
def test_what_differs_in_a_later_pass_only_is_found_there(tmp_path):
    photographs = folder(tmp_path / "photographs", dim=5, noisy=4)
    report = compared(photographs, "capped", semantics=True)
    assert report.verdict == "divergence"
    (layer,) = {found.layer for found in report.divergences}
    assert layer == "body.relu"
    body = next(stage for stage in report.stages if stage.name == "body")
    assert body.subjects["keras"].status == "diverged"
    # Nothing in the first five is capped.
    assert body.subjects["keras"].worst[0] >= 5
    assert body.subjects["torch"].status.passes
    assert "differs in float64 first at body.relu" in report.levels["semantics"].messages[0]
    # The same mistake passes where nothing shows it.
    assert compared(folder(tmp_path / "dim", dim=6, noisy=0), "capped").verdict == "parity"


@pytest.mark.usefixtures("four_at_a_time")
def test_a_pass_near_the_limit_is_judged_by_a_floor_of_its_own(tmp_path, monkeypatch):
    """The first pass has little to round, so that its floor is too low for the others."""
    photographs = folder(tmp_path / "photographs", dim=4, noisy=8)
    asked = []
    reference = passes.Captures.reference

    def counted(self, *given, **options):
        asked.append(options.get("replicates"))
        return reference(self, *given, **options)

    monkeypatch.setattr(passes.Captures, "reference", counted)
    assert compared(photographs).verdict == "parity"
    screened, own = asked.count(0), asked.count(None) - 1
    assert screened == 2
    monkeypatch.setattr(passes, "SCREEN", 0.0)
    asked.clear()
    assert compared(photographs).verdict == "parity"
    assert asked.count(None) - 1 == 2 >= own
