"""Models that nobody registered, named on the command line: scripts, Keras files, ONNX files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end import harness

pytestmark = pytest.mark.framework

OWN = Path(__file__).parents[1] / "studies" / "pairs" / "own"
NETWORKS = OWN / "seeded_networks.py"

_MAKE_FILES = """
import sys
from pathlib import Path
sys.path.insert(0, {own!r})
import torch, exporters
from seeded_networks import seeded
folder = Path({folder!r})
model = seeded("flattened").eval()
exporters.export(model, folder / "one.onnx", example=(torch.zeros(1, 3, 32, 32),))
torch.onnx.export(model, (torch.zeros(1, 3, 32, 32),), str(folder / "two.onnx"), dynamo=True,
                  verbose=False, input_names=["pixels"])
with torch.no_grad():
    model.conv2.bias[3] += 0.01
exporters.export(model, folder / "changed.onnx", example=(torch.zeros(1, 3, 32, 32),))
from onnxruntime.quantization import quantize_dynamic
quantize_dynamic(str(folder / "one.onnx"), str(folder / "quantised.onnx"))
"""

_MAKE_KERAS = """
import sys
sys.path.insert(0, {own!r})
import keras, keras_networks
keras.utils.set_random_seed(0)
keras_networks.residual().save({path!r})
"""


def make(text: str) -> None:
    """Run a script in a process of its own: the tests' process loads no framework."""
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=harness.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX files of one network: by parity, by torch.onnx, with a changed bias, quantised."""
    folder = tmp_path_factory.mktemp("files")
    make(_MAKE_FILES.format(own=str(OWN), folder=str(folder)))
    return folder


def test_two_onnx_files_of_one_network_agree_and_a_changed_one_does_not(parity, files):
    done = parity("compare", files / "one.onnx", files / "two.onnx", "--json", "-")
    assert done.code == 0, done.err
    report = done.report
    assert report["verdict"] == "parity"
    assert set(report["subjects"]) == {"one", "two"}
    assert report["levels"]["weights"] == "pass"
    changed = parity("compare", files / "one.onnx", files / "changed.onnx", "--json", "-")
    assert changed.code == 1
    report = changed.report
    assert report["levels"]["weights"] == "fail"
    (cause,) = report["causes"]
    assert cause["cause"] in ("bias", "changed-weights")
    assert "conv2" in cause["layer"]


def test_a_script_agrees_with_its_deployed_file(parity, files):
    done = parity(
        "compare", f"{NETWORKS}:seeded,flattened", files / "two.onnx", "--no-export", "--json", "-"
    )
    assert done.code == 0, done.err
    assert set(done.report["subjects"]) == {"onnx", "torch"}


def test_one_onnx_file_is_judged_by_its_float64_reading(parity, files):
    done = parity("compare", files / "one.onnx", "--json", "-")
    assert done.code == 0, done.err
    assert set(done.report["subjects"]) == {"onnx"}


def test_a_quantised_file_differs_from_its_original_and_agrees_with_itself(parity, files):
    done = parity("compare", files / "one.onnx", files / "quantised.onnx", "--json", "-")
    assert done.code == 1, done.err
    assert done.report["verdict"] == "divergence"
    (cause,) = done.report["causes"]
    assert cause["cause"] == "quantised"
    assert cause["evidence"]["layers"] == 4
    alone = parity("compare", files / "quantised.onnx", "--json", "-")
    assert alone.code == 0, alone.err


def test_a_keras_file_agrees_with_the_graph_exported_from_it(parity, tmp_path):
    path = tmp_path / "model.keras"
    make(_MAKE_KERAS.format(own=str(OWN), path=str(path)))
    done = parity("compare", path, "--json", "-")
    assert done.code == 0, done.err
    assert set(done.report["subjects"]) == {"keras", "onnx-keras"}


def test_a_model_that_runs_with_no_other_models_input_is_one_line(parity, files):
    done = parity("compare", f"{NETWORKS}:seeded,lstm_tagger", files / "one.onnx")
    assert done.code == 2
    assert done.error.startswith("torch: ")
    assert "--shape tokens=" in done.error


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "u_net", "token_model", "lstm_tagger", "two_inputs"])
def test_a_script_agrees_with_the_graph_exported_from_it(parity, name):
    shapes = {
        "residual": ("x=1x3x32x32",),
        "u_net": ("x=1x3x32x32",),
        "token_model": ("tokens=1x9",),
        "lstm_tagger": ("tokens=1x12",),
        "two_inputs": ("image=1x3x32x32", "features=1x5"),
    }
    options = [word for shape in shapes[name] for word in ("--shape", shape)]
    done = parity("compare", f"{NETWORKS}:seeded,{name}", *options, "--json", "-")
    assert done.code == 0, done.err
    assert set(done.report["subjects"]) == {"torch", "onnx-torch"}
