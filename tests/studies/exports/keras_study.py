"""The study of the Keras exporter: right, refused or wrong, for every model of `keras_models`.

    python -m tests.studies.exports.keras_models [--only NAME] [--exporters ours,tf2onnx,keras]

Each model is exported in a process of its own kind, that is replaced when it crashes or takes too
long. The file is judged outside the exporter: a new session of ONNX Runtime against
`model(x, training=False)`, at N = 1, 2 and 3, on inputs of several seeds, in units of the float32
floor: how far the model's own outputs move when its weights and inputs move by one unit in the last
place.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import selectors
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

EXPORTERS = ("ours", "tf2onnx", "keras")

LIMIT = 8.0
"""Floors: both programs lie within 4 of the exact result."""

SEEDS = (11, 12)

_REPLICATES = 3


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="names of models, or parts of names, by commas")
    parser.add_argument("--exporters", default=",".join(EXPORTERS))
    parser.add_argument("--light", action="store_true", help="without keras.applications")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one export")
    parser.add_argument("--save", type=Path, help="write the results as JSON")
    parser.add_argument("--reuse", type=Path, help="take the results of other exporters from JSON")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        _work()
        return
    from tests.studies.exports.keras_models import CASES

    parts = [part for part in options.only.split(",") if part]
    cases = [c for c in CASES if not parts or any(p in c.name for p in parts)]
    cases = [c for c in cases if not (options.light and c.heavy)]
    if options.only and parts:
        cases.sort(key=lambda c: min(i for i, part in enumerate(parts) if part in c.name))
    known = json.loads(options.reuse.read_text()) if options.reuse else {}
    results: dict[str, dict[str, dict[str, Any]]] = {}
    worker = _Worker()
    for index, case in enumerate(cases):
        row = {}
        for exporter in options.exporters.split(","):
            earlier = known.get(case.name, {}).get(exporter)
            if earlier and exporter != "ours":
                row[exporter] = earlier
            else:
                row[exporter] = worker.ask(case.name, exporter, options.limit)
        results[case.name] = row
        print(f"{index + 1}/{len(cases)} {case.name}: {_describe(row)}", flush=True)
        if options.save:
            options.save.write_text(json.dumps(results, indent=1))
    worker.stop()
    print_summary(results)


def print_summary(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Print the counts, what is wrong, what others can do, and the ratio of the times."""
    exporters = list(next(iter(results.values())))
    for exporter in exporters:
        counts = Counter(row[exporter]["outcome"] for row in results.values())
        print(f"{exporter:<8} of {len(results)}: {dict(counts)}")
    if "ours" not in exporters:
        return
    for name, row in results.items():
        if row["ours"]["outcome"] == "wrong":
            print(f"WRONG    {name}: {row['ours']['reason']}")
    for name, row in results.items():
        others = [e for e in exporters if e != "ours" and row[e]["outcome"] == "right"]
        if others and row["ours"]["outcome"] != "right":
            print(f"BEHIND   {name}: {', '.join(others)} right; {row['ours']['reason']}")
    for other in exporters:
        pairs = [
            row["ours"]["seconds"] / row[other]["seconds"]
            for row in results.values()
            if other != "ours" and row["ours"]["outcome"] == row[other]["outcome"] == "right"
        ]
        if pairs:
            print(
                f"seconds, ours over {other}: median {statistics.median(pairs):.2f},"
                f" worst {max(pairs):.2f}, of {len(pairs)} models"
            )


def _describe(row: Mapping[str, Mapping[str, Any]]) -> str:
    parts = []
    for exporter, result in row.items():
        text = f"{exporter} {result['outcome']} {result['seconds']:.2f}s"
        if result.get("floors") is not None:
            text += f" {result['floors']:.2f}"
        if result["outcome"] != "right" and exporter == "ours":
            text += f" [{result['reason'][:300]}]"
        parts.append(text)
    return " | ".join(parts)


class _Worker:
    """A process that exports and judges; it is started again when it dies or hangs."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def ask(self, name: str, exporter: str, limit: float) -> dict[str, Any]:
        """Return the outcome of one export."""
        if self.process is None:
            self.process = self._start()
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        start = time.perf_counter()
        process.stdin.write(json.dumps([name, exporter]) + "\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            ready = selector.select(limit)
        line = process.stdout.readline() if ready else ""
        if line:
            return json.loads(line)  # type: ignore[no-any-return]
        seconds = time.perf_counter() - start
        reason = f"the process ended with {process.wait()}" if ready else "time limit"
        self.stop()
        return {"outcome": "crashed", "seconds": seconds, "reason": reason}

    def _start(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_WAIT_POLICY": "PASSIVE"}
        return subprocess.Popen(
            [sys.executable, "-m", "tests.studies.exports.keras_models", "--worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env=environment,
        )  # fmt: skip

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def _work() -> None:
    """Answer requests on the standard input, one line of JSON each."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import tf2onnx.tfonnx  # noqa: F401  (not counted)

    from exporters import keras_onnx  # noqa: F401  (it silences TensorFlow)
    from tests.studies.exports.keras_models import CASES

    by_name = {case.name: case for case in CASES}
    cached: tuple[str, Any] = ("", None)
    for line in sys.stdin:
        name, exporter = json.loads(line)
        try:
            if cached[0] != name:
                cached = (name, _Reference(by_name[name]))
            answer = _judge(cached[1], exporter)
        except Exception as error:  # noqa: BLE001 - of the study itself
            answer = {"outcome": "crashed", "seconds": 0.1, "reason": traceback.format_exc()[-600:]}
            answer["reason"] = f"{error} {answer['reason']}"
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class _Reference:
    """A model with weights of its own, and its outputs and floors on new inputs."""

    def __init__(self, case: Any) -> None:
        import keras

        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        self.case = case
        self.model = case.build()
        rng = np.random.default_rng(0)
        for variable in self.model.variables:
            if "float" in variable.dtype:
                offset = 0.5 if "variance" in variable.path else 0.1
                noise = rng.uniform(-0.3, 0.3, variable.shape)
                value = np.asarray(variable).astype(np.float64) * (1 + noise)
                value += offset * (np.abs(noise) if "variance" in variable.path else noise)
                if variable.value.shape.rank and variable.value.shape.rank > 1:
                    value -= offset * noise  # kernels keep their scale
                variable.assign(value.astype(np.asarray(variable).dtype))
        _calibrate(self.model, case)
        seeds = SEEDS[:1] if case.heavy else SEEDS
        self.replicates = 2 if case.heavy else _REPLICATES
        self.points = [
            (rows, seed) for seed in seeds for rows in ((3,) if case.fixed_batch else (1, 2, 3))
        ]
        self.inputs = [case.inputs(self.model, *point) for point in self.points]
        self.outputs: list[list[tuple[str, Any]]] | None = None
        self.repeatable = True
        self.moved: list[list[list[Any]]] = []

    def compute(self) -> None:
        """Run the model, and then its replicates."""
        if self.outputs is not None:
            return
        plain_runs = [[_flatten(self._run(a)) for a in self.inputs] for _ in range(2)]
        self.outputs = plain_runs[0]
        self.repeatable = all(
            np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
            for run, again in zip(*plain_runs, strict=True)
            for (_, first), (_, second) in zip(run, again, strict=True)
        )
        # What a layer computes in float16 moves by as much as that rounds.
        kinds = {str(layer.compute_dtype) for layer in self.model._flatten_layers()}
        lowest = max((_EPSILONS.get(kind, 0.0) for kind in kinds), default=0.0)
        self.lowest = lowest
        plain = [np.asarray(variable) for variable in self.model.variables]
        for replicate in range(self.replicates):
            rng = np.random.default_rng(replicate)
            for variable, value in zip(self.model.variables, plain, strict=True):
                variable.assign(_perturb(value, rng, lowest))
            self.moved.append(
                [
                    [
                        v
                        for _, v in _flatten(
                            self._run(
                                _map(functools.partial(_perturb, rng=rng, lowest=lowest), arguments)
                            )
                        )
                    ]
                    for arguments in self.inputs
                ]
            )
        for variable, value in zip(self.model.variables, plain, strict=True):
            variable.assign(value)

    def _run(self, arguments: tuple[Any, ...]) -> Any:
        import tensorflow as tf

        arguments = _map(tf.constant, arguments)
        training = {"training": False} if self.model._call_has_training_arg else {}
        try:
            return self.model(*arguments, **training)
        except tf.errors.UnimplementedError:
            # Keras runs grouped convolutions in three dimensions in graph mode only.
            return tf.function(lambda *given: self.model(*given, **training))(*arguments)


def _calibrate(model: Any, case: Any) -> None:
    """Give batch-norms the statistics of their data, without which deep networks overflow."""
    import keras

    norms = [x for x in model._flatten_layers() if isinstance(x, keras.layers.BatchNormalization)]
    if not norms or case.fixed_batch:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(*case.inputs(model, 8, 3), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


_LARGE = 1 << 16

_EPSILONS = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


def _perturb(array: Any, rng: np.random.Generator, lowest: float) -> Any:
    """Multiply floats by 1 + U(-1, 1) * epsilon of their own precision, or of a lower one."""
    array = np.asarray(array)
    if array.dtype.kind != "f":
        return array
    epsilon = max(float(np.finfo(array.dtype).eps), lowest)
    if array.size > _LARGE and array.dtype == np.float32:
        # One unit in the last place or none, in the array's own precision, which is faster.
        units = rng.integers(-1, 1, array.shape, np.int8, endpoint=True)
        return array * (1 + units * np.float32(epsilon))
    noise = rng.uniform(-1, 1, array.shape)
    return (array.astype(np.float64) * (1 + noise * epsilon)).astype(array.dtype)


def _map(change: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _map(change, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_map(change, item) for item in value)
    return change(value)


def _flatten(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Return the leaves in the order in which they were written, with their keys."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _flatten(item, f"{name}{key}/")]
    if isinstance(value, (list, tuple)):
        return [leaf for i, item in enumerate(value) for leaf in _flatten(item, f"{name}{i}/")]
    return [(name.rstrip("/"), value if isinstance(value, np.ndarray) else np.asarray(value))]


def _judge(reference: _Reference, exporter: str) -> dict[str, Any]:
    """Export and compare. "refused": it raised, or its file does not load."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        start = time.perf_counter()
        try:
            _EXPORT[exporter](reference, path)
        except Exception as error:  # noqa: BLE001 - an exporter's own
            lines = str(error).strip().splitlines() or [""]
            raw = "" if type(error).__name__ == "ExportError" else f"{type(error).__name__}: "
            reason = raw + (lines[0] if exporter != "ours" else " ".join(lines))
            return {
                "outcome": "refused" if exporter != "ours" or not raw else "raised",
                "seconds": time.perf_counter() - start,
                "reason": reason[:1000],
            }
        seconds = time.perf_counter() - start
        reference.compute()
        if not reference.repeatable:
            reason = "a file, of a model that returns something else each time"
            return {"outcome": "wrong", "seconds": seconds, "reason": reason}
        try:
            floors, reason = _compare(reference, path, exporter)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's types share no base class
            reason = str(error).strip().splitlines()[0]
            # A file that does not load, without a word, is a wrong one.
            return {
                "outcome": "wrong",
                "seconds": seconds,
                "reason": f"does not run: {reason}"[:500],
            }
    outcome = "right" if floors <= LIMIT else "wrong"
    return {"outcome": outcome, "seconds": seconds, "floors": floors, "reason": reason}


def _compare(reference: _Reference, path: Path, exporter: str) -> tuple[float, str]:
    """Return the largest difference in floors, and where it is."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    results = [value.name for value in session.get_outputs()]
    assert reference.outputs is not None
    floors = _measure_floors(reference)
    worst, where = 0.0, ""
    for index, (rows, _) in enumerate(reference.points):
        feeds = _feeds(reference.inputs[index], names, session)
        found = dict(zip(results, session.run(None, feeds), strict=True))
        expected = reference.outputs[index]
        order = _match_outputs([key for key, _ in expected], results, strict=exporter == "ours")
        for position, name in enumerate(order):
            distance = _in_floors(found[name], expected[position][1], floors[position])
            if not distance <= worst:
                worst, where = distance, f"{name} at N={rows}: {distance:.3g} floors"
    return (worst if worst == worst else float("inf")), where


def _feeds(arguments: tuple[Any, ...], names: Sequence[str], session: Any) -> dict[str, Any]:
    """Assign the arrays to a file's inputs, by key or else in order."""
    leaves = [leaf for argument in arguments for leaf in _flatten(argument)]
    keyed = {key.rsplit("/", 1)[-1]: array for key, array in leaves}
    if len(names) != len(leaves) and not set(names) <= set(keyed):
        raise ValueError(f"{len(leaves)} inputs expected, found {names}")
    chosen = (
        {name: keyed[name] for name in names}
        if set(names) <= set(keyed)
        else dict(zip(names, (array for _, array in leaves), strict=True))
    )
    types = {value.name: value.type for value in session.get_inputs()}
    kinds = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64}

    def convert(name: str, array: Any) -> Any:
        if array.dtype.kind == "U":
            return array.astype(object)
        return array.astype(kinds.get(types[name], array.dtype))

    return {name: convert(name, array) for name, array in chosen.items()}


def _match_outputs(keys: Sequence[str], names: Sequence[str], *, strict: bool) -> list[str]:
    """Return the file's output for each of the model's, by key where outputs have keys."""
    last = [key.replace("/", "_") for key in keys]
    if all(key and not key.isdigit() for key in keys):
        if set(last) == set(names):
            return last
        if strict:
            raise ValueError(f"outputs are called {list(names)}, expected {last}")
    if len(names) < len(keys):
        raise ValueError(f"{len(keys)} outputs expected, found {list(names)}")
    if any(not key.isdigit() for key in keys):
        # Flat and without the model's names: Keras's own order, by key.
        ordered = sorted(range(len(keys)), key=lambda index: keys[index])
        order = dict(zip(ordered, names, strict=False))
        return [order[index] for index in range(len(keys))]
    return list(names[: len(keys)])


def _measure_floors(reference: _Reference) -> list[tuple[float, float]]:
    """Return, for each output, how far it moves: its worst element and its L2 norm, relative.

    The largest of all points and replicates, and at least one rounding.
    """
    assert reference.outputs is not None
    floors: list[tuple[float, float]] = []
    for position, (_, first) in enumerate(reference.outputs[0]):
        precise = first.dtype.kind == "f"
        own = float(np.finfo(first.dtype).eps) if precise else 0.0
        roundoff = max(own, reference.lowest) / 2
        elements, norms = [roundoff], [roundoff]
        for index, outputs in enumerate(reference.outputs):
            exact = outputs[position][1].astype(np.float64) if precise else np.zeros(0)
            finite = np.isfinite(exact)
            scale = float(np.abs(exact[finite]).max(initial=0.0))
            norm = float(np.linalg.norm(exact[finite]))
            if not scale:
                continue
            moves = [
                np.abs(replicate[index][position].astype(np.float64) - exact)[finite]
                for replicate in reference.moved
            ]
            elements += [float(move.max()) / scale for move in moves]
            squares = [float(np.linalg.norm(move)) ** 2 for move in moves]
            norms.append(float(np.sqrt(np.mean(squares))) / norm)
        floors.append((max(elements), max(norms)))
    return floors


def _in_floors(found: Any, expected: Any, floors: tuple[float, float]) -> float:
    """Return a difference in units of the floor: the larger of relative L2 and worst element."""
    if found.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(found.astype(expected.dtype), expected) else float("inf")
    exact = expected.astype(np.float64)
    finite = np.isfinite(exact)
    if not np.array_equal(np.isfinite(found), finite) or not np.array_equal(
        found[~finite], expected[~finite], equal_nan=True
    ):
        return float("inf")
    exact = exact[finite]
    difference = np.abs(found.astype(np.float64)[finite] - exact)
    if not difference.any():
        return 0.0
    scale, norm = float(np.abs(exact).max()), float(np.linalg.norm(exact))
    if not scale:
        return float("inf")
    element, l2 = floors
    return max(
        float(difference.max()) / (element * scale),
        float(np.linalg.norm(difference)) / (l2 * norm),
    )


def _export_ours(reference: _Reference, path: Path) -> None:
    from exporters import keras_onnx

    keras_onnx.export(reference.model, path, **reference.case.options)


def _export_tf2onnx(reference: _Reference, path: Path) -> None:
    import keras
    import tensorflow as tf
    import tf2onnx

    model = reference.model
    tensors = getattr(model, "inputs", None)
    if tensors:
        signature = [tf.TensorSpec(t.shape, t.dtype, t.name) for t in tensors]
    else:
        (arguments,) = (case_inputs[0] for case_inputs in [reference.inputs])
        if len(arguments) != 1:
            raise ValueError("from_keras takes one argument")
        leaves = _flatten(arguments[0], "input/")
        signature = [
            tf.TensorSpec((None, *array.shape[1:]), array.dtype, name.rsplit("/", 1)[-1])
            for name, array in leaves
        ]
        structure = keras.tree.map_structure(lambda _: 0, arguments[0])
        signature = keras.tree.pack_sequence_as(structure, signature)
        signature = [signature]
    training = {"training": False} if model._call_has_training_arg else {}
    try:
        tf2onnx.convert.from_keras(model, signature, opset=17, output_path=str(path))
    except Exception:  # noqa: BLE001 - faults with Keras 3 (no `output_names`), not the converter's
        called = tf.function(lambda *given: model(*given, **training), input_signature=signature)
        tf2onnx.convert.from_function(called, signature, opset=17, output_path=str(path))


def _export_keras(reference: _Reference, path: Path) -> None:
    reference.model.export(str(path), format="onnx", verbose=False)


_EXPORT = {"ours": _export_ours, "tf2onnx": _export_tf2onnx, "keras": _export_keras}
