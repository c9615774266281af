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
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import parity
from parity.network import layouts
from parity.network.table import LayerTable
from parity.numerics.capture import CaptureReader, CaptureWriter

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
        model = onnx.load(path)
        # The first convolution's kernel: FACTOR is the error of the first layer.
        kernel = next(node for node in model.graph.node if node.op_type == "Conv").input[1]
        (weight,) = [tensor for tensor in model.graph.initializer if tensor.name == kernel]
        scaled = numpy_helper.to_array(weight) * np.float32(FACTOR)
        weight.CopyFrom(numpy_helper.from_array(scaled, kernel))
        self.graphs[handle] = (model, LayerTable.from_json(table))
        return {"seconds": 0.0}

    def run(self, *, handle, x, rows, out, manifest, feed=None, **options):
        model, table = self.graphs[handle]
        started = time.perf_counter()
        wanted = [table.by_name(row) for row in rows]
        names = [table.tensor_name(row) for row in wanted]
        inputs = {model.graph.input[0].name: np.load(x)}
        tensors = ReferenceEvaluator(model).run(names, inputs)
        if feed is not None:
            with CaptureReader(Path(feed)) as reader:
                fed = {
                    name: reader.read(row.name).astype(tensor.dtype).reshape(tensor.shape)
                    for row, name, tensor in zip(wanted, names, tensors, strict=True)
                }
            model, replaced = read_from_inputs(model, fed)
            tensors = ReferenceEvaluator(model).run(names, {**inputs, **replaced})
        with CaptureWriter(Path(out), manifest) as writer:
            for row, tensor in zip(wanted, tensors, strict=True):
                writer.add(row.name, layouts.drop_axes(np.asarray(tensor), len(row.shape) + 1))
        return {"seconds": time.perf_counter() - started, "flags": {}, "proof": {}}


def read_from_inputs(model, arrays):
    """Return a copy of `model` whose nodes read `arrays` in place of the tensors of these names.

    Also return the arrays by the names of the copy's further inputs.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    new_names = {name: f"{name}/fed" for name in arrays}
    for node in copy.graph.node:
        node.input[:] = [new_names.get(name, name) for name in node.input]
    for name, array in arrays.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        copy.graph.input.append(helper.make_tensor_value_info(new_names[name], kind, array.shape))
    return copy, {new_names[name]: array for name, array in arrays.items()}
'''

MODEL = "torch=tests.twins.torch_small:build"
REQUEST = {
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
    report = parity.compare(MODEL, **REQUEST)
    assert report.verdict == "parity", report.subjects["evaluator-torch"].failure
    assert report.subjects["evaluator-torch"].runtime.startswith("onnx ")
    for stage in report.stages:
        result = stage.subjects["evaluator-torch"]
        assert result.status.passes
    # Its sums are made in another order: bit for bit the same would be PyTorch's own tensors.
    assert any(stage.subjects["evaluator-torch"].max_abs > 0.0 for stage in report.stages)


def edit(evaluator, old, new):
    """Replace a text of the toy runtime's source."""
    runtime = evaluator / "runtime.py"
    assert old in runtime.read_text()
    runtime.write_text(runtime.read_text().replace(old, new))


def test_a_new_runtime_that_is_wrong_diverges(evaluator):
    edit(evaluator, "FACTOR = 1.0", "FACTOR = 1.001")
    report = parity.compare(MODEL, **REQUEST)
    assert report.verdict == "divergence"
    assert report.subjects["torch"].failure is None
    assert not report.stages[0].subjects["evaluator-torch"].status.passes


def test_a_new_runtime_isolates_its_wrong_layer(evaluator):
    """With `feed`, the layers behind the wrong one read the reference's tensor and are right."""
    edit(evaluator, "FACTOR = 1.0", "FACTOR = 1.001")
    report = parity.compare(MODEL, **REQUEST, isolate=True)
    first, *others = (stage.isolated["evaluator-torch"].status for stage in report.stages)
    assert not first.passes
    assert len(others) == 3
    assert all(status.passes for status in others)
    assert not any(stage.subjects["evaluator-torch"].status.passes for stage in report.stages)


@pytest.mark.parametrize("operation", ["load_structure", "run"])
def test_a_new_runtime_without_an_operation_fails_alone(evaluator, operation):
    """The toy has no `load_structure`, which the graph of a registered architecture needs."""
    if operation == "run":
        edit(evaluator, "def run(", "def not_run(")
        edit(evaluator, "def load_file(self, *, handle, table, path)",
             "def load_structure(self, **arguments):\n        return {'seconds': 0.0}\n\n"
             "    def load_file(self, *, handle, table, path)")  # fmt: skip
    report = parity.compare(
        "resnet18",
        subjects=("torch", "onnx-torch", "evaluator-torch"),
        image_size=(32, 32),
        classes=3,
        input="random",
        device="cpu",
    )
    assert report.verdict == "unknown"
    failures = {name: subject.failure for name, subject in report.subjects.items()}
    expected = f"evaluator: the runtime does not implement '{operation}'"
    assert failures == {"torch": None, "onnx-torch": None, "evaluator-torch": expected}
    assert all(stage.subjects["onnx-torch"].status.passes for stage in report.stages)
