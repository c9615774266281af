"""A folder of photographs is compared some at a time, and says what one comparison would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import parity as api
from parity.comparison import passes
from parity.comparison.runner import Runner
from parity.errors import ChildError
from parity.network.inputs import _passes
from parity.numerics import floor

pytestmark = [pytest.mark.framework, pytest.mark.slow]

SIZE = 32


@pytest.fixture
def four_at_a_time(monkeypatch):
    monkeypatch.setattr(_passes, "MAX_ITEMS", 4)


def folder(path: Path, *, dim: int, noisy: int, loud_first: bool = False) -> Path:
    """Photographs of faint noise around ImageNet's mean, and then of strong noise."""
    path.mkdir()
    rng = np.random.default_rng(0)
    for index in range(dim + noisy):
        low, high = (100, 130) if index < dim else (0, 256)
        pixels = rng.integers(low, high, (SIZE, SIZE, 3), np.uint8)
        place = -index if loud_first else index
        Image.fromarray(pixels).save(path / f"{place + 50:02}.png")
    return path


def compared(photographs: Path, keras: str = "build", **options):
    return api.compare(
        f"keras=tests.twins.keras_small:{keras}",
        "torch=tests.twins.torch_small:build",
        table="tests/twins/small.csv",
        image_size=(SIZE, SIZE),
        input=photographs,
        subjects=("keras", "torch", "onnx-torch"),
        **options,
    )


@pytest.fixture
def measured(monkeypatch):
    """How many float32 runs each floor was measured on, and whether its float64 run was given."""
    seen = []
    reference = Runner.run_reference

    def spied(self, rows, label, **options):
        seen.append(
            (options.get("replicates", floor.REPLICATES), options.get("reuse_capture", False))
        )
        return reference(self, rows, label, **options)

    monkeypatch.setattr(Runner, "run_reference", spied)
    return seen


@pytest.mark.slow
def test_few_runs_of_a_later_pass_are_enough_unless_it_differs(tmp_path, four_at_a_time, measured):
    compared(folder(tmp_path / "same", dim=0, noisy=10), explain=False)
    assert measured == [
        (floor.REPLICATES, False),
        (passes.LATER_REPLICATES, False),
        (passes.LATER_REPLICATES, False),
    ]
    measured.clear()
    report = compared(folder(tmp_path / "loud", dim=6, noisy=2), "capped", explain=False)
    assert report.verdict == "divergence"
    again = (floor.REPLICATES, True)
    assert measured[:3] == [(floor.REPLICATES, False), (passes.LATER_REPLICATES, False), again]


def test_passes_say_what_one_comparison_says(tmp_path, monkeypatch):
    photographs = folder(tmp_path / "photographs", dim=0, noisy=10)
    at_once = compared(photographs)
    monkeypatch.setattr(_passes, "MAX_ITEMS", 4)
    in_passes = compared(photographs)
    assert at_once.verdict == in_passes.verdict == "parity"
    assert at_once.input == in_passes.input
    assert in_passes.notes[0].startswith("10 items were compared in 3 passes")
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
def test_every_pass_has_a_floor_of_its_own(tmp_path):
    """One value is off by what is rounding in the loud photographs, and not in the faint ones."""
    loud = compared(folder(tmp_path / "loud", dim=0, noisy=4), "nudged", explain=False)
    assert loud.verdict == "parity"
    photographs = folder(tmp_path / "photographs", dim=4, noisy=4, loud_first=True)
    report = compared(photographs, "nudged", explain=False)
    assert report.verdict == "divergence"
    body = next(stage for stage in report.stages if stage.name == "body")
    assert body.subjects["keras"].x_floor_max > 4 >= body.subjects["torch"].x_floor_max


@pytest.mark.usefixtures("four_at_a_time")
def test_a_subject_that_fails_in_a_later_pass_leaves_the_others(tmp_path, monkeypatch):
    photographs = folder(tmp_path / "photographs", dim=0, noisy=8)
    run_subject = Runner.run_subject

    def failing(self, name, rows, label, **options):
        if name == "onnx-torch" and label.startswith("pass"):
            raise ChildError("onnx: the batch is not 4")
        return run_subject(self, name, rows, label, **options)

    monkeypatch.setattr(Runner, "run_subject", failing)
    report = compared(photographs)
    assert report.verdict == "unknown"
    assert report.subjects["onnx-torch"].failure == "onnx: the batch is not 4"
    assert all(set(stage.subjects) == {"keras", "torch"} for stage in report.stages)
    assert all(r.status.passes for stage in report.stages for r in stage.subjects.values())


@pytest.mark.parametrize("grey", [40, 120, 200])
def test_an_image_of_one_colour_is_no_divergence(tmp_path, grey):
    """TensorFlow adds the pool's 1024 equal values in another order than PyTorch."""
    path = tmp_path / "grey.png"
    Image.fromarray(np.full((SIZE, SIZE, 3), grey, np.uint8)).save(path)
    report = compared(path)
    assert report.verdict == "parity"
    # The floor is not what was measured alone, and the report says so.
    pool = next(stage for stage in report.stages if stage.name == "pool")
    assert pool.floor.raised > 1.0


def test_the_verdict_stands_when_looking_further_fails(tmp_path, monkeypatch):
    """A subject that cannot be fed the reference's tensors is judged all the same."""
    run_subject = Runner.run_subject

    def failing(self, name, rows, label, **options):
        if options.get("feed") is not None:
            raise ChildError("keras: cannot be fed")
        return run_subject(self, name, rows, label, **options)

    monkeypatch.setattr(Runner, "run_subject", failing)
    photographs = folder(tmp_path / "loud", dim=0, noisy=2)
    report = compared(photographs, "capped", isolate=True)
    assert report.verdict == "divergence"
    assert report.first_divergence.stage == "body"
    assert "the differences were not examined further: keras: cannot be fed" in report.notes
