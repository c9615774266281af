"""A fault that no cause covers is said to be not explained, never guessed at."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.framework

OWN = ("torch=tests.twins.torch_small:build", "--table", "tests/twins/small.csv")
OPTIONS = (*OWN, "--image-size", "32", "--input", "random")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One comparison: its exit code, its text and its JSON."""
    from tests.end_to_end import harness

    folder = tmp_path_factory.mktemp("unexplained")
    path = folder / "report.json"
    ended = harness.parity(
        folder / "scratch", "compare", "keras=tests.twins.keras_small:rippled", *OPTIONS,
        "--json", path, env={"COLUMNS": "400"},
    )  # fmt: skip
    return ended, json.loads(path.read_text())


def test_in_the_text(done):
    ended, _ = done
    assert ended.code == 1
    lines = [line.strip() for line in ended.out.splitlines()]
    told = [line for line in lines if "not explained" in line]
    # The graph computes what its model does, which is one thing that is not explained.
    assert len(told) == 1
    assert told[0].startswith(
        "why: body.relu, keras: not explained: the relu of Keras, and of onnx-keras, differs ("
    )
    # The fingerprint, and what came closest: to go on from.
    assert "relative size" in told[0]
    assert "closest causes, which do not explain it: " in told[0]
    assert "remedy" not in ended.out.lower()


def test_in_the_json(done):
    _, report = done
    assert report["verdict"] == "divergence"
    assert report["first_divergence"]["layer"] == "body.relu"
    (first,) = report["causes"]
    assert (first["layer"], first["subject"]) == ("body.relu", "keras")
    assert first["cause"] == "not-explained"
    # Nothing was proved: there is an error before, and none after.
    assert set(first["evidence"]) == {"x_floor_before"}
    assert first["evidence"]["x_floor_before"] > 1e3
    assert first["message"].startswith("not explained: the relu of Keras, and")
    assert "changes between runs" not in first["message"]


def causes_of(folder, model, subjects="keras,torch"):
    from tests.end_to_end import harness

    path = folder / "report.json"
    harness.parity(
        folder / "scratch", "compare", f"keras=tests.twins.keras_small:{model}", *OPTIONS,
        "--subjects", subjects, "--json", path,
    )  # fmt: skip
    return json.loads(path.read_text())["causes"]


def test_what_changes_between_runs_is_told(tmp_path):
    """A dropout that is on in front of a mean leaves no zeros to know it by."""
    (cause,) = causes_of(tmp_path, "noisy")
    assert (cause["layer"], cause["cause"]) == ("pool", "not-explained")
    assert "its output changes between runs" in cause["message"]


def test_what_is_wired_otherwise(tmp_path):
    """None of it is in the catalogue of causes, and still no matter of which tensor is kept."""
    # A subject that is told where to run is explained like any.
    *wires, add = causes_of(tmp_path, "rewired", "keras@cpu,torch@cpu")
    expected = [
        ("entry.norm", "entry.relu", "entry.conv"),
        ("entry.relu", "entry.conv", "entry.norm"),
        ("body.conv", "entry.norm", "entry.relu"),
    ]
    for cause, (layer, reads, instead) in zip(wires, expected, strict=True):
        assert (cause["layer"], cause["cause"]) == (layer, "reads-another-tensor")
        told = f"It reads the tensor of {reads}, where the reference reads that of {instead}"
        assert told in cause["message"]
    assert (add["layer"], add["cause"]) == ("body.add", "branch-missing")
