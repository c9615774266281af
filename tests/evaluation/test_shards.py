"""Shards: the figures of one process bit for bit, whatever happens to a shard's process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parity.commands.evaluated_model import identify_model
from parity.commands.evaluation_runner import ShardSettings
from parity.commands.evaluation_shards import ShardedPasses
from parity.errors import ChildError
from parity.evaluation import judging
from parity.evaluation.models import LoadedModels, ModelRequest, Predictor
from parity.evaluation.passes import Outputs, sample_passes
from parity.evaluation.shards import (
    Shard,
    ShardOutputs,
    find_other_versions,
    merge_models,
    merge_outputs,
    plan_shards,
)
from parity.processes.executors.local import LocalExecutor
from parity.training.data.batches import BatchPlan
from parity.training.data.images import ArrayImages, FileImages, SelectedImages, select_images
from parity.training.data.loading import open_loader
from tests.evaluation import runner_of_tests
from tests.evaluation.test_passes import CLASSES, read_images

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("images", "batch"), [(1, 4), (22, 4), (1000, 16), (50_000, 16), (64, 1)])
@pytest.mark.parametrize("exact", [False, True])
def test_shards_have_every_image_and_every_sampled_pass_once(images, batch, exact):
    plan = BatchPlan(images, batch, shuffle=False)
    sampled = sample_passes(plan.steps, every=exact)
    shards = plan_shards(plan, sampled)
    assert [index for shard in shards for index in shard.indices] == list(range(images))
    passes = [shard.first // batch + step for shard in shards for step in shard.sampled]
    assert passes == sorted(sampled)
    # Each begins with a pass, so that every pass has the images that it has without shards.
    assert all(shard.first % batch == 0 for shard in shards)
    assert all(shard.count % batch == 0 for shard in shards[:-1])
    assert len(shards) >= min(16, plan.steps)


def settings(folder: Path) -> ShardSettings:
    model = identify_model("resnet18", None)
    request = ModelRequest(reference=model.reference)
    return ShardSettings(request, model, str(folder), 4, 0, 60.0)


@pytest.mark.parametrize("exact", [False, True])
def test_the_outputs_are_those_of_one_process_though_one_dies(tmp_path, monkeypatch, exact):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    reader = read_images(count=70)
    sampled = sample_passes(reader.plan.steps, every=exact)
    with open_loader(tmp_path, workers=0) as loader:
        _, passes = runner_of_tests.create_passes(tmp_path, loader)
        expected = passes.run(reader, sampled=sampled)
        result = judging.judge_split("all", expected, reader, passes, CLASSES, runtime="one")
    # One dies in the passes, and one in those of the reference alone.
    (tmp_path / "die-28").touch()
    with LocalExecutor(runner_of_tests.FACTORY, count=2) as executor:
        sharded = ShardedPasses(executor, settings(tmp_path), lambda name, text: None)
        outputs = sharded.run(reader.images, reader.plan, sampled=sampled)
        assert not (tmp_path / "die-28").exists()
        (tmp_path / "die-0").touch()
        found = judging.judge_split("all", outputs, reader, sharded, CLASSES, runtime="one")
    assert (tmp_path / "die-0").exists() == exact
    assert list(outputs.by_subject) == ["one", "two"]
    for name, array in expected.by_subject.items():
        np.testing.assert_array_equal(outputs.by_subject[name], array)
    assert list(outputs.reference) == list(expected.reference)
    for index, row in expected.reference.items():
        np.testing.assert_array_equal(outputs.reference[index], row)
    assert result.changed
    assert found.to_json() == result.to_json()


def test_a_shard_whose_process_always_dies_is_named(tmp_path):
    reader = read_images(count=4)
    with LocalExecutor("no.such.module:Runner", count=1) as executor:
        sharded = ShardedPasses(executor, settings(tmp_path), lambda name, text: None)
        message = (
            r"^the shard of noise: image 0 to noise: image 3: the process that ran it died 2 times "
            r"\(exit code 1\)$"
        )
        with pytest.raises(ChildError, match=message):
            sharded.run(reader.images, reader.plan)


def outputs_of(first: int, count: int, **fields) -> ShardOutputs:
    rows = np.arange(first, first + count, dtype=np.float32)[:, None]
    outputs = Outputs({"one": rows, "two": rows}, {0: rows[0]}, {"one": 1.0})
    for name, value in fields.items():
        setattr(outputs, name, value)
    return ShardOutputs(Shard(first, count), LoadedModels(), outputs)


def test_the_order_in_which_shards_end_does_not_matter():
    merged = merge_outputs([outputs_of(4, 2), outputs_of(0, 4)], 6)
    np.testing.assert_array_equal(merged.by_subject["one"][:, 0], np.arange(6))
    assert list(merged.reference) == [0, 4]
    assert merged.seconds == {"one": 2.0}


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ([(0, 4)], "image 4 is in no shard"),
        ([(2, 4)], "image 0 is in no shard"),
        ([(0, 4), (2, 4)], "image 2 is in two shards"),
        ([(0, 4), (0, 4), (4, 2)], "image 0 is in two shards"),
        ([(0, 4), (4, 4)], "image 6 is in two shards"),
    ],
)
def test_an_image_that_is_lost_or_counted_twice_is_an_error(shards, message):
    with pytest.raises(ChildError, match=f"the shards of 6 images do not fit: {message}"):
        merge_outputs([outputs_of(*each) for each in shards], 6)


def test_a_subject_that_fails_in_one_shard_has_failed():
    other = outputs_of(4, 2, failures={"two": "two: died", "reference": "one: died"})
    del other.outputs.by_subject["two"]
    merged = merge_outputs([outputs_of(0, 4), other], 6)
    assert list(merged.by_subject) == ["one"]
    assert merged.failures == {"two": "two: died", "reference": "one: died"}
    assert merged.reference == {}


def test_models_of_unlike_machines_are_those_that_all_have():
    first = LoadedModels({n: Predictor(n, n) for n in ("one", "two")}, versions={"torch": "2.9"})
    first.reference = Predictor("reference", "one")
    second = LoadedModels({"one": Predictor("one", "one")}, {"two": "no two"})
    second.versions = {"torch": "2.10", "numpy": "2"}
    merged = merge_models([first, second])
    assert (list(merged.predictors), merged.failures) == (["one"], {"two": "no two"})
    assert merged.reference is None
    assert merged.versions == {"torch": "2.9", "numpy": "2"}
    assert find_other_versions([first, second]) == {"torch": ["2.10", "2.9"]}
    assert find_other_versions([first, first]) == {}


def test_a_selection_holds_nothing_else():
    images = FileImages(Path("data"), ("a", "b", "c", "d"), (0, 1, 0, 1))
    assert select_images(images, [1, 3]) == FileImages(Path("data"), ("b", "d"), (1, 1))
    inner = select_images(SelectedImages(images, (3, 2, 0)), [0, 2])
    assert inner == FileImages(Path("data"), ("d", "a"), (1, 0))
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 2, 2)
    array = select_images(ArrayImages("x", pixels, (0, 1, 2, 3), (5, 6, 7, 8)), range(1, 3))
    assert isinstance(array, ArrayImages)
    assert array.pixels.tolist() == pixels[1:3].tolist()
    assert (array.labels, array.positions) == ((1, 2), (6, 7))
    assert array.describe(0) == "x: image 6"
