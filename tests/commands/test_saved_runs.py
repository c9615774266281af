"""Saved runs of Polygraphy, written from captures and judged beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parity.commands import saved_runs
from parity.commands.capture import Captures, save_outputs
from parity.commands.cli import main as cli
from parity.commands.diff import diff
from parity.errors import CaptureError, InputError
from parity.numerics.capture import CaptureReader
from parity.numerics.run_results import Array, read_run_results, write_run_results
from tests.captures import ROWS, write

OUTPUT = ROWS[-1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "here")


def read_output(folder: Path, subject: str = "torch") -> Array:
    with CaptureReader(folder / f"{subject}.safetensors") as reader:
        return reader.read(OUTPUT)


def test_the_outputs_of_captures_are_written(folder: Path, tmp_path: Path) -> None:
    files = {path.name.removesuffix(".safetensors"): path for path in folder.iterdir()}
    path = tmp_path / "run.json"
    save_outputs(Captures(folder, files, {}), path)
    runs = read_run_results(path)
    assert {name: list(outputs) for name, outputs in runs.items()} == {
        "keras": [OUTPUT],
        "torch": [OUTPUT],
    }
    np.testing.assert_array_equal(runs["torch"][OUTPUT], read_output(folder))


def test_nothing_is_written_without_a_path_and_without_captures(
    folder: Path, tmp_path: Path
) -> None:
    save_outputs(Captures(folder, {}, {}), tmp_path / "run.json")
    save_outputs(Captures(folder, {}, {}), None)
    assert list(tmp_path.glob("*.json")) == []


def test_a_saved_run_is_judged_by_the_floor_of_captures(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    # The only output of each is the same, whatever it is called.
    write_run_results(path, {"trt|fp32": {"logits": read_output(folder)}})
    for sides in ((folder, path), (path, folder)):
        report = diff(*sides)
        assert report.verdict == "parity"
        assert set(report.subjects) == {"keras", "torch", "trt_fp32"}
        assert [stage.row for stage in report.stages] == [OUTPUT]
        assert any("taken to be those of the captures" in note for note in report.notes)


@pytest.mark.parametrize("change", [1e-2, np.nan])
def test_a_saved_run_that_differs_fails(folder: Path, tmp_path: Path, change: float) -> None:
    path = tmp_path / "run.json"
    values = read_output(folder)
    values[0, 1] += change
    write_run_results(path, {"trt": {OUTPUT: values}})
    report = diff(folder, path)
    assert report.verdict == "divergence"
    assert [each.subjects for each in report.divergences] == [("trt",)]
    assert cli.main(["diff", str(folder), str(path)]) == 1


def test_another_shape_fails(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_run_results(path, {"trt": {OUTPUT: read_output(folder)[:1]}})
    assert diff(folder, path).verdict == "divergence"


def test_integers_are_compared_by_value(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_run_results(path, {"trt": {OUTPUT: np.zeros((2, 7), np.int64)}})
    assert diff(folder, path).verdict == "divergence"


def test_outputs_of_other_names_are_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    output = read_output(folder)
    write_run_results(path, {"trt": {"y": output, "z": output}})
    with pytest.raises(InputError, match=r"trt: expected the outputs 'head', found 'y', 'z'"):
        diff(folder, path)


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("reference", np.float32, "cannot be the name of a runner here"),
        ("trt", np.complex64, "expected float16, float32 or float64, found complex64"),
    ],
)
def test_what_no_capture_holds_is_refused(
    folder: Path, tmp_path: Path, name: str, dtype: type, message: str
) -> None:
    path = tmp_path / "run.json"
    write_run_results(path, {name: {OUTPUT: np.zeros((2, 7), dtype)}})
    with pytest.raises(InputError, match=message):
        diff(folder, path)


def test_two_saved_runs_have_no_floor(folder: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path in paths:
        write_run_results(path, {"trt": {OUTPUT: read_output(folder)}})
    with pytest.raises(CaptureError, match="has no reference to be judged by"):
        diff(*paths)


def test_a_damaged_file_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.json"
    path.write_text("{")
    assert saved_runs.is_saved_run(path)
    assert cli.main(["diff", str(folder), str(path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
