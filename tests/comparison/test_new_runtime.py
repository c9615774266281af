"""A runtime in a folder of its own, dropped in, is a subject of a comparison like any other."""

from __future__ import annotations

import sys

import pytest

import parity
from parity.processes import registry

pytestmark = pytest.mark.framework

ABOUT = '''
"""The reference implementation of ONNX's operators, in NumPy."""

from parity.processes.registry import Package, RuntimeInfo

ABOUT = RuntimeInfo(
    label="ONNX's reference evaluator",
    packages=(Package("onnx"),),
    main_package="onnx",
    runs_graphs=True,
)
'''

RUNTIME = '''
"""Runs ONNX graphs with ONNX's own reference evaluator."""

import platform
import time
from pathlib import Path

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

import parity
from parity.network import layouts
from parity.network.table import LayerTable
from parity.numerics.capture import CaptureWriter

FACTOR = 1.0


class Runtime:
    name = "evaluator"

    def __init__(self):
        self.graphs = {}

    def hello(self):
        versions = {"onnx": onnx.__version__}
        return {"parity": parity.__version__, "python": platform.python_version(),
                "versions": versions}

    def load_file(self, *, handle, table, path):
        self.graphs[handle] = (onnx.load(path), LayerTable.from_json(table))
        return {"seconds": 0.0}

    def run(self, *, handle, x, rows, out, manifest, **options):
        model, table = self.graphs[handle]
        started = time.perf_counter()
        wanted = [table.by_name(row) for row in rows]
        names = [table.tensor_name(row) for row in wanted]
        evaluator = ReferenceEvaluator(model)
        tensors = evaluator.run(names, {evaluator.input_names[0]: np.load(x)})
        with CaptureWriter(Path(out), manifest) as writer:
            for row, tensor in zip(wanted, tensors, strict=True):
                array = np.asarray(tensor * np.float32(FACTOR))
                writer.add(row.name, layouts.drop_axes(array, len(row.shape) + 1))
        return {"seconds": time.perf_counter() - started, "flags": {}, "proof": {}}
'''

REQUEST = {
    "torch": "tests.twins.torch_small:build",
    "table": "tests/twins/small.csv",
    "subjects": ("torch", "evaluator-torch"),
    "image_size": (16, 16),
    "input": "random",
    "device": "cpu",
}


@pytest.fixture
def evaluator(tmp_path, monkeypatch):
    """The folder of a runtime `evaluator`, in a package that is searched beside parity's own."""
    folder = tmp_path / "more_runtimes" / "evaluator"
    folder.mkdir(parents=True)
    for place in (folder.parent, folder):
        (place / "__init__.py").write_text("")
    (folder / "about.py").write_text(ABOUT)
    (folder / "runtime.py").write_text(RUNTIME)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PARITY_RUNTIMES", "parity.runtimes,more_runtimes")
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "more_runtimes"]:
        del sys.modules[name]
    registry._discover.cache_clear()


def test_a_new_runtime_is_compared(evaluator):
    report = parity.compare(**REQUEST)
    assert report.verdict == "parity", report.subjects["evaluator-torch"].failure
    assert report.subjects["evaluator-torch"].runtime.startswith("onnx ")
    for stage in report.stages:
        result = stage.subjects["evaluator-torch"]
        assert result.status.passes
    # Its sums are made in another order: bit for bit the same would be PyTorch's own tensors.
    assert any(stage.subjects["evaluator-torch"].max_abs > 0.0 for stage in report.stages)


def test_a_new_runtime_that_is_wrong_diverges(evaluator):
    runtime = evaluator / "runtime.py"
    runtime.write_text(runtime.read_text().replace("FACTOR = 1.0", "FACTOR = 1.001"))
    report = parity.compare(**REQUEST)
    assert report.verdict == "divergence"
    assert report.subjects["torch"].failure is None
    assert not report.stages[0].subjects["evaluator-torch"].status.passes
