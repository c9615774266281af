"""The text of a reduced file: rearrangements as source, arrays once, and its own measurement."""

from __future__ import annotations

import runpy

import numpy as np
import pytest

from parity.commands import piece_file, piece_trial
from parity.commands.piece_file import MARK, format_inverse, format_rearrangements, render_file
from parity.comparison.graphs.pieces import Piece, PieceSide
from parity.comparison.graphs.points import GraphRow
from parity.network.rearrangement import Rearrangement
from parity.processes.graph_requests import PieceCode

REARRANGEMENTS = [
    (),
    (Rearrangement((), (0, 3, 1, 2), ()),),
    (Rearrangement((-1, 2, 3, 4), (0, 3, 1, 2), (-1, 24)),),
    (Rearrangement((), (), (-1, 24)), Rearrangement((-1, 4, 6), (0, 2, 1), ())),
    (Rearrangement((-1, 24), (), (-1, 8, 3)),),
]


@pytest.mark.parametrize("rearrangements", REARRANGEMENTS)
@pytest.mark.parametrize("batch", [2, 1])
def test_the_source_of_rearrangements_does_what_they_do(rearrangements, batch):
    own = np.arange(batch * 24.0).reshape(batch, 2, 3, 4)
    there = own
    for rearrangement in rearrangements:
        there = rearrangement.apply(there)
    assert np.array_equal(eval(f"x{format_rearrangements(rearrangements)}", {"x": own}), there)
    # The text is of two samples, and serves one.
    back = eval(f"x{format_inverse(rearrangements, (2, 2, 3, 4))}", {"x": there})
    assert np.array_equal(back, own)


def make_piece(factor: float, shape: tuple[int, ...] = (3, 4), name: str = "k"):
    """A piece of NumPy code, whose second side multiplies by `factor` more."""

    def side(subject: str, text: str) -> PieceSide:
        code = PieceCode((text,), ("1.0",), (f"multiply of {subject}",), (), 1)
        inputs = {"1.0": ("before", (), shape, "float32")}
        return PieceSide(subject, code, {name: np.float32([2.0, 3.0, 4.0, 5.0])}, inputs, ())

    weight = f"cast(weights[{name!r}], dtype)"
    array = np.random.default_rng(0).normal(size=shape)
    row = GraphRow("here", "", "", "multiply", "1", shape)
    return Piece(
        row,
        side("right", f"result = cast(inputs['1.0'], dtype) * {weight}"),
        side("other", f"result = cast(inputs['1.0'], dtype) * {weight} * np.float32({factor})"),
        {"before": array},
        array,
        array,
    )


def write(tmp_path, piece, head=()):
    path = tmp_path / "bug.py"
    text, packed = render_file(piece, piece.arrays, head, limit=4.0, file=path)
    path.write_text(text)
    if packed is not None:
        path.with_suffix(".npz").write_bytes(packed)
    return path


@pytest.mark.parametrize(("factor", "code"), [(1.5, 1), (1.0, 0), (1.0 + 2.0**-23, 0)])
def test_a_file_measures_its_floor_and_says_whether_they_differ(tmp_path, capsys, factor, code):
    scope = runpy.run_path(str(write(tmp_path, make_piece(factor))))
    assert scope["main"]() == code
    out = capsys.readouterr().out
    assert ("they differ" in out) == bool(code)
    assert 0 < scope["compare"](scope["INPUT"])["floor"] < 1e-5


def test_nan_and_another_shape_are_no_agreement(tmp_path):
    measure = runpy.run_path(str(write(tmp_path, make_piece(1.0))))["measure"]
    one = np.ones((2, 2))
    assert measure(np.float32([[1, 1], [1, np.nan]]), one) == float("inf")
    assert measure(np.ones((2, 1), np.float32), one) == float("inf")
    assert measure(np.float32([[1, 1], [1, np.nan]]), np.array([[1, 1], [1, np.nan]])) == 0
    assert measure(np.float32([[1, 1], [1, np.inf]]), one) == float("inf")


def test_equal_weights_are_stored_once(tmp_path):
    scope = runpy.run_path(str(write(tmp_path, make_piece(1.5))))
    assert sorted(scope["ARRAYS"]) == ["input/before", "reference/k"]


def test_large_arrays_are_in_a_file_beside(tmp_path, monkeypatch):
    monkeypatch.setattr(piece_file, "LARGEST_TEXT", 64)
    path = write(tmp_path, make_piece(1.5))
    assert path.with_suffix(".npz").exists()
    assert "b64decode" not in path.read_text()
    assert runpy.run_path(str(path))["main"]() == 1


def test_names_and_lines_of_the_users_cannot_become_code(tmp_path):
    evil = 'a"]\nraise SystemExit(9)\n#'
    piece = make_piece(1.5, name=evil)
    path = write(tmp_path, piece, head=[f"model: {evil}", "\u2028raise SystemExit(9)"])
    text = path.read_text()
    assert text.startswith(MARK)
    assert not any(line.startswith("raise") for line in text.splitlines())
    assert runpy.run_path(str(path))["main"]() == 1


def test_the_input_becomes_one_sample_and_a_part_of_an_image(tmp_path):
    piece = make_piece(1.5, shape=(3, 2, 32, 4))
    path = write(tmp_path, piece)
    result = tmp_path / "result.npz"
    piece_trial.main(str(path), str(result))
    with np.load(result) as found:
        # Of four columns nothing is cropped, and a weight for each column has no batch.
        assert found["input/before"].shape == (1, 2, 32, 4)
        assert found["errors"][1] > 4 * found["errors"][2]


def test_an_image_is_cropped_while_the_difference_is_there():
    def compare(arrays):
        (image,) = arrays.values()
        exact = image.astype(np.float64)
        subject = np.where(image > 2, image + 1, image)
        error = float(np.abs(subject - exact).max())
        return {"exact": exact, "subject error": error, "reference error": 0.0, "floor": 1e-7}

    image = np.zeros((1, 1, 64, 64), np.float32)
    image[0, 0, 26, 31] = 3
    cropped = piece_trial.crop(compare, 4.0, {"x": image})["x"]
    assert cropped.shape == (1, 1, 16, 16)
    assert cropped.max() == 3
