"""Passes: every batch is loaded once, nobody waits for another, the reference runs on a sample."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from parity.errors import ChildError, InputError
from parity.evaluation import judging, passes
from parity.evaluation.models import LoadedModels, Predictor
from parity.evaluation.passes import Outputs, Passes, sample_passes
from parity.training.data.batches import BatchPlan, BatchReader, Preprocessing
from parity.training.data.images import ArrayImages
from parity.training.data.loading import open_loader
from tests.evaluation.fake_children import FakeChildren, compute

CLASSES = ("a", "b", "c", "d")


def read_images(count=22, batch=4):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 6, 6), np.uint8)
    images = ArrayImages("noise", pixels, tuple(i % 4 for i in range(count)), tuple(range(count)))
    plan = BatchPlan(count, batch, shuffle=False)
    return BatchReader(images, plan, Preprocessing((6, 6), 1))


@pytest.fixture
def run(tmp_path):
    """A function that runs passes with faults; it returns the outputs and the rest."""

    def run(faults=None, *, exact=False, reference=True, reader=None, names=("one", "two")):
        reader = reader or read_images()
        children = FakeChildren(faults)
        models = LoadedModels({name: Predictor(name, name) for name in names})
        if reference:
            models.reference = Predictor("reference", "one", {"precision": "float64"})
        with open_loader(tmp_path, workers=0) as loader:
            driver = Passes(models, children, loader, tmp_path, lambda name, text: None)
            sampled = sample_passes(reader.plan.steps, every=exact)
            outputs = driver.run(reader, sampled=sampled)
            result = judging.judge_split(
                "all", outputs, reader, driver, CLASSES, runtime="one" if reference else None
            )
        return outputs, result, children

    return run


def test_every_image_goes_once_through_every_subject(run, tmp_path):
    outputs, result, children = run()
    expected = compute(np.concatenate([read_images().read(1, step).images for step in range(6)]))
    for name in ("one", "two"):
        np.testing.assert_allclose(outputs.by_subject[name], expected, rtol=1e-5, atol=1e-5)
        assert children.calls[name, "float32"] == 22
    assert list(tmp_path.glob("*.npy")) == []
    assert result.images == 22
    assert result.changed == ()


def test_the_reference_runs_on_a_sample_and_on_all_if_asked(run):
    _, result, children = run()
    assert children.calls["one", "float64"] == 4
    assert (result.reference.passes, result.reference.all_passes) == (1, 6)
    assert result.reference.images == 4
    _, result, children = run(exact=True)
    assert children.calls["one", "float64"] == 22
    assert (result.reference.passes, result.reference.images) == (6, 22)
    _, result, _ = run(reference=False)
    assert result.reference is None


@pytest.mark.parametrize(("steps", "count"), [(1, 1), (15, 1), (16, 1), (33, 2), (400, 25)])
def test_the_sample_is_spread_over_all_passes(steps, count):
    chosen = sorted(sample_passes(steps, every=False))
    assert len(chosen) == count
    assert all(0 <= step < steps for step in chosen)
    if count > 1:
        assert max(np.diff(chosen)) <= steps // count + 1
        assert chosen[0] < steps / count
    assert sample_passes(steps, every=True) == frozenset(range(steps))


def test_a_changed_label_has_margins_and_the_runtime_that_is_right(run):
    def swap(data, outputs):
        # The last of the images, which no sampled pass has.
        changed = outputs.copy()
        if len(data) == 2:
            changed[1] = -changed[1]
        return changed

    outputs, result, children = run({"two": swap})
    (image,) = result.changed
    assert (image.index, image.name, image.true) == (21, "noise: image 21", CLASSES[21 % 4])
    assert image.labels["one"].name != image.labels["two"].name
    assert image.right == ("one",)
    assert image.reference.name == image.labels["one"].name
    two = np.sort(outputs.by_subject["two"][21])
    assert image.labels["two"].margin == pytest.approx(two[-1] - two[-2], rel=1e-5)
    # The reference ran on its sample and on this image.
    assert children.calls["one", "float64"] == 5
    # Without a reference nobody is right.
    _, result, _ = run({"two": swap}, reference=False)
    assert result.changed[0].right == ()
    assert result.changed[0].reference is None


def test_both_runtimes_can_be_wrong(run):
    def constant(label):
        def fault(data, outputs):
            return np.tile(np.eye(4, dtype=np.float32)[label], (len(data), 1))

        return fault

    _, result, _ = run({"one": constant(0), "two": constant(1)})
    assert len(result.changed) == 22
    wrong = [image for image in result.changed if image.reference.name in ("c", "d")]
    assert wrong
    assert all(image.right == () for image in wrong)


def test_a_subject_that_fails_keeps_no_other_waiting(run, monkeypatch):
    # Two batches may be on disk: without its release the others would wait for ever.
    monkeypatch.setattr(passes, "MOST_FILES", 2)

    def die(data, outputs):
        raise ChildError("two: the process died during 'predict'")

    outputs, result, _ = run({"two": die}, names=("one", "two", "three"))
    assert outputs.failures == {"two": "two: the process died during 'predict'"}
    assert sorted(outputs.by_subject) == ["one", "three"]
    assert sorted(result.scores) == ["one", "three"]


def test_a_fast_subject_waits_only_for_the_limit_on_files(run, monkeypatch):
    monkeypatch.setattr(passes, "MOST_FILES", 3)
    gate, seen = threading.Event(), []

    def count(data, outputs):
        seen.append(len(data))
        if len(seen) == 3:
            gate.set()
        return outputs

    def block(data, outputs):
        # The other subject runs ahead while this one computes its first batch.
        assert gate.wait(10)
        return outputs

    outputs, _, _ = run({"one": block, "two": count}, reference=False)
    assert seen == [4, 4, 4, 4, 4, 2]
    assert len(outputs.by_subject) == 2


def test_outputs_that_are_not_finite_are_a_failure():
    reader = read_images()
    bad = np.zeros((22, 4), np.float32)
    bad[3, 1] = np.nan
    outputs = Outputs({"one": np.zeros((22, 4), np.float32), "two": bad})
    judging.drop_non_finite(outputs, reader)
    assert list(outputs.by_subject) == ["one"]
    assert outputs.failures == {"two": "two: the outputs of noise: image 3 are not finite"}


def test_a_model_of_other_classes_is_refused():
    outputs = Outputs({"one": np.zeros((22, 4), np.float32)})
    judging.require_classes(outputs, CLASSES, "data")
    with pytest.raises(InputError, match="one: the model has 4 classes, data has 3"):
        judging.require_classes(outputs, CLASSES[:3], "data")


def test_an_image_that_vanishes_ends_the_evaluation(run, tmp_path):
    from parity.training.data.images import FileImages

    images = FileImages(Path(tmp_path), ("gone.png",), (0,))
    reader = BatchReader(images, BatchPlan(1, 4, shuffle=False), Preprocessing((6, 6), 1))
    with pytest.raises(InputError, match=r"gone\.png: cannot be read"):
        run(reader=reader)
