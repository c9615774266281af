"""The cache of models that their names determine: what the key covers, damage, what is left out."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from parity.commands import compare_graphs
from parity.comparison.graphs import model_store
from parity.comparison.graphs.inputs import InputArrays
from parity.comparison.graphs.model_store import CAUSES, open_store
from parity.comparison.graphs.request import GraphRequest, GraphSubject
from parity.comparison.graphs.restoration import Restoration
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.state import PreparedModels, SubjectModel, WeightFiles
from parity.comparison.graphs.weights import WeightDifference
from parity.comparison.plain_data import decode, encode
from parity.comparison.results import NOT_CHECKED, NOT_COMPARED, Level, Outcome
from parity.comparison.state import ReferenceRun, SubjectCapture
from parity.errors import ChildError, UsageError
from parity.explain.cause import Cause
from parity.network.alignment import Alignment
from parity.network.alignment.result import Confidence, NodePair, TensorPair, WeightPair
from parity.network.alignment.transform import Blocks, Slice, WeightTransform
from parity.network.graph import Graph, Node, Parameter, Port, Tensor
from parity.network.rearrangement import Rearrangement
from parity.numerics.npz import load_npz, save_npz
from parity.numerics.verdict import PointResult, Status, SubjectResult
from parity.processes import probe, registry
from parity.processes.cache import Cache
from parity.processes.references import parse_reference
from parity.processes.warm import identity
from parity.report.graph_assembly import GraphFindings

PAIR = ("torchvision:resnet18", "timm:resnet18")


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("PARITY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    return _folder(tmp_path)


def _folder(parent: Path) -> Path:
    found = parent / f"run{len(list(parent.glob('run*')))}"
    found.mkdir()
    return found


def _open(folder: Path, references: tuple[str, ...] = PAIR, **fields: Any) -> Any:
    request = GraphRequest(references, **{"export": False, "device": "cpu", **fields})
    found = open_store(request, Cache(), folder, uses_gpu=False)
    if found is not None:
        found.sources.update(_Source(Path(__file__)).read())
    return found


@dataclass
class _Source:
    """A child that has loaded one module."""

    path: Path

    def call(self, operation: str) -> dict[str, Any]:
        assert operation == "list_module_files"
        return {"files": self.read()}

    def read(self) -> dict[str, list[int]]:
        found = self.path.stat()
        return {str(self.path): [found.st_mtime_ns, found.st_size]}


# The key


@pytest.mark.parametrize(
    "change",
    [
        {"references": ("torchvision:resnet34", "timm:resnet18")},
        {"references": ("torchvision:resnet18,num_classes=10", "timm:resnet18")},
        {"references": ("right=torchvision:resnet18", "timm:resnet18")},
        {"references": ("timm:resnet18", "torchvision:resnet18")},
        {"references": ("torchvision:resnet18", "resnet18")},
        {"weights": "random"},
        {"seed": 1},
        {"shapes": {"x": (1, 3, 64, 64)}},
        {"input": "random"},
        {"input": np.zeros((1, 3, 8, 8), np.float32)},
        {"batch": 2},
        {"image_size": (64, 64)},
        {"preprocess": "scale"},
        {"export": True},
        {"opset": 18},
        {"subjects": ("resnet18",)},
        {"reference": "resnet18"},
        {"device": "auto"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_the_request_says_of_the_models_is_in_the_key(folder, change):
    assert _open(folder).facts == _open(folder).facts
    assert _open(folder, **change).facts != _open(folder).facts


def test_the_bytes_of_an_input_are_in_the_key(folder, tmp_path):
    file = tmp_path / "x.npy"
    found = []
    for value in (0.0, 1.0):
        np.save(file, np.full((1, 3, 8, 8), value, np.float32))
        found.append(_open(folder, inputs={"x": str(file)}).facts)
    assert found[0] != found[1]
    arrays = [_open(folder, input=np.full((1, 3, 8, 8), v, np.float32)).facts for v in (0.0, 1.0)]
    assert arrays[0] != arrays[1]


@pytest.mark.parametrize("change", ["source", "python", "numpy", "versions", "zoos"])
def test_what_is_installed_for_a_child_is_in_the_key(folder, monkeypatch, change):
    before = _open(folder).facts
    probe_interpreter = probe.probe_interpreter

    def changed(runtime, python=None):
        value: Any = {"torchvision": "9.9"} if change in ("versions", "zoos") else "9.9"
        return replace(probe_interpreter(runtime, python), **{change: value})

    monkeypatch.setattr(probe, "probe_interpreter", changed)
    assert _open(folder).facts != before


@pytest.mark.parametrize(
    "function", ["hash_installation", "read_child_conditions", "processor_name", "numpy"]
)
def test_this_installation_and_machine_are_in_the_key(folder, monkeypatch, function):
    before = _open(folder).facts
    if function == "numpy":
        monkeypatch.setattr(np, "__version__", "9.9")
    elif function == "processor_name":
        monkeypatch.setattr(model_store, function, lambda: "another")
    else:
        monkeypatch.setattr(identity, function, lambda *_: {"other": 1})
    assert _open(folder).facts != before


def test_a_variable_of_the_children_is_in_the_key(folder, monkeypatch):
    before = _open(folder).facts
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert _open(folder).facts != before


@pytest.mark.parametrize(
    "change",
    [{"depth": "layer"}, {"limit": 5.0}, {"isolate": True}, {"explain": False},
     {"precision": "float16"}, {"judge_as": "tf32"}, {"semantics": True}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_what_the_request_says_of_the_judgement_is_not_of_the_models(folder, change):
    assert _open(folder, **change).facts == _open(folder).facts
    assert _open(folder, **change).judgement != _open(folder).judgement


# What is left out


def test_a_users_code_and_files_are_never_kept(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("def net(): ...")
    (tmp_path / "w.pth").write_bytes(b"weights")
    (tmp_path / "net.onnx").write_bytes(b"\x08\x07 a graph")
    (tmp_path / "config.json").touch()
    for reference in ("net.py:net", "package.module:net", "net.onnx", f"hf:{tmp_path}",
                      "torchvision:resnet18,weights=w.pth", "timm:resnet18,checkpoint_path=w.pth",
                      "timm:resnet18,overlay=['w.pth']", "resnet18,weights=w.pth"):  # fmt: skip
        assert _open(folder, (reference, "torchvision:resnet18")) is None, reference
    assert _open(folder, weights="torchvision:resnet34") is None
    assert _open(folder, table=tmp_path / "pairs.csv") is None
    assert _open(folder, custom_objects="net.py") is None
    assert _open(folder, input=str(tmp_path)) is None


def test_a_runtime_from_elsewhere_is_not_kept(folder, monkeypatch):
    own = registry.get
    monkeypatch.setattr(
        registry, "get", lambda name: replace(own(name), module=f"mine.{name}")
    )  # fmt: skip
    assert _open(folder) is None


def test_a_zoo_from_elsewhere_is_not_kept(folder, monkeypatch):
    zoos = model_store.zoos.all_zoos()
    other = {**zoos, "timm": replace(zoos["timm"], module="elsewhere.load")}
    monkeypatch.setattr(model_store.zoos, "all_zoos", lambda: other)
    assert _open(folder) is None
    assert _open(folder, ("torchvision:resnet18", "resnet18")) is not None


def test_without_the_cache_and_on_a_gpu_nothing_is_kept(folder):
    request = GraphRequest(PAIR)
    assert open_store(request, Cache(enabled=False), folder, uses_gpu=False) is None
    assert open_store(request, Cache(), folder, uses_gpu=True) is None


def test_a_child_that_depends_on_the_working_folder_is_not_kept(folder, monkeypatch):
    monkeypatch.setattr(identity, "read_child_conditions", lambda *_: None)
    assert _open(folder) is None


def test_a_folder_with_other_files_is_refused(folder, root):
    root.mkdir()
    (root / "thesis.tex").touch()
    with pytest.raises(UsageError, match="not a parity cache"):
        _open(folder)


# Models


def _graph() -> Graph:
    weight = Parameter("w", "kernel", (2, 3), "float32")
    node = Node("n", "dense", "linear", ("x",), ("y",), (weight,), hyper={"units": 2})
    tensors = {"x": Tensor("x", (1, 3), "float32"), "y": Tensor("y", (1, 2), "float32")}
    return Graph("torch", (node,), tensors, (Port("x", "x"),), (Port("y", "y"),))


def _alignment() -> Alignment:
    transform = WeightTransform((2, 3), (1, 0), (6,), (Slice(0, 0, 2),), (), Blocks(1, (1, 0)), 1)
    tensors = (TensorPair("y", "y", Rearrangement((1, 2), (0, 1)), open=True),)
    pair = NodePair(
        ("n",), ("n",), tensors, (WeightPair("w", "w", transform),), Confidence.SURE, "equal",
        "dense",
    )  # fmt: skip
    return Alignment(
        (pair,), ("u",), (), {"x": "x"}, {"y": "y"}, {"x": Rearrangement()}, {}, (("n", "m"),),
        (), ("s",), (("a",), ("b",)), assembly=object(),
    )  # fmt: skip


def _prepare(folder: Path, **fields: Any) -> PreparedModels:
    """Two models and an export of one."""
    models = {}
    for number, name in enumerate(("right", "wrong", "onnx-wrong")):
        inputs = InputArrays({"x": np.full((1, 3), number, np.float32)}, "noise")
        file = inputs.save(folder / f"inputs.{name}.npz")
        save_npz(folder / f"weights.{name}.npz", {"w": np.full((2, 3), number, np.float32)})
        is_export = name.startswith("onnx")
        if is_export:
            (folder / f"{name}.onnx").write_bytes(b"graph")
        reference = str(folder / f"{name}.onnx") if is_export else "torchvision:resnet18"
        subject = GraphSubject(
            name, "onnx" if is_export else "torch", f"child{number}", parse_reference(reference),
            exported_from="wrong" if is_export else "",
        )  # fmt: skip
        models[name] = SubjectModel(
            subject, _graph(), inputs, file, False, {"torch": "2"}, 1.0, ("note",), ["shared"]
        )
    found = PreparedModels(
        (models["right"].subject, models["wrong"].subject), "right", models,
        {"wrong": _alignment(), "onnx-wrong": _alignment()},
        {name: folder / f"weights.{name}.npz" for name in models}, "random, seed 0", ("a note",),
    )  # fmt: skip
    return replace(found, **fields)


def _plain(prepared: PreparedModels) -> dict[str, Any]:
    """Everything but files and times."""
    return {
        "subjects": [replace(each, reference=None) for each in prepared.subjects],
        "base": prepared.base,
        "alignments": prepared.alignments,
        "source": prepared.weight_source,
        "notes": prepared.notes,
        "models": {
            name: (
                each.graph, each.record, each.notes, each.versions, each.inputs.sha256,
                each.inputs.source, replace(each.subject, reference=None),
                {n: a.tobytes() for n, a in load_npz(each.input_file).items()},
            )
            for name, each in prepared.models.items()
        },
    }  # fmt: skip


def test_models_are_found_as_they_were_kept(folder, tmp_path):
    made = _prepare(folder)
    store = _open(folder)
    assert store.find_models() is None
    assert store.note is None
    store.keep_models(made)
    again = _open(_folder(tmp_path))
    found = again.find_models()
    assert _plain(found) == _plain(made)
    assert np.array_equal(load_npz(found.weights["wrong"])["w"], np.full((2, 3), 1.0))
    assert Path(found.models["onnx-wrong"].subject.reference.target).read_bytes() == b"graph"
    assert again.note == "from an earlier run, in the cache: models; --no-cache makes them anew"
    assert _open(folder, seed=1).find_models() is None


def test_what_a_comparison_writes_is_not_in_the_cache(folder, tmp_path, root):
    _open(folder).keep_models(_prepare(folder))
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    again = _folder(tmp_path)
    found = _open(again).find_models()
    for name, model in found.models.items():
        model.input_file.write_bytes(b"made anew")
        (again / f"{name}.onnx").write_bytes(b"made anew")
        (again / f"weights.{name}.npz").write_bytes(b"made anew")
    assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("suffix", [".json", ".npz", ".onnx"])
@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_entry_is_made_anew(folder, tmp_path, root, suffix, damage):
    _open(folder).keep_models(_prepare(folder))
    entry = max(root.rglob(f"*{suffix}"), key=lambda path: path.name)
    if damage == "gone":
        entry.unlink()
    else:
        data = bytearray(entry.read_bytes())
        data[len(data) // 2] ^= 1
        entry.write_bytes(data)
    cache = Cache()
    request = GraphRequest(PAIR, export=False, device="cpu")
    damaged = open_store(request, cache, _folder(tmp_path), uses_gpu=False)
    damaged.sources.update(_Source(Path(__file__)).read())
    assert damaged.find_models() is None
    assert damaged.note is None
    assert [note for note in cache.notes if "damaged" in note] == cache.notes
    assert len(cache.notes) == (damage == "changed")
    damaged.keep_models(_prepare(_folder(tmp_path)))
    assert _open(_folder(tmp_path)).find_models() is not None


def _open_with(folder: Path, tmp_path: Path, prepared: PreparedModels, module: Path) -> Any:
    store = _open(_folder(tmp_path))
    store.read_sources(_list_children(prepared, module), prepared)
    return store


def _list_children(prepared: PreparedModels, module: Path) -> dict[str, _Source]:
    return {model.subject.child: _Source(module) for model in prepared.models.values()}


def test_a_module_that_was_edited_since_is_seen(folder, tmp_path):
    prepared, module = _prepare(folder), tmp_path / "zoo.py"
    module.write_text("x = 1\n")
    os.utime(module, (1e9, 1e9))
    store = _open_with(folder, tmp_path, prepared, module)
    store.keep_models(prepared)
    store.keep_result(CAUSES, {}, [1])
    again = _open(_folder(tmp_path))
    assert again.find_models() is not None
    assert again.find_result(CAUSES, {}) == [1]
    module.write_text("x = 2\n")
    os.utime(module, (1e9 + 1, 1e9 + 1))
    assert _open(_folder(tmp_path)).find_models() is None
    assert _open_with(folder, tmp_path, prepared, module).find_result(CAUSES, {}) is None
    module.unlink()
    assert _open(_folder(tmp_path)).find_models() is None


def test_where_a_module_was_written_meanwhile_nothing_is_kept(folder, tmp_path):
    prepared, module = _prepare(folder), tmp_path / "zoo.py"
    store = _open(_folder(tmp_path))
    module.write_text("x = 1\n")
    os.utime(module, (time.time() + 1, time.time() + 1))
    store.read_sources(_list_children(prepared, module), prepared)
    store.keep_models(prepared)
    store.keep_result(CAUSES, {}, [1])
    assert store.find_models() is None
    assert store.find_result(CAUSES, {}) is None


def test_where_the_modules_are_not_known_nothing_is_kept(folder, tmp_path):
    store, prepared = _open(_folder(tmp_path)), _prepare(folder)
    store.sources.clear()
    store.keep_models(prepared)
    assert store.find_models() is None


def test_files_of_two_runs_are_never_mixed(folder, tmp_path):
    """Two runs may draw other bits; what names the weights says which bits."""
    first, second = _prepare(folder), _prepare(_folder(tmp_path))
    save_npz(second.weights["right"], {"w": np.full((2, 3), 7, np.float32)})
    save_npz(second.weights["wrong"], {"w": np.full((2, 3), 7, np.float32)})
    _open(folder).keep_models(first)
    _open(folder).keep_models(second)
    found = _open(_folder(tmp_path)).find_models()
    values = [float(load_npz(found.weights[name])["w"][0, 0]) for name in ("right", "wrong")]
    assert values in ([0.0, 1.0], [7.0, 7.0])


def test_what_its_name_does_not_determine_is_not_kept(folder, tmp_path):
    made = _prepare(folder)
    weighted = {**made.models, "right": replace(made.models["right"], brings_weights=True)}
    for changed in (
        replace(made, models=weighted),
        replace(made, notes=(f"onnx-wrong{NOT_COMPARED}no space",)),
        replace(made, notes=(f"wrong{NOT_CHECKED}no memory",)),
    ):
        _open(folder).keep_models(changed)
        assert _open(_folder(tmp_path)).find_models() is None
    (folder / "onnx-wrong.onnx.data").touch()
    _open(folder).keep_models(made)
    assert _open(_folder(tmp_path)).find_models() is None


# Restoration


class _Child:
    def __init__(self, name: str, calls: list[tuple[str, str]]) -> None:
        self.name, self.calls = name, calls

    def hello(self) -> dict[str, Any]:
        return {"versions": {"torch": "3"}, "python": "3.99"}

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        self.calls.append((self.name, operation))
        if self.name == "child1" and operation == "load_reference":
            raise ChildError("child1: died")
        return {"seconds": 2.0}


class _Children(dict[str, _Child]):
    def start(self, names: Any) -> None:
        self.started = list(names)


def test_restored_models_are_loaded_and_nothing_is_read(folder):
    from concurrent.futures import ThreadPoolExecutor

    prepared = _prepare(folder)
    calls: list[tuple[str, str]] = []
    children = _Children({f"child{n}": _Child(f"child{n}", calls) for n in range(3)})
    restoration = Restoration(prepared, children, lambda *_: None)  # type: ignore[arg-type]
    with ThreadPoolExecutor(3) as pool:
        restoration.begin(pool)
    assert sorted(calls) == [
        ("child0", "load_parameters"), ("child0", "load_reference"), ("child0", "restore_graph"),
        ("child1", "load_reference"), ("child2", "load_reference"), ("child2", "restore_graph"),
    ]  # fmt: skip
    assert children.started[0] == "child2"
    restoration.wait("child0")
    with pytest.raises(ChildError, match="died"):
        restoration.wait("child1")
    calls.clear()
    restoration.save_export_weights(prepared.models)
    assert calls == [("child2", "save_parameters")]


# Results


@dataclass(frozen=True)
class _Data:
    x: float
    pairs: tuple[tuple[int, str], ...] = ()
    more: dict[str, frozenset[str]] | None = None


class _Word(StrEnum):
    ONE = "one"


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (_Data, _Data(math.inf, ((1, "a"), (2, "b")), {"k": frozenset("xy")})),
        (tuple[_Word, ...], (_Word.ONE,)),
        (Alignment, _alignment()),
        (list[Level], [Level(Outcome.FAIL, ("why",))]),
        (tuple[PointResult, ...], (PointResult("p", "s", "r", (1, 2), None,
                                               {"a": SubjectResult(Status.EXACT, worst=(0,))}),)),
        (float, np.float64(0.1)),
    ],
)  # fmt: skip
def test_plain_data_comes_back_as_it_was(hint, value):
    assert decode(hint, json.loads(json.dumps(encode(value)))) == value


def test_what_is_no_plain_data_is_refused():
    for value in (object(), {1: 2}, Path("x")):
        with pytest.raises(TypeError):
            encode(value)
    with pytest.raises(TypeError):
        decode(int | str, 1)
    with pytest.raises(TypeError, match="expected the fields"):
        decode(_Data, {"x": 1.0})


class _FloorChild:
    def __init__(self) -> None:
        self.calls = 0

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        self.calls += operation == "measure_floors"
        return {"floors": {}, "isolated": {}}


@dataclass(frozen=True)
class _State:
    request: GraphRequest
    reference: SubjectModel
    weights_sha256: str = "w"


def test_floors_are_kept_by_what_they_were_measured_on(folder, tmp_path):
    from parity.processes.graph_requests import FloorRequest

    child = _FloorChild()
    state = _State(GraphRequest(PAIR), _prepare(folder).models["right"])
    capture = tmp_path / "capture"
    request = FloorRequest("x.npz", (), str(capture), 5, 0, {}, {})

    def measure(state=state, request=request, bits=b"one", **fields):
        capture.write_bytes(bits)
        before = child.calls
        runner = GraphRunner(
            state, {"child0": child}, folder, lambda *_: None, _open(folder, **fields)
        )
        runner._measure(request, capture)
        return child.calls - before

    assert measure() == 1
    assert measure() == 0
    assert measure(request=replace(request, inputs="another file of the same")) == 0
    inputs = InputArrays({"x": np.full((1, 3), 9, np.float32)}, "noise")
    other = replace(state.reference, inputs=inputs)
    assert measure(bits=b"two") == 1
    assert measure(request=replace(request, seed=1)) == 1
    assert measure(state=replace(state, reference=other)) == 1
    assert measure(state=replace(state, weights_sha256="v")) == 1
    assert measure(seed=1) == 1
    assert measure() == 0


def test_causes_are_kept_by_the_bits_that_they_explain(folder, tmp_path, monkeypatch):
    searches = []
    cause = Cause("layer", "wrong", "stride", {"before": math.inf}, "The stride is 2", "set 1")

    def explain(state, runner, findings, reference, unrelated):
        searches.append(1)
        return replace(
            findings, causes=(cause,), notes=(*findings.notes, "found"), is_explained=complete,
            structure=Level(Outcome.FAIL, ("stride",)), followers=frozenset({("wrong", "row")}),
        )  # fmt: skip

    monkeypatch.setattr(compare_graphs, "_explain", explain)
    (tmp_path / "wrong").write_bytes(b"wrong")
    (tmp_path / "reference").write_bytes(b"reference")

    @dataclass(frozen=True)
    class State:
        failures: dict[str, str]

    def find(*, failures=None, floors=None, note="own", **fields):
        before = len(searches)
        runs = {"wrong": SubjectCapture(tmp_path / "wrong", {})}
        reference = ReferenceRun(tmp_path / "reference", floors or {}, {})
        store = _open(folder, **fields)
        state = State(failures or {})
        runner = GraphRunner(state, {}, folder, lambda *_: None, store)  # type: ignore[arg-type]
        found = compare_graphs._find_explanation(
            state, runner, GraphFindings(runs=runs, reference=reference, notes=(note,)),
            reference, {},
        )  # type: ignore[arg-type]  # fmt: skip
        assert found.causes == (cause,)
        assert found.notes == (note, "found")
        assert found.structure == Level(Outcome.FAIL, ("stride",))
        assert found.followers == {("wrong", "row")}
        assert (CAUSES in (store.note or "")) == (len(searches) == before)
        return len(searches) - before

    complete = False
    assert find() == 1
    # A search that failed is not kept.
    complete = True
    assert find() == 1
    assert find() == 0
    assert find(note="another") == 0
    assert find(limit=5.0) == 1
    assert find(seed=1) == 1
    assert find(failures={"x": "died"}) == 1
    assert find(floors={"row": _floor()}) == 1
    for name in ("wrong", "reference"):
        (tmp_path / name).write_bytes(b"other bits")
        assert find() == 1
    assert find() == 0


def test_the_check_of_weights_is_kept_by_the_files(folder, tmp_path, monkeypatch):
    prepared = _prepare(folder)
    pair = WeightPair("w", "w", WeightTransform())
    found = {"wrong": [WeightDifference(pair, math.inf, "w differs")]}
    checks = []
    monkeypatch.setattr(
        compare_graphs, "_compare_all_weights", lambda state: checks.append(1) or found
    )

    def check() -> int:
        before = len(checks)
        state = SimpleNamespace(
            models=prepared.models, reference=prepared.models["right"], weights=prepared.weights,
            weight_files=WeightFiles(),
        )  # fmt: skip
        assert compare_graphs._find_weight_differences(state, _open(folder)) == found
        return len(checks) - before

    assert [check(), check()] == [1, 0]
    for name in ("right", "wrong"):
        save_npz(prepared.weights[name], {"w": np.full((2, 3), 5, np.float32)})
        assert check() == 1
    # An export's weights may not be there: its numbers are judged.
    prepared.weights["onnx-wrong"].unlink()
    assert check() == 0


def _floor() -> Any:
    from parity.numerics.floor import Floor

    return Floor(1e-6, 1e-6, 5, 1.0)
