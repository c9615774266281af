"""Judging saved captures: again, with another limit, and from two places."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parity.commands import saved_captures
from parity.commands.cli import main as cli
from parity.commands.diff import diff
from parity.errors import CaptureError, OutputError, UsageError
from parity.numerics import measurement
from parity.numerics.capture import SCHEMA, CaptureReader, CaptureWriter, update_manifest
from parity.processes import helpers
from parity.report.model import Level, Outcome
from tests.captures import POINTS, ROWS, tensors, write


def test_a_folder_with_itself_is_judged_again(tmp_path: Path) -> None:
    folder = write(tmp_path / "one")
    report = diff(folder, folder)
    assert report.verdict == "parity"
    assert list(report.subjects) == ["keras", "torch"]
    assert [stage.name for stage in report.stages] == list(ROWS)
    assert report.levels["structure"].outcome == "pass"
    assert report.levels["semantics"].outcome == "skipped"
    assert (report.depth, report.reference, report.model) == ("layer", "torch", "tiny")


def test_another_limit_gives_another_verdict(tmp_path: Path) -> None:
    folder = write(tmp_path / "one")
    worst = max(r.x_floor for s in diff(folder, folder).stages for r in s.subjects.values())
    assert diff(folder, folder, limit=worst / 2).verdict == "divergence"


def test_a_finer_or_a_coarser_floor_gives_another_verdict(tmp_path: Path) -> None:
    folder = write(tmp_path / "one")
    report = diff(folder, folder, judge_as="float64")
    assert report.verdict == "divergence"
    assert report.notes[-1] == "computed in float32, judged by the floor of float64"
    coarse = diff(folder, folder, judge_as="bfloat16")
    fine = diff(folder, folder, judge_as="float32")
    assert coarse.verdict == fine.verdict == "parity"
    assert fine.notes == diff(folder, folder).notes
    with pytest.raises(UsageError, match=r"--judge-as: expected one of float64, .* found 'int8'"):
        diff(folder, folder, judge_as="int8")
    errors = [r.stages[-1].subjects["keras"].x_floor for r in (fine, coarse)]
    assert errors[0] == pytest.approx(errors[1] * 2**16)


def test_a_broken_subject_is_found_in_the_other_folder(tmp_path: Path) -> None:
    here = write(tmp_path / "here")
    there = write(tmp_path / "there", broken={"torch": "stem.relu"}, seed=5)
    report = diff(here, there)
    assert list(report.subjects) == ["keras@here", "torch@here", "keras@there", "torch@there"]
    (found,) = report.divergences
    assert (found.subject, found.layer) == ("torch@there", "stem.relu")
    assert report.verdict.exit_code == 1
    assert f"those of {here}" in report.notes[0]
    assert diff(there, here).divergences[0].subject == "torch@there"


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    report = diff(write(tmp_path / "a" / "run"), write(tmp_path / "b" / "run", ("keras",), seed=2))
    assert list(report.subjects) == ["keras@A", "torch", "keras@B"]


def test_single_files(tmp_path: Path) -> None:
    """The reference of either side judges the other's; without one nothing is judged."""
    here, there = write(tmp_path / "here"), write(tmp_path / "there", seed=2)
    alone = there / "keras.safetensors"
    for a, b in ((here / "reference.safetensors", alone), (alone, here / "reference.safetensors")):
        report = diff(a, b)
        assert (report.verdict, list(report.subjects)) == ("parity", ["keras"])
    with pytest.raises(CaptureError, match="neither has the reference"):
        diff(alone, here / "keras.safetensors")
    with pytest.raises(CaptureError, match="hold the reference alone and no subject"):
        diff(here / "reference.safetensors", here / "reference.safetensors")


@pytest.mark.parametrize(
    ("key", "other", "told"),
    [
        ("weights_sha256", "c" * 64, f"weights: {'a' * 16} and {'c' * 16}"),
        ("input_sha256", "c" * 64, f"input: {'b' * 16} and {'c' * 16}"),
        ("model", "small", "model: 'tiny' and 'small'"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    tmp_path: Path, key: str, other: str, told: str
) -> None:
    here, there = write(tmp_path / "here"), write(tmp_path / "there", **{key: other})
    with pytest.raises(CaptureError, match=f"different {told}"):
        diff(here, there)


def test_another_depth_is_refused(tmp_path: Path) -> None:
    here, there = write(tmp_path / "here"), write(tmp_path / "there", depth="stage")
    with pytest.raises(CaptureError, match=r"at depth stage.* at depth layer"):
        diff(here, there)


def test_a_level_that_failed_when_captured_still_fails(tmp_path: Path) -> None:
    told = {"structure": Level(Outcome.FAIL, ("stem: epsilon",)), "weights": Level(Outcome.PASS)}
    here, there = write(tmp_path / "here", levels=told), write(tmp_path / "there", seed=2)
    assert diff(here, here).levels["structure"].messages == ("stem: epsilon",)
    for a, b in ((here, there), (there, here)):
        report = diff(a, b)
        assert report.verdict == "divergence"
        assert report.levels["structure"].messages == (f"{here}: stem: epsilon",)
        assert report.levels["weights"].outcome == "pass"


def test_a_plain_graph_that_strays_still_fails(tmp_path: Path) -> None:
    near = {"max_abs": 0.0, "rel_l2": 0.0}
    folder = write(tmp_path / "near", instrumentation_gaps={"keras": near})
    assert diff(folder, folder).verdict == "parity"
    folder = write(
        tmp_path / "far", instrumentation_gaps={"keras": {"max_abs": 1.0, "rel_l2": 1.0}}
    )
    report = diff(folder, folder)
    assert report.levels["numerics"].outcome == "fail"
    message = report.levels["numerics"].messages[0]
    assert (
        "keras: at head, the plain graph differs from the instrumented graph by 1.0e+00" in message
    )


def test_a_row_that_was_not_captured_is_no_pass(tmp_path: Path) -> None:
    folder = write(tmp_path / "one")
    with CaptureReader(folder / "keras.safetensors") as reader:
        manifest = reader.manifest
        rest = {row: reader.read(row) for row in ROWS[:-1]}
    with CaptureWriter(folder / "keras.safetensors", manifest) as writer:
        for row, array in rest.items():
            writer.add(row, array)
    report = diff(folder, folder)
    assert report.verdict == "unknown"
    assert report.stages[-1].subjects["keras"].status == "missing"


def test_an_earlier_comparison_makes_way(tmp_path: Path) -> None:
    folder = write(tmp_path / "one", ("keras", "torch", "onnx-keras"))
    write(tmp_path / "two", ("keras",))
    for path in (tmp_path / "two").iterdir():
        path.rename(path.with_suffix(".part"))
    parts = {path.stem: path for path in (tmp_path / "two").iterdir()}
    report = diff(folder, folder)
    saved_captures.move_captures(
        folder, parts, report, points=POINTS, outputs=[], floors={}, instrumentation_gaps={}
    )
    assert sorted(path.stem for path in folder.iterdir()) == ["keras", "reference"]


def _mine(path: Path) -> Path:
    path.write_bytes(b"weights that I trained for a week")
    return path


def _another_subjects_capture(path: Path) -> Path:
    one = path.with_name("elsewhere")
    shutil.copy(write(one) / "keras.safetensors", path)
    shutil.rmtree(one)
    return path


def _link(path: Path) -> Path:
    _mine(path.with_name("weights.bin"))
    path.symlink_to("weights.bin")
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _identify_files(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return what changes when a file is replaced or written, but not when it is read."""
    states = {each.name: each.lstat() for each in folder.iterdir()}
    return {name: (s.st_ino, s.st_size, s.st_mtime_ns) for name, s in states.items()}


@pytest.mark.parametrize("name", ["torch", saved_captures.REFERENCE])
@pytest.mark.parametrize("foreign", [_mine, _another_subjects_capture, _link, _folder])
def test_a_file_that_is_no_capture_is_not_replaced(
    tmp_path: Path, foreign: Callable[[Path], Path], name: str
) -> None:
    folder = tmp_path / "captures"
    folder.mkdir()
    path = foreign(folder / f"{name}.safetensors")
    before = _identify_files(folder)
    with pytest.raises(
        OutputError, match=rf"{path}: would be replaced, but is not a capture of {name}"
    ) as raised:
        write(folder)
    assert raised.value.exit_code == 2
    assert _identify_files(folder) == before


def test_a_file_that_no_capture_replaces_stays(tmp_path: Path) -> None:
    folder = tmp_path / "captures"
    folder.mkdir()
    mine = [_mine(folder / name) for name in ("onnx-torch.safetensors", "best.safetensors")]
    write(folder)
    write(folder, ("torch",), seed=2)
    assert not (folder / "keras.safetensors").exists()
    assert all(path.read_bytes() == b"weights that I trained for a week" for path in mine)


def test_a_foreign_file_is_told_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parity.processes.children.Child._start", lambda child: None)
    monkeypatch.setattr("parity.processes.children.Child.begin", lambda child, *a, **k: None)
    monkeypatch.setattr("parity.processes.children.Child.close", lambda child: None)
    monkeypatch.setattr("parity.processes.children.Child.kill", lambda child: None)
    _mine(tmp_path / "torch.safetensors")
    for option in (("capture", "--out"), ("compare", "--save-captures")):
        told = _refused(capsys, option[0], "resnet18", option[1], tmp_path)
        assert "torch.safetensors: would be replaced, but is not a capture of torch" in told
    assert [path.name for path in tmp_path.iterdir()] == ["torch.safetensors"]


def _refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line with which the command must end, with exit code 2."""
    assert cli.main(list(map(str, arguments))) == 2
    out, err = capsys.readouterr()
    assert not out
    (line,) = err.splitlines()
    return line


def test_a_truncated_capture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "one")
    path = folder / "keras.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "truncated" in _refused(capsys, "diff", folder, folder)


def test_an_edited_tensor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "one")
    path = folder / "keras.safetensors"
    held = bytearray(path.read_bytes())
    held[-3] ^= 1
    path.write_bytes(held)
    assert "was changed after the capture" in _refused(capsys, "diff", folder, folder)


def test_an_edited_floor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A floor that is ten times larger would let a wrong model pass."""
    folder = write(tmp_path / "one")
    path = folder / "reference.safetensors"
    held = path.read_bytes()
    found = re.search(rb'rel_l2\\": \d\.\d+e-08', held)
    assert found is not None
    path.write_bytes(held.replace(found[0], found[0].replace(b"e-08", b"e-07")))
    assert "its header was changed" in _refused(capsys, "diff", folder, folder)


def test_another_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "one")
    path = folder / "keras.safetensors"
    other = SCHEMA.replace("/3", "/9")
    path.write_bytes(path.read_bytes().replace(SCHEMA.encode(), other.encode()))
    assert f"expected schema {SCHEMA}, found {other}" in _refused(capsys, "diff", folder, folder)


def test_a_foreign_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "one")
    (folder / "weights.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    assert "is not a parity capture" in _refused(capsys, "diff", folder, folder)


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "holds no captures" in _refused(capsys, "diff", tmp_path, tmp_path)


def test_a_capture_that_was_never_moved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a child leaves it, without the facts and floors that `move_captures` adds."""
    folder = write(tmp_path / "one")
    with CaptureReader(folder / "reference.safetensors") as reader:
        manifest = {k: v for k, v in reader.manifest.items() if k != "comparison"}
    with CaptureWriter(folder / "reference.safetensors", manifest) as writer:
        for row, array in tensors().items():
            writer.add(row, array)
    assert "has no 'comparison'" in _refused(capsys, "diff", folder, folder)


def test_a_malformed_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "one")
    update_manifest(folder / "reference.safetensors", {"comparison": {"input": 3}})
    assert "its manifest is malformed" in _refused(capsys, "diff", folder, folder)


@pytest.mark.parametrize("field", ["raised", "rel_l2", "max_abs"])
@pytest.mark.parametrize("value", [-1.0, "x", None])
def test_a_floor_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str, value: object
) -> None:
    """Made with a right checksum: only its figures can give it away."""
    folder = write(tmp_path / "one")
    path = folder / "reference.safetensors"
    with CaptureReader(path) as reader:
        told = json.loads(json.dumps(reader.manifest["comparison"]))
    told["floors"]["head"][field] = value
    update_manifest(path, {"comparison": told})
    line = _refused(capsys, "diff", folder, folder, "--judge-as", "bfloat16")
    assert f"its manifest is malformed: a floor's {field}" in line


def test_a_subject_held_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "one")
    copy = folder / "copy.safetensors"
    copy.write_bytes((folder / "keras.safetensors").read_bytes())
    assert "holds 'keras', like copy.safetensors" in _refused(capsys, "diff", folder, folder)


def test_the_limit_must_be_positive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--limit must be above 0" in _refused(capsys, "diff", tmp_path, tmp_path, "--limit", 0)


def test_reports_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "one", broken={"keras": "head"})
    path = tmp_path / "report.json"
    assert cli.main(["diff", str(folder), str(folder), "--json", str(path)]) == 1
    told = json.loads(path.read_text())
    assert told["first_divergence"]["layer"] == "head"
    assert "divergence" in capsys.readouterr().out


def test_a_manifest_that_outgrows_its_header_moves_the_tensors(tmp_path: Path) -> None:
    folder = write(tmp_path / "one")
    path = folder / "keras.safetensors"
    before = path.stat().st_size
    update_manifest(path, {"note": "x" * 400_000})
    assert path.stat().st_size > before
    assert diff(folder, folder).verdict == "parity"
    assert not [found for found in folder.iterdir() if found.name.startswith(".")]


def test_helpers_measure_what_one_process_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "one", ("keras", "torch", "onnx-keras"), broken={"keras": "head"})
    alone = diff(folder, folder)
    started: list[str] = []

    class Counted(helpers.Child):
        def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
            started.append(operation)
            return super().call(operation, **arguments)

    monkeypatch.setattr(measurement, "HELPER_THRESHOLD", 1)
    monkeypatch.setattr(measurement, "_count_cores", lambda: 3)
    monkeypatch.setattr(helpers, "Child", Counted)
    together = diff(folder, folder)
    assert started.count("open") == 2
    assert together.stages == alone.stages


def test_a_helper_that_meets_an_edited_tensor_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "one")
    path = folder / "keras.safetensors"
    held = bytearray(path.read_bytes())
    held[-3] ^= 1
    path.write_bytes(held)
    monkeypatch.setattr(measurement, "HELPER_THRESHOLD", 1)
    monkeypatch.setattr(measurement, "_count_cores", lambda: 2)
    # All rows are the helper's.
    monkeypatch.setattr(measurement, "measure_row", lambda *_: time.sleep(1))
    assert "was changed after the capture" in _refused(capsys, "diff", folder, folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subject", {}), ("model", 3), ("weights_sha256", 1.5), ("depth", {"a": 1}),
        ("instrumentation_gap", 1.5), ("instrumentation_gap", {"max_abs": "x"}),
        ("facts", {"runtime": []}), ("facts", None), ("facts", [1]),
    ],
)  # fmt: skip
def test_a_manifest_of_other_types_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str, value: object
) -> None:
    """An edit with a digest that fits: not an internal error of parity."""
    folder = write(tmp_path / "one")
    update_manifest(folder / "keras.safetensors", {field: value})
    assert "keras.safetensors" in _refused(capsys, "diff", folder, folder)


@pytest.mark.parametrize("part", ["reference", "depth", "input", "weights", "points", "floors",
                                  "levels", "environment"])  # fmt: skip
@pytest.mark.parametrize("value", [1.5, None, "x", [1], {"a": 1}])
def test_a_comparison_of_other_types_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str, value: object
) -> None:
    folder = write(tmp_path / "one")
    path = folder / "reference.safetensors"
    with CaptureReader(path) as reader:
        comparison = {**reader.manifest["comparison"], part: value}
    update_manifest(path, {"comparison": comparison})
    code = cli.main(["diff", str(folder), str(folder)])
    err = capsys.readouterr().err
    assert "internal error" not in err
    assert code in (0, 2, 3)
