"""The cache of what is made of models that their names determine: a zoo's, and registered ones.

A user's file or folder may read others, which no key can cover: nothing of it is kept. The key
covers the models with their options, what the request says of inputs, weights and exports, the
source of `parity`, every installed package and the conditions that a child is started in. An entry
names the files of all modules that its children had loaded: where one has changed since, in a
package that is edited in place, it is not used. What is measured with the models is kept by the
bits of what it was measured on.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.inputs import InputArrays
from parity.comparison.graphs.request import GraphRequest, GraphSubject
from parity.comparison.graphs.state import PreparedModels, SubjectModel
from parity.comparison.plain_data import decode, encode
from parity.comparison.results import NOT_CHECKED, NOT_COMPARED
from parity.comparison.settings import RANDOM
from parity.network.alignment import Alignment
from parity.network.graph import Graph
from parity.numerics.npz import load_npz, save_npz
from parity.processes import probe, registry, zoos
from parity.processes.cache import Cache, require_own_folder
from parity.processes.children import Children
from parity.processes.interpreters import is_own_interpreter, select_interpreter
from parity.processes.machine import processor_name
from parity.processes.references import (
    REGISTERED,
    ZOO,
    ModelReference,
    parse_reference,
)
from parity.processes.subjects import child_name, parse_child_name
from parity.processes.variables import child_variables
from parity.processes.warm import identity

Array = NDArray[Any]

MODELS, FLOORS, CHECK, CAUSES = "models", "floors", "check of weights", "causes"
"""What is kept: the models with their graphs, pairs, weights and exports; the floors; the
differences of weights; the causes of differences."""

_OF_PREPARATION = (
    *("weights", "shapes", "export", "classes", "image_size", "channels", "batch", "preprocess"),
    *("seed", "subjects", "reference", "opset", "device"),
)
"""The fields of a request that the models, their inputs, weights and exports depend on, apart from
the references and the inputs."""

_OF_JUDGEMENT = (
    *("depth", "limit", "isolate", "semantics", "explain", "precision", "judge_as"),
    *("subjects", "reference"),
)
"""The fields that what is found out about the captures depends on."""


@dataclass(frozen=True)
class ModelStore:
    """The cache entries of the models of one request. Several threads may use it."""

    cache: Cache
    facts: Mapping[str, Any]
    """Everything that determines the models, as JSON data."""
    judgement: Mapping[str, Any]
    """What further determines what is found out about their captures."""
    folder: Path
    """A folder for the files of this comparison."""
    sources: dict[str, list[int]] = field(default_factory=dict)
    """By the file of each module that the models' children had loaded, its time in ns and size."""
    _started: int = field(default_factory=time.time_ns)
    _used: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def note(self) -> str | None:
        """A sentence for the report on what was found; None if nothing was."""
        if not self._used:
            return None
        return (
            f"from an earlier run, in the cache: {', '.join(sorted(self._used))}; --no-cache makes "
            "them anew"
        )

    # Results -------------------------------------------------------------------------------------

    def find_result(self, what: str, on: Mapping[str, Any]) -> Any:
        """Return the JSON data of a result that was computed on the same bits, or None."""
        path = self.cache.find("results", self._key(what, on))
        if path is None:
            return None
        self._used.add(what)
        return json.loads(path.read_bytes())

    def keep_result(self, what: str, on: Mapping[str, Any], data: Any) -> None:
        """Keep JSON data; `on` are hashes and values of all that it was computed on.

        Not where a module was written since this comparison began: an older one may be loaded.
        """
        if not self._has_older_sources():
            return
        path = self.folder / f"result.{what}.json"
        with self._lock:
            path.write_text(json.dumps(data), encoding="utf-8")
            self.cache.publish("results", self._key(what, on), path)

    def _key(self, what: str, on: Mapping[str, Any]) -> dict[str, Any]:
        sources = sorted(self.sources.items()) if what != MODELS else None
        return {"models": self.facts, "what": what, "on": on, "sources": sources}

    # Sources -------------------------------------------------------------------------------------

    def read_sources(self, children: Children, prepared: PreparedModels) -> None:
        """Ask the children of models for the files of the modules that they have loaded.

        Raises `ParityError` where one does not answer.
        """
        for child in dict.fromkeys(model.subject.child for model in prepared.models.values()):
            self.sources.update(children[child].call("list_module_files")["files"])

    def _has_older_sources(self) -> bool:
        """Return whether the sources are known and none was written while the models were read."""
        last = max((time_ns for time_ns, _ in self.sources.values()), default=None)
        return last is not None and last < self._started

    # Models --------------------------------------------------------------------------------------

    def find_models(self) -> PreparedModels | None:
        """Return the models as an earlier run prepared them, their files verified; or None."""
        data = self.find_result(MODELS, {})
        is_current = data is not None and all(
            _is_unchanged(path, state) for path, state in data["sources"].items()
        )
        prepared = self._decode_models(data) if is_current else None
        if prepared is None:
            self._used.discard(MODELS)
        else:
            self.sources.update(data["sources"])
        return prepared

    def _decode_models(self, data: Mapping[str, Any]) -> PreparedModels | None:
        """Return the models of an entry; None if one of their files is gone or damaged."""
        inputs: dict[str, Path | None] = {}
        files: dict[str, Path | None] = {}
        for name, entry in data["models"].items():
            kind = "graphs" if entry["exported_from"] else "arrays"
            inputs[name] = self.cache.find("arrays", {"sha256": entry["inputs_sha256"]})
            files[name] = self.cache.find(kind, {"sha256": entry["weights_sha256"]})
        models: dict[str, SubjectModel] = {}
        weights: dict[str, Path] = {}
        for name, entry in data["models"].items():
            arrays, kept = inputs[name], files[name]
            if arrays is None or kept is None:
                return None
            models[name] = self._decode_model(entry, name, arrays, kept)
            is_export = bool(entry["exported_from"])
            weights[name] = self.folder / f"weights.{name}.npz" if is_export else kept
        return PreparedModels(
            tuple(models[name].subject for name in data["subjects"]),
            data["base"],
            models,
            {name: decode(Alignment, each) for name, each in data["alignments"].items()},
            weights,
            data["weight_source"],
            tuple(data["notes"]),
        )

    def keep_models(self, prepared: PreparedModels) -> None:
        """Keep what `find_models` then returns, if it is reproducible and of files that fit."""
        files = {
            name: Path(model.subject.reference.target)
            for name, model in prepared.models.items()
            if model.subject.exported_from and model.subject.reference is not None
        }
        if not _is_reproducible(prepared) or any(map(_has_external_data, files.values())):
            return
        if not self._has_older_sources():
            return
        models = {}
        for name, model in prepared.models.items():
            inputs = self.folder / f"kept.{name}.npz"
            save_npz(inputs, model.inputs.arrays)
            kind, file = (
                ("graphs", files[name]) if name in files else ("arrays", prepared.weights[name])
            )
            models[name] = {
                **_encode_model(model),
                "inputs_sha256": self._keep_file("arrays", inputs),
                "weights_sha256": self._keep_file(kind, file),
            }
        data = {
            "subjects": [subject.name for subject in prepared.subjects],
            "base": prepared.base,
            "models": models,
            "alignments": {name: encode(each) for name, each in prepared.alignments.items()},
            "weight_source": prepared.weight_source,
            "notes": list(prepared.notes),
            "sources": self.sources,
        }
        self.keep_result(MODELS, {}, data)

    def _keep_file(self, kind: str, file: Path) -> str:
        """Keep a file by its content, and return its SHA-256: entries of models name it."""
        sha256 = hash_file(file)
        self.cache.publish(kind, {"sha256": sha256}, file)
        return sha256

    def _decode_model(
        self, entry: Mapping[str, Any], name: str, arrays: Path, file: Path
    ) -> SubjectModel:
        """Return a model; `arrays` are its inputs, `file` its weights, or the graph of an export.

        What this comparison may write to is not in the cache.
        """
        if entry["exported_from"]:
            # In a folder of its own: where it is not used after all, the export is made anew.
            path = self.folder / "kept" / f"{name}.onnx"
            path.parent.mkdir(exist_ok=True)
            path.symlink_to(file.resolve())
            reference = parse_reference(str(path))
        else:
            reference = ModelReference.from_json(entry["reference"])
        inputs = InputArrays(load_npz(arrays), entry["source"], entry["has_photograph"])
        return SubjectModel(
            GraphSubject(
                name,
                entry["runtime"],
                entry["child"],
                reference,
                exported_from=entry["exported_from"],
            ),
            Graph.from_json(entry["graph"], name),
            inputs,
            inputs.save(self.folder / f"inputs.{name}.npz"),
            entry["brings_weights"],
            entry["versions"],
            0.0,
            tuple(entry["notes"]),
            entry["record"],
        )


def open_store(
    request: GraphRequest, cache: Cache, folder: Path, *, uses_gpu: bool
) -> ModelStore | None:
    """Return the cache of a request's models; None if their names do not determine them.

    Raises `UsageError` for a cache folder that holds other files, and `InterpreterError` for an
    interpreter that cannot be asked for its packages.
    """
    if not cache.enabled or uses_gpu or not _is_determined(request):
        return None
    require_own_folder()
    inputs = _describe_inputs(request)
    conditions = _describe_children(request)
    if inputs is None or conditions is None:
        return None
    fields = {name: getattr(request, name) for name in _OF_PREPARATION}
    facts = {
        "models": [
            [name, runtime, reference.to_json(), request.environments.get(name)]
            for name, runtime, reference in request.name_models()
        ],
        "request": encode(fields),
        "inputs": inputs,
        "numpy": np.__version__,
        "processor": processor_name(),
        "installation": identity.hash_installation(),
        "children": conditions,
    }
    judgement = encode({name: getattr(request, name) for name in _OF_JUDGEMENT})
    return ModelStore(cache, facts, judgement, folder)


def _is_determined(request: GraphRequest) -> bool:
    """Return whether the names of a request's models determine them."""
    if request.weights not in (None, RANDOM) or request.table or request.custom_objects:
        return False
    return all(_is_fixed(runtime, reference) for _, runtime, reference in request.name_models())


def _is_fixed(runtime: str, reference: ModelReference) -> bool:
    """Return whether a model is a zoo's or registered, without weights or options that are files.

    A runtime or a zoo outside of `parity` is not covered by the hash of its source.
    """
    if not registry.get(runtime).module.startswith("parity."):
        return False
    if reference.form == ZOO:
        zoo = zoos.all_zoos()[reference.zoo]
        if zoo.holds_folders or not zoo.module.startswith("parity."):
            return False
    elif reference.form != REGISTERED:
        return False
    return not any(map(_may_be_file, [*reference.arguments, *reference.options.values()]))


def _may_be_file(value: Any) -> bool:
    if isinstance(value, Mapping | list | tuple | set):
        items = value.values() if isinstance(value, Mapping) else value
        return any(map(_may_be_file, items))
    try:
        return isinstance(value, str | Path) and Path(value).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False


def _describe_inputs(request: GraphRequest) -> dict[str, Any] | None:
    """Return hashes of the inputs that a request gives; None for one that is many files."""
    found = {"": request.input, **request.inputs}
    hashes: dict[str, Any] = {}
    for name, value in found.items():
        if isinstance(value, str | Path) and _may_be_file(value):
            path = Path(value).expanduser()
            if not path.is_file():
                return None
            with path.open("rb") as file:
                # The suffix says how the file is read.
                hashes[name] = [path.suffix, hashlib.file_digest(file, "sha256").hexdigest()]
        elif value is None or isinstance(value, str):
            hashes[name] = value
        elif isinstance(value, np.ndarray):
            hashes[name] = InputArrays({"": value}, "").sha256
        else:
            return None
    return hashes


def _describe_children(request: GraphRequest) -> list[Any] | None:
    """Return what the children of a request depend on; None if on the working folder too."""
    models = [(runtime, request.environments.get(name)) for name, runtime, _ in
              request.name_models()]  # fmt: skip
    exports = [(runtime, None) for runtime in registry.graph_runtimes()[:1] if request.export]
    found: list[Any] = []
    for runtime, environment in dict.fromkeys([*models, *exports]):
        child = child_name(runtime, environment=environment)
        python = select_interpreter(child, request.python)
        variables = child_variables(
            parse_child_name(child), own_interpreter=is_own_interpreter(python), gpu=False
        )
        conditions = identity.read_child_conditions(runtime, variables)
        if conditions is None:
            return None
        facts = probe.probe_interpreter(runtime, python)
        found.append(
            [
                child,
                identity.hash_conditions(conditions),
                facts.source,
                facts.python,
                facts.numpy,
                dict(facts.versions),
                dict(facts.zoos),
            ]
        )
    return found


def _is_unchanged(path: str, state: Sequence[int]) -> bool:
    """Return whether a file has the time in ns and the size of `state`."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    return [found.st_mtime_ns, found.st_size] == list(state)


def _is_reproducible(prepared: PreparedModels) -> bool:
    """Return whether its models' names determine it all: no weights of files, and no failure."""
    failed = any(text in note for text in (NOT_COMPARED, NOT_CHECKED) for note in prepared.notes)
    own = [each for each in prepared.models.values() if not each.subject.exported_from]
    return not failed and not any(each.brings_weights for each in own)


def _encode_model(model: SubjectModel) -> dict[str, Any]:
    subject = model.subject
    reference = None
    if subject.reference is not None and not subject.exported_from:
        reference = subject.reference.to_json()
    return {
        "runtime": subject.runtime,
        "child": subject.child,
        "reference": reference,
        "exported_from": subject.exported_from,
        "graph": model.graph.to_json(),
        "record": model.record,
        "source": model.inputs.source,
        "has_photograph": model.inputs.has_photograph,
        "brings_weights": model.brings_weights,
        "versions": dict(model.versions),
        "notes": list(model.notes),
    }


def _has_external_data(file: Path) -> bool:
    """Return whether a graph's weights are in another file beside it: it has more than 2 GB."""
    return sum(1 for _ in file.parent.glob(f"{file.name}*")) != 1


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
