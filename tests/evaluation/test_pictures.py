"""Pictures of an evaluation, and the font for class names of any language."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import font_manager, get_data_path

from parity.errors import OutputError
from parity.evaluation import fonts, pictures
from parity.evaluation.pictures import SamplePrediction
from parity.evaluation.results import ChangedImage, Label
from parity.evaluation.scores import measure_scores

GREY = np.zeros((8, 8, 1), np.uint8)
COLOURED = np.full((8, 6, 3), 200, np.uint8)


def titles(figure):
    return [(axes.get_title(), axes.title.get_color()) for axes in figure.axes if axes.get_title()]


def test_a_title_is_green_where_the_prediction_is_right_and_red_where_it_is_wrong():
    figure = pictures.draw_predictions(
        [
            SamplePrediction(GREY, "cat", "cat", 0.987),
            SamplePrediction(COLOURED, "cat", "dog", 0.5),
            SamplePrediction(GREY, None, "dog", 1.0),
        ]
    )
    assert titles(figure) == [
        ("true: cat\npredicted: cat\n98.7%", "green"),
        ("true: cat\npredicted: dog\n50.0%", "red"),
        ("predicted: dog\n100.0%", "black"),
    ]


def test_a_changed_image_shows_the_labels_the_margins_and_who_is_right():
    labels = {"keras": Label("cat", 0.6, 0.41), "torch": Label("dog", 0.5, 0.0012)}
    reference = Label("cat", 0.6, 0.4)
    image = ChangedImage(3, "a.png", "dog", labels, reference, ("keras",))
    figure = pictures.draw_changed([image], {3: COLOURED})
    ((title, _),) = titles(figure)
    assert title.splitlines() == [
        "true: dog",
        "float64: cat (0.4)",
        "keras: cat (0.41) ✓",
        "torch: dog (0.0012)",
    ]


def test_the_confusion_matrices_stand_side_by_side():
    outputs = np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]
    scores = {name: measure_scores(outputs, [0, 1, 2, 2]) for name in ("keras", "torch")}
    figure = pictures.draw_confusion(scores, ("cat", "dog", "fox"))
    assert [title for title, _ in titles(figure)] == ["keras: top-1 75.00%", "torch: top-1 75.00%"]
    counts = [text.get_text() for text in figure.axes[0].texts]
    assert counts == ["1", "1", "1", "1"]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_equal_pictures_are_equal_files(tmp_path, suffix):
    sample = [SamplePrediction(GREY, "cat", "cat", 1.0)]
    for name in ("a", "b"):
        pictures.write_figure(pictures.draw_predictions(sample), tmp_path / f"{name}{suffix}")
    content = (tmp_path / f"a{suffix}").read_bytes()
    assert len(content) > 1000
    assert content == (tmp_path / f"b{suffix}").read_bytes()


def test_a_picture_of_another_format_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"p\.bmp: expected a name that ends in one of \.png"):
        pictures.write_figure(pictures.draw_predictions([]), tmp_path / "p.bmp")


# Fonts ------------------------------------------------------------------------------------------


def test_plain_names_have_matplotlibs_own_font():
    assert fonts.find_font(["cat", "Käse ✓"]) == fonts.DEFAULT
    assert fonts.describe_missing_font(["cat"]) is None


def test_a_font_with_the_glyphs_is_found_among_those_installed(monkeypatch):
    folder = f"{get_data_path()}/fonts/ttf"
    entries = [
        font_manager.FontEntry(fname=f"{folder}/STIXGeneral.ttf", name="Other"),
        font_manager.FontEntry(fname=f"{folder}/DejaVuSans.ttf", name="SimHei"),
        font_manager.FontEntry(fname=f"{folder}/absent.ttf", name="Noto Sans CJK SC"),
    ]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", entries)
    # Only the second has Arabic letters; the third cannot be read.
    assert fonts.find_font(["ش"]) == "SimHei"
    assert fonts.find_font(["ش", "a"]) == "SimHei"
    assert fonts.find_font(["猫"]) is None


def test_without_such_a_font_there_is_a_note_and_a_picture(monkeypatch, tmp_path):
    monkeypatch.setattr(fonts, "find_font", lambda texts: None if "猫" in texts else "DejaVu Sans")
    note = fonts.describe_missing_font(["dog", "猫"])
    assert note is not None
    assert note.startswith("no installed font has the characters of '猫'")
    assert "Noto Sans CJK SC" in note
    sample = [SamplePrediction(GREY, "猫", "dog", 1.0)]
    pictures.write_figure(pictures.draw_predictions(sample), tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 1000
