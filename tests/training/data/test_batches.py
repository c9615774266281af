"""Batches: the same arrays wherever and whenever they are read, and every image once an epoch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from parity.errors import InputError, UsageError
from parity.training.data.augmentation import Augmentation
from parity.training.data.batches import BatchPlan, BatchReader, Preprocessing
from parity.training.data.images import ArrayImages
from parity.training.data.loading import open_loader

AUGMENTATION = Augmentation(rotation=20, width_shift=0.2, zoom=0.2, horizontal_flip=True)


def images(count=50):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 8, 8), np.uint8)
    return ArrayImages("toy", pixels, tuple(i % 3 for i in range(count)), tuple(range(count)))


def reader(batch=8, *, augmentation=None, channels=1, **plan):
    return BatchReader(
        images(), BatchPlan(50, batch, **plan), Preprocessing((16, 12), channels), augmentation
    )


def test_every_image_is_in_an_epoch_once():
    plan = BatchPlan(50, 8, seed=3)
    batches = [plan.indices(2, step) for step in range(plan.steps)]
    assert [len(batch) for batch in batches] == [8] * 6 + [2]
    assert sorted(np.concatenate(batches)) == list(range(50))


def test_the_order_depends_on_seed_and_epoch():
    orders = {
        tuple(BatchPlan(50, 8, seed=seed).order(epoch)) for seed in (0, 1) for epoch in (1, 2)
    }
    assert len(orders) == 4
    assert list(BatchPlan(50, 8, shuffle=False).order(7)) == list(range(50))


def test_the_last_batch_can_be_left_out_but_never_the_only_one():
    assert BatchPlan(50, 8, drop_last=True).steps == 6
    assert BatchPlan(5, 8, drop_last=True).steps == 1
    assert len(BatchPlan(5, 8, drop_last=True).indices(1, 0)) == 5


def test_a_step_has_a_group_of_batches():
    plan = BatchPlan(50, 8, accumulate=3)
    assert (plan.steps, plan.updates) == (7, 3)
    assert [list(plan.group(update)) for update in range(3)] == [[0, 1, 2], [3, 4, 5], [6]]
    # Without the smaller ones: the last group, and not the last batch alone.
    assert BatchPlan(50, 8, accumulate=4, drop_last=True).steps == 4
    assert BatchPlan(50, 8, accumulate=6, drop_last=True).steps == 6
    assert BatchPlan(50, 8, accumulate=9, drop_last=True).steps == 6
    assert BatchPlan(5, 8, accumulate=9, drop_last=True).steps == 1
    with pytest.raises(UsageError, match="--accumulate: must be a whole number above 0"):
        BatchPlan(50, 8, accumulate=0)


def test_the_images_of_a_step_are_those_of_its_batches():
    group = reader(accumulate=3).read_group(1, 2)
    assert group.micro_batch_sizes == ()
    assert group.sha256 == reader().read(1, 6).sha256
    group = reader(accumulate=4).read_group(1, 1)
    assert group.micro_batch_sizes == (8, 8, 2)
    parts = [reader().read(1, step) for step in (4, 5, 6)]
    np.testing.assert_array_equal(group.images, np.concatenate([part.images for part in parts]))
    np.testing.assert_array_equal(group.labels, np.concatenate([part.labels for part in parts]))


def test_a_batch_has_the_shape_and_scale_of_the_model():
    batch = reader(channels=3, shuffle=False).read(1, 0)
    assert batch.images.shape == (8, 3, 16, 12)
    assert batch.images.dtype == np.float32
    assert 0 <= batch.images.min() < batch.images.max() <= 1
    np.testing.assert_array_equal(batch.images[:, 0], batch.images[:, 2])
    assert batch.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_mean_and_deviation_are_applied_after_the_division():
    plan = BatchPlan(50, 8, shuffle=False)
    plain = BatchReader(images(), plan, Preprocessing((8, 8), 1)).read(1, 0).images
    scaled = BatchReader(images(), plan, Preprocessing((8, 8), 1, (0.5,), (0.25,))).read(1, 0)
    np.testing.assert_allclose(scaled.images, (plain - 0.5) / 0.25, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_writes_what_the_reader_reads(workers, tmp_path):
    source = reader(augmentation=AUGMENTATION)
    expected = [source.read(3, step) for step in range(2, source.plan.steps)]
    with open_loader(tmp_path, workers=workers) as loader:
        hashes = []
        for files, batch in zip(loader.iterate(source, 3, start=2), expected, strict=True):
            np.testing.assert_array_equal(np.load(files.images), batch.images)
            np.testing.assert_array_equal(np.load(files.labels), batch.labels)
            assert files.count == len(batch.labels)
            hashes.append(files.sha256)
    assert hashes == [batch.sha256 for batch in expected]
    assert len(set(hashes)) == len(hashes)
    assert list(tmp_path.iterdir()) == []


def test_a_loader_that_is_left_early_leaves_no_file(tmp_path):
    with open_loader(tmp_path, workers=0) as loader:
        batches = loader.iterate(reader(), 1)
        next(batches)
        batches.close()
    assert list(tmp_path.iterdir()) == []


def test_a_worker_ends_with_its_parent_even_by_kill_9(tmp_path):
    code = f"""
import os, time
from pathlib import Path
from parity.training.data.loading import open_loader
from tests.training.data.test_batches import reader
if __name__ == "__main__":
    with open_loader(Path({str(tmp_path)!r}), workers=1) as loader:
        batches = loader.iterate(reader(), 1)
        next(batches)
        print(*loader._executor._processes, flush=True)
        time.sleep(60)
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    worker = int(process.stdout.readline())
    os.kill(worker, 0)
    process.kill()
    process.communicate()
    for _ in range(200):
        if not is_alive(worker):
            return
        time.sleep(0.05)
    raise AssertionError(f"the worker {worker} is still alive")


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_augmentation_is_drawn_anew_in_each_epoch_and_validation_has_none():
    source = reader(augmentation=AUGMENTATION, shuffle=False)
    assert source.read(1, 0).sha256 == source.read(1, 0).sha256
    assert source.read(1, 0).sha256 != source.read(2, 0).sha256
    assert reader(shuffle=False).read(1, 0).sha256 == reader(shuffle=False).read(2, 0).sha256


def test_another_pixel_label_or_order_gives_another_hash():
    batch = reader(shuffle=False).read(1, 0)
    original = batch.sha256
    batch.images[0, 0, 0, 0] += 1
    changed = batch.sha256
    batch.images[0, 0, 0, 0] -= 1
    batch.labels[0] += 1
    assert len({original, changed, batch.sha256}) == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channels": 2}, "images have 1 or 3 channels, found 2"),
        ({"channels": 1, "mean": (0.5,)}, "give both or neither"),
        ({"channels": 3, "mean": (0.5,), "deviation": (1.0,)}, "expected 3 numbers"),
        ({"channels": 1, "mean": (0.5,), "deviation": (0.0,)}, "must be above 0"),
        ({"channels": 1, "mean": (float("nan"),), "deviation": (1.0,)}, "finite numbers"),
    ],
)
def test_invalid_preprocessing_is_refused(values, message):
    with pytest.raises(UsageError, match=message):
        Preprocessing((8, 8), **values)


def test_an_image_that_vanished_is_named(tmp_path):
    from PIL import Image

    from parity.training.data.images import FileImages

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    source = BatchReader(
        FileImages(tmp_path, ("a.png",), (0,)), BatchPlan(1, 1), Preprocessing((8, 8), 3)
    )
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match=r"a\.png: cannot be read: No such file"):
        source.read(1, 0)
