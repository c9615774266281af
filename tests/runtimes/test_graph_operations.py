"""The shared operations on graphs, with a framework of a few NumPy functions."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from parity.errors import GraphError, PrecisionError, RequirementError
from parity.network import weights as canonical_weights
from parity.network.graph import Graph, Node, Parameter, Port, Tensor
from parity.network.rearrangement import Rearrangement
from parity.numerics import floor
from parity.numerics.capture import CaptureReader
from parity.numerics.npz import load_npz, save_npz
from parity.processes.graph_requests import FloorRequest, GraphRunRequest, TensorPoint
from parity.processes.training_requests import StepRequest
from parity.runtimes.floors import MAX_PREPARED, open_floor_helper
from parity.runtimes.graph_framework import Array, GraphHook, GraphRun, InputSpec
from parity.runtimes.graph_operations import GraphOperations
from parity.runtimes.train import TrainOperations

Step = tuple[str, str, tuple[str, ...], Callable[[Mapping[str, Array], list[Array]], Array]]


class NumpyModel:
    """Weights by name, and steps: output, kind, inputs, function of the weights and inputs."""

    def __init__(self, weights: Mapping[str, Array], steps: list[Step], dtype: Any) -> None:
        self.weights = {name: value.astype(dtype) for name, value in weights.items()}
        self.steps = steps
        self.dtype = dtype


class NumpyOperations(GraphOperations):
    """Reads and runs a `NumpyModel`, whose one input is `x`."""

    name = "numpy"

    def __init__(self, model: NumpyModel) -> None:
        self.model = model

    def describe_inputs(self) -> list[InputSpec]:
        return [InputSpec("x", (None, 3), "float32", "declared")]

    def example_inputs(self) -> dict[str, Array] | None:
        return {"x": np.ones((2, 3), np.float32)}

    def record(self, inputs: Mapping[str, Array]) -> Graph:
        tensors = {"x": Tensor("x", inputs["x"].shape, "float32")}

        def hook(name: str, array: Array) -> None:
            tensors[name] = Tensor(name, array.shape, str(array.dtype))

        self.run_tensors(inputs, [step[0] for step in self.model.steps], hook)
        nodes = tuple(
            Node(
                name,
                kind,
                kind,
                read,
                (name,),
                tuple(
                    Parameter(each, "", value.shape, "float32")
                    for each, value in self.model.weights.items()
                    if each.startswith(f"{name}.")
                ),
            )
            for name, kind, read, _ in self.model.steps
        )
        last = self.model.steps[-1][0]
        return Graph("torch", nodes, tensors, (Port("x", "x"),), (Port("y", last),))

    def run_tensors(
        self,
        inputs: Mapping[str, Array],
        tensors: Collection[str],
        hook: GraphHook,
        *,
        model: Any = None,
        device: str = "cpu",
    ) -> GraphRun:
        model = model or self.model
        values: dict[str, Array] = {"x": inputs["x"].astype(model.dtype)}
        for name, _, read, function in model.steps:
            values[name] = function(model.weights, [values[each] for each in read])
            if name in tensors:
                replacement = hook(name, values[name])
                values[name] = values[name] if replacement is None else replacement
        missing = set(tensors) - values.keys()
        if missing:
            raise GraphError(f"{sorted(missing)[0]}: was not computed")
        return GraphRun(0.0, "cpu")

    def copy_to_precision(self, precision: str, device: str = "cpu") -> NumpyModel:
        return NumpyModel(self.model.weights, self.model.steps, np.dtype(precision))

    def read_parameters(self, *, model: Any = None) -> dict[str, Array]:
        return {name: value.copy() for name, value in (model or self.model).weights.items()}

    def write_parameters(self, values: Mapping[str, Array], *, model: Any = None) -> None:
        target = model or self.model
        for name, value in values.items():
            target.weights[name] = value.astype(target.dtype)


def build_dense_pair() -> NumpyModel:
    """Return a model of two matrix products with a ReLU between them."""
    rng = np.random.default_rng(1)
    weights = {
        "a.weight": rng.standard_normal((3, 5)).astype(np.float32),
        "c.weight": rng.standard_normal((5, 4)).astype(np.float32),
    }
    steps: list[Step] = [
        ("a", "matmul", ("x",), lambda w, inputs: inputs[0] @ w["a.weight"]),
        ("b", "relu", ("a",), lambda w, inputs: np.maximum(inputs[0], 0)),
        ("c", "matmul", ("b",), lambda w, inputs: inputs[0] @ w["c.weight"]),
    ]
    return NumpyModel(weights, steps, np.float32)


@pytest.fixture
def inputs(tmp_path: Path) -> str:
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.random.default_rng(2).standard_normal((2, 3)).astype(np.float32))
    return str(path)


POINTS = (TensorPoint("first", "a", (Rearrangement(order=(1, 0)),)), TensorPoint("last", "c"))


def run(operations: NumpyOperations, inputs: str, out: Path, **fields: Any) -> dict[str, Array]:
    request = GraphRunRequest(inputs=inputs, points=POINTS, out=str(out), **fields)
    operations.run_graph(**request.to_json())
    with CaptureReader(out) as reader:
        return {name: reader.read(name) for name in reader.names}


def test_a_graph_is_written_and_read_back(tmp_path: Path, inputs: str) -> None:
    operations = NumpyOperations(build_dense_pair())
    answer = operations.read_graph(inputs=inputs, out=str(tmp_path / "graph.json"))
    graph = Graph.from_json(json.loads((tmp_path / "graph.json").read_text()))
    assert answer["nodes"] == len(graph.nodes) == 3
    assert graph == operations.record({"x": np.zeros((2, 3), np.float32)})
    assert [each.name for each in graph.parameters] == ["a.weight", "c.weight"]
    assert graph.producers["b"].inputs == ("a",)
    assert [node.id for node in graph.consumers["a"]] == ["b"]


def test_captures_have_the_axes_of_the_comparison(tmp_path: Path, inputs: str) -> None:
    captured = run(NumpyOperations(build_dense_pair()), inputs, tmp_path / "capture")
    assert captured["first"].shape == (5, 2)
    assert captured["last"].shape == (2, 4)


def test_fed_tensors_replace_what_later_operations_read(tmp_path: Path, inputs: str) -> None:
    right, wrong = NumpyOperations(build_dense_pair()), NumpyOperations(build_dense_pair())
    wrong.write_parameters({"a.weight": 2 * wrong.model.weights["a.weight"]})
    reference = run(right, inputs, tmp_path / "reference", precision="float64")
    alone = run(wrong, inputs, tmp_path / "wrong")
    fed = run(wrong, inputs, tmp_path / "fed", feed=str(tmp_path / "reference"))
    assert not np.allclose(alone["last"], reference["last"])
    assert not np.allclose(fed["first"], reference["first"])
    np.testing.assert_allclose(fed["last"], reference["last"], rtol=1e-5)


def test_floors_are_those_of_rounding(tmp_path: Path, inputs: str) -> None:
    operations = NumpyOperations(build_dense_pair())
    run(operations, inputs, tmp_path / "reference", precision="float64")
    request = FloorRequest(
        inputs=inputs,
        points=POINTS,
        reference=str(tmp_path / "reference"),
        replicates=5,
        seed=0,
        isolate=True,
    )
    answer = operations.measure_floors(**request.to_json())
    for kind in ("floors", "isolated"):
        for name in ("first", "last"):
            assert 2.0**-24 <= answer[kind][name]["rel_l2"] < 1e-6
    # The replicates are copies: the model's own weights are left as they were.
    assert operations.model.weights["a.weight"].dtype == np.float32
    np.testing.assert_array_equal(
        operations.model.weights["a.weight"], build_dense_pair().weights["a.weight"]
    )


def test_floors_of_one_thread_are_the_same(tmp_path: Path, inputs: str, monkeypatch) -> None:
    """Also where a framework computes in the memory that it has given away."""

    def overwrite(model: NumpyModel) -> NumpyModel:
        memory = np.empty((2, 5), model.dtype)
        model.steps[0] = (
            "a", "matmul", ("x",), lambda w, values: np.matmul(values[0], w["a.weight"], memory),
        )  # fmt: skip
        model.steps[1] = ("b", "relu", ("a",), lambda w, values: np.maximum(values[0], 0, memory))
        return model

    operations = NumpyOperations(overwrite(build_dense_pair()))
    plain = NumpyOperations(build_dense_pair())
    run(plain, inputs, tmp_path / "reference", precision="float64")
    reference = str(tmp_path / "reference")
    request = FloorRequest(inputs, POINTS, reference, replicates=5, seed=0, isolate=True)
    slow = _Slow(monkeypatch)
    found = operations.measure_floors(**request.to_json())
    assert slow.threads == {"ThreadPoolExecutor"}
    monkeypatch.setenv("PARITY_THREADS", "1")
    slow.threads.clear()
    expected = operations.measure_floors(**request.to_json())
    assert slow.threads == {"MainThread"}
    for kind in ("floors", "isolated"):
        assert found[kind] == expected[kind]


class _Slow:
    """Makes the measuring of an error slower than the model, and notes the threads that do it."""

    def __init__(self, monkeypatch) -> None:
        self.threads: set[str] = set()
        measure = floor.measure_error

        def wait(**arrays):
            self.threads.add(threading.current_thread().name.partition("-")[0])
            time.sleep(0.002)
            return measure(**arrays)

        monkeypatch.setattr(floor, "measure_error", wait)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_what_fails_beside_the_model_fails_the_measurement(
    tmp_path: Path, inputs: str, monkeypatch, threads: str
) -> None:
    monkeypatch.setenv("PARITY_THREADS", threads)
    operations = NumpyOperations(build_dense_pair())
    run(operations, inputs, tmp_path / "reference", precision="float64")
    request = FloorRequest(inputs, POINTS, str(tmp_path / "reference"), replicates=5, seed=0)
    perturb = floor.perturb
    calls = []

    def fail(array, rng, **options):
        calls.append(array.shape)
        if len(calls) == 7:
            raise MemoryError("no room")
        return perturb(array, rng, **options)

    with monkeypatch.context() as patch:
        patch.setattr(floor, "perturb", fail)
        with pytest.raises(MemoryError, match="no room"):
            operations.measure_floors(**request.to_json())
    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(floor, "measure_error", lambda **arrays: fail(np.zeros(3), None))
        patch.setattr(floor, "perturb", perturb)
        calls += [()] * 6
        with pytest.raises(MemoryError, match="no room"):
            operations.measure_floors(**request.to_json())
    # And no trace is left.
    assert operations.measure_floors(**request.to_json())["floors"]


def test_replicates_are_prepared_in_their_order() -> None:
    for size in (0, MAX_PREPARED + 1):
        with open_floor_helper() as helper:
            made: list[int] = []

            def make(number: int, made: list[int] = made) -> int:
                made.append(number)
                return number

            found = helper.prepare(make, range(4), size=size)
            assert [(number, len(made) > number) for number in found] == [
                (number, True) for number in range(4)
            ]
            assert made == [0, 1, 2, 3]


def test_a_run_that_is_not_in_float64_is_refused(tmp_path: Path, inputs: str) -> None:
    model = build_dense_pair()
    model.steps[1] = (
        "b", "relu", ("a",), lambda w, values: np.maximum(values[0], 0).astype(np.float32),
    )  # fmt: skip
    model.steps[2] = (
        "c", "matmul", ("b",), lambda w, values: values[0] @ w["c.weight"].astype(np.float32),
    )  # fmt: skip
    with pytest.raises(PrecisionError, match="last: expected float64, computed in float32"):
        run(NumpyOperations(model), inputs, tmp_path / "capture", precision="float64")


def test_an_output_elsewhere_than_asked_for_is_no_result(tmp_path: Path, inputs: str) -> None:
    with pytest.raises(RequirementError, match="numpy: the GPU was requested, but the output"):
        run(NumpyOperations(build_dense_pair()), inputs, tmp_path / "capture", device="gpu")


def test_statistics_are_measured_in_one_run(tmp_path: Path, inputs: str) -> None:
    """Two norms behind one another: the second one sees what the first gives with its new ones."""

    def normalise(name: str) -> Callable[[Mapping[str, Array], list[Array]], Array]:
        return lambda w, values: (
            (values[0] - w[f"{name}.mean"]) / np.sqrt(w[f"{name}.variance"] + 1e-3)
        ).astype(values[0].dtype)

    rng = np.random.default_rng(3)
    weights = {"a.weight": rng.standard_normal((3, 4)).astype(np.float32)}
    for name in ("n", "m"):
        weights |= {f"{name}.mean": np.zeros(4), f"{name}.variance": np.ones(4)}
    steps: list[Step] = [
        ("a", "matmul", ("x",), lambda w, values: values[0] @ w["a.weight"] + 3.0),
        ("n", "batch_norm", ("a",), normalise("n")),
        ("b", "double", ("n",), lambda w, values: 2.0 * values[0]),
        ("m", "batch_norm", ("b",), normalise("m")),
    ]
    operations = NumpyOperations(NumpyModel(weights, steps, np.float32))
    norms = [
        {
            "input": source,
            "output": name,
            "axis": 1,
            "epsilon": 1e-3,
            "mean": f"{name}.mean",
            "variance": f"{name}.variance",
        }
        for name, source in (("n", "a"), ("m", "b"))
    ]
    out = tmp_path / "statistics.npz"
    operations.calibrate_norms(inputs=inputs, norms=norms, out=str(out))
    statistics = load_npz(str(out))
    with np.load(inputs) as arrays:
        data = arrays["x"] @ weights["a.weight"] + 3.0
    np.testing.assert_allclose(statistics["n.mean"], data.mean(0), rtol=1e-5)
    np.testing.assert_allclose(statistics["n.variance"], data.var(0), rtol=1e-5)
    operations.write_parameters(statistics)
    results: list[Array] = []
    with np.load(inputs) as arrays:
        operations.run_tensors({"x": arrays["x"]}, ["m"], lambda name, array: results.append(array))
    np.testing.assert_allclose(results[0].mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(results[0].var(0), 1.0, rtol=1e-2)


def test_a_run_in_float64_has_the_weights_that_were_loaded_last(tmp_path):
    operations = NumpyOperations(build_dense_pair())
    inputs = tmp_path / "inputs.npz"
    save_npz(inputs, {"x": np.ones((2, 3), np.float32)})

    def run(label: str) -> Array:
        path = tmp_path / f"{label}.safetensors"
        request = GraphRunRequest(
            str(inputs), (TensorPoint("c", "c"),), str(path), precision="float64"
        )
        operations.run_graph(**request.to_json())
        with CaptureReader(path) as reader:
            return reader.read("c")

    before = run("before")
    assert np.array_equal(before, run("again"))
    weights = {name: 2 * value for name, value in operations.read_parameters().items()}
    save_npz(tmp_path / "weights.npz", weights)
    operations.load_parameters(path=str(tmp_path / "weights.npz"))
    np.testing.assert_allclose(run("after"), 4 * before, rtol=1e-12)


def test_floors_of_some_points_perturb_the_weights_of_their_parts_alone(tmp_path):
    operations = NumpyOperations(build_dense_pair())
    inputs = tmp_path / "inputs.npz"
    save_npz(inputs, {"x": np.ones((2, 3), np.float32)})
    points = (TensorPoint("b", "b"), TensorPoint("c", "c"))
    path = tmp_path / "wide.safetensors"
    run = GraphRunRequest(str(inputs), points, str(path), precision="float64")
    operations.run_graph(**run.to_json())
    request = FloorRequest(
        str(inputs),
        points,
        str(path),
        3,
        0,
        isolate=True,
        whole=False,
        measured=("c",),
        weights=("c.weight",),
    )
    answer = operations.measure_floors(**request.to_json())
    assert list(answer["isolated"]) == ["c"]
    assert answer["floors"] == {}
    # The part from b to c reads the reference's b: its floor is that of one product.
    assert answer["isolated"]["c"]["rel_l2"] < 1e-6


@pytest.mark.parametrize("operation", ["load", "load_weights", "train_step", "load_training_state"])
def test_every_operation_that_sets_weights_forgets_the_copy_in_float64(
    operation, tmp_path, monkeypatch
):
    noted = []

    class Child(TrainOperations):
        name = "toy"
        table = SimpleNamespace(select_side=lambda name: None)
        _trainer = SimpleNamespace(
            step=lambda images, labels, request: SimpleNamespace(to_json=dict),
            write_state=lambda values: None,
        )

        def note_new_weights(self):
            noted.append(operation)

        def write_weights(self, values):
            assert noted, "the copy has the weights from before"

        def build_from_callable(self, path):
            return None

    save_file({"weight/x": np.ones(2, np.float32)}, tmp_path / "state")
    monkeypatch.setattr(canonical_weights, "load", lambda path, table: {})
    np.save(tmp_path / "batch.npy", np.ones(1, np.float32))
    batch = str(tmp_path / "batch.npy")
    arguments = {
        "load": {"callable_path": "net:build"},
        "load_weights": {"path": "weights"},
        "train_step": StepRequest(batch, batch, 0.1).to_json(),
        "load_training_state": {"path": str(tmp_path / "state")},
    }[operation]
    getattr(Child(), operation)(**arguments)
    assert noted
