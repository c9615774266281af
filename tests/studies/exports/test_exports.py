"""A few models of the study in every run of the tests, and faults that the proof must refuse."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.framework

pytest.importorskip("torch")

from tests.studies.exports import broken
from tests.studies.exports.__main__ import (
    OURS,
    PASS,
    REFUSED,
    WRONG,
    chosen,
    list_fallbacks,
    report,
    run_case,
)
from tests.studies.exports.case import Case, difference
from tests.studies.exports.tables import group_fallbacks
from tests.studies.exports.torch_models import CASES

# One of each kind in every run; the others in the slow one, and all in the study itself.
RIGHT = (
    "avg-pool-divisor", "logsigmoid()", "view-then-change", "split-unequal", "input-is-output",
    "len-of-batch", "sdpa-mask-masked-rows", "lstm-proj", "clashing-names", "dataclass-out",
    "dynamic-lstm", "half-encoder-layer",
)  # fmt: skip

RIGHT_TOO = (
    "adaptive-avg-1-of-3d", "embedding-bag", "residual-inplace", "floor-divide-float", "rfft2-abs",
    "mha-cross", "decoder-layer", "lstm-h0", "seq2seq", "buffer-item", "grid-sample-on-parameter",
    "batch-on-axis-1", "half-cnn",
)  # fmt: skip


@pytest.mark.parametrize(
    "name", [*RIGHT, *(pytest.param(name, marks=pytest.mark.slow) for name in RIGHT_TOO)]
)
def test_a_model_of_the_study_is_exported_right(name):
    (case,) = [case for case in CASES if case.name == name]
    found = run_case(case, [OURS])["results"][OURS]
    assert found["verdict"] == PASS, found["detail"]


@pytest.mark.parametrize("name", ["dropout-in-training", "vae", "branch-on-batch"])
def test_a_model_that_no_file_is_right_for_is_refused(name):
    (case,) = [case for case in CASES if case.name == name]
    found = run_case(case, [OURS])["results"][OURS]
    assert found["verdict"] == REFUSED
    assert found["detail"].startswith("ExportError: ")


def test_a_wrong_file_counts_as_wrong(monkeypatch):
    (case,) = [case for case in CASES if case.name == "linear"]
    model = case.build()
    run = model.run
    monkeypatch.setattr(model, "run", lambda inputs: [array * 1.01 for array in run(inputs)])
    wrong = Case(case.name, case.kind, lambda: model)
    assert run_case(wrong, [OURS])["results"][OURS]["verdict"] == WRONG


@pytest.mark.parametrize(
    "name", ["round", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cnn", "clamp"))]
)
def test_a_graph_that_is_broken_in_one_node_is_refused(name):
    (case,) = [case for case in CASES if case.name == name]
    counts = broken.run_model(case, most=6)
    assert counts["passed"] == 0
    assert counts["refused"] > 0


def test_the_study_has_models_of_every_kind():
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
    small = [case for case in CASES if case.kind not in ("torchvision", "timm", "transformers")]
    assert len(small) >= 150
    assert chosen(CASES, ["random"])


def test_a_report_counts_verdicts(capsys):
    found = {"verdict": PASS, "seconds": 1, "detail": ""}
    report([{"case": "a", "kind": "k", "results": {"ours": found}}], "torch")
    assert "ours: 1 right, 0 refused, 0 wrong" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "why"), [("movedim", ["aten.movedim.int"]), ("linear", [])])
def test_a_model_that_torch_onnx_decomposes_is_listed_with_the_reason(name, why):
    (case,) = [case for case in CASES if case.name == name]
    row = run_case(case, [OURS])
    assert row["results"][OURS]["fallback"] == why
    row["results"][OURS]["seconds"] = 3.0
    row["results"]["torch.onnx"] = {"verdict": PASS, "seconds": 2.0, "detail": ""}
    assert list_fallbacks([row], "torch.onnx") == [(name, 1.5, each) for each in why]
    lines = group_fallbacks([row])[2:]
    assert lines == ["| movedim.int | `movedim` 1.50 |"] * bool(why)


def test_other_shapes_and_lost_infinities_are_infinitely_far():
    one = np.ones(3, np.float32)
    assert difference(one[:2], one) == np.inf
    assert difference(np.array([1.0, 2.0]), np.array([1.0, np.inf])) == np.inf
    assert difference(one * 1.5, one) == 0.5


def test_results_are_continued(tmp_path):
    out = tmp_path / "results.json"
    kept = {"ours": {"verdict": PASS, "seconds": 1.0, "detail": "kept"}}
    done = {"torch": [{"case": "linear", "kind": "layer", "results": kept}]}
    out.write_text(json.dumps(done))
    command = [
        sys.executable,
        "-m",
        "tests.studies.exports",
        "--only",
        "torch",
        "--exporters",
        "ours",
    ]
    subprocess.run([*command, "--names", "linear", "--out", str(out)], check=False)
    assert json.loads(out.read_text()) == done
