"""The images of an evaluation: which splits, whose classes, what is refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from parity.errors import InputError, UsageError
from parity.training.data.labelled import open_labelled


def draw(root, classes=("cat", "dog", "fox"), count=4):
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.full((6, 6, 3), 40 * number + index, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


def counts(data):
    return {name: len(images.labels) for name, images in data.splits.items()}


def test_a_folder_of_classes_is_evaluated_whole(tmp_path):
    data = open_labelled(draw(tmp_path))
    assert (data.classes, counts(data)) == (("cat", "dog", "fox"), {"all": 12})
    assert counts(open_labelled(tmp_path, split="validation")) == {"validation": 3}
    assert counts(open_labelled(tmp_path, split="training")) == {"training": 9}


def test_validation_and_test_are_evaluated_where_there_are_any(tmp_path):
    draw(tmp_path / "train")
    assert counts(open_labelled(tmp_path)) == {"validation": 3}
    draw(tmp_path / "val", count=2)
    assert counts(open_labelled(tmp_path)) == {"validation": 6}
    draw(tmp_path / "test", ("dog",), count=1)
    data = open_labelled(tmp_path)
    assert counts(data) == {"validation": 6, "test": 1}
    # A test folder may lack classes; its labels are those of the training folder.
    assert data.splits["test"].labels == (1,)
    assert counts(open_labelled(tmp_path, split="all")) == {
        "training": 12, "validation": 6, "test": 1,
    }  # fmt: skip


def test_the_digits_have_a_validation_split():
    assert counts(open_labelled("digits")) == {"validation": 359}
    assert counts(open_labelled("digits", split="all")) == {"training": 1438, "validation": 359}


def test_labels_are_the_places_among_the_models_classes(tmp_path):
    draw(tmp_path, ("cat", "fox"), count=1)
    data = open_labelled(tmp_path, classes=("fox", "owl", "cat"))
    assert data.classes == ("fox", "owl", "cat")
    assert data.splits["all"].labels == (2, 0)
    digits = open_labelled("digits", classes=tuple(reversed("0123456789")))
    own = open_labelled("digits").splits["validation"].labels
    assert digits.splits["validation"].labels == tuple(9 - label for label in own)


def test_a_broken_image_is_left_out_and_named(tmp_path):
    draw(tmp_path)
    (tmp_path / "dog" / "1.png").write_bytes(b"no image")
    data = open_labelled(tmp_path)
    assert counts(data) == {"all": 11}
    (reason,) = data.unreadable
    assert "1.png" in reason


def message(*arguments, **options):
    with pytest.raises((InputError, UsageError)) as error:
        open_labelled(*arguments, **options)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    return str(error.value)


def test_what_cannot_be_evaluated_is_refused(tmp_path):
    assert "no such folder" in message(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "expected a sub-folder for each class, found no folder" in message(tmp_path / "empty")
    one = draw(tmp_path / "one", ("cat",))
    assert "expected at least 2 classes, found only 'cat'" in message(one)
    # It is enough for a model whose classes are known.
    assert counts(open_labelled(one, classes=("cat", "dog"))) == {"all": 4}
    several = draw(tmp_path / "several")
    assert (
        "class 'fox' is none of the model's 2 classes ('cat', 'dog')"
        in message(several, classes=("cat", "dog"))
    )  # fmt: skip
    (several / "owl").mkdir()
    assert "class 'owl' has no images that can be read" in message(several)
    assert "--split test:" in message(draw(tmp_path / "flat"), split="test")
    assert "--split: expected one of training, validation, test, all" in message(one, split="val")
    assert "--split test: digits has training, validation" in message("digits", split="test")
    assert "is none of the model's 2 classes" in message("digits", classes=("0", "1"))
