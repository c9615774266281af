"""The address of a comparison's result: a hash of everything that the result depends on.

It holds the content of files and of the user's code, not their places, so that the same comparison
has the same address for two people. The machine's kind is a hash of its own, since a result of
another machine is another result of the same comparison.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parity.comparison.graphs.request import GraphRequest
from parity.comparison.request import NAMES_MODEL, Request
from parity.errors import RequirementError, UsageError
from parity.network import architectures
from parity.processes import gpus, probe, registry, zoos
from parity.processes.interpreters import select_interpreter
from parity.processes.machine import processor_name
from parity.processes.references import FILE, ZOO, ModelReference, parse_reference, split_name
from parity.processes.script_imports import guess_script_runtime, list_sources
from parity.processes.subjects import parse_child_name

SCHEMA = "parity.cell/1"

_NOT_IN_RESULT = {
    *("python", "timeout", "cache", "save_captures", "judge", "serial", "trust"),
    *("model_references",),
}
"""Fields of a request that no figure depends on, or that are addressed by their content."""

_PATHS = ("weights", "input", "inputs", "table", "custom_objects", "labels")
"""Fields of a request that may name files, whose content counts."""

_EXTERNAL_DATA = (".data", "_data")
"""Behind the name of an ONNX file, the usual names of the file with its weights."""


class CellAddresses:
    """The addresses of a sweep's cells; each file and each interpreter is read once."""

    def __init__(self, *, threads: int) -> None:
        self._threads = threads
        self._digest_path = functools.cache(_digest_path)
        self._probe = functools.cache(probe.probe_interpreter)

    def address(self, request: Request | GraphRequest) -> str:
        """Return the address of a request's result, 32 hexadecimal digits.

        Raises `UsageError` for a file that cannot be read, and `InterpreterError` for an
        interpreter that cannot run this `parity`.
        """
        facts = {
            "schema": SCHEMA,
            "parity": probe.source_digest(),
            "threads": self._threads,
            "settings": dict(self._list_settings(request)),
            "models": [self._describe_reference(text) for text in list_references(request)],
            "versions": self._list_versions(request),
        }
        return _hash(facts)

    def _list_settings(self, request: Request | GraphRequest) -> Iterator[tuple[str, Any]]:
        for field in dataclasses.fields(request):
            if field.name in _NOT_IN_RESULT or field.metadata == NAMES_MODEL:
                continue
            if field.name in ("references", "model"):
                continue
            value = getattr(request, field.name)
            is_path = field.name in _PATHS
            yield field.name, self._describe_content(value) if is_path else _describe_value(value)

    def _describe_content(self, value: Any) -> Any:
        """Return plain data for a value; a file or folder is described by its content."""
        if isinstance(value, Mapping):
            return {str(key): self._describe_content(each) for key, each in value.items()}
        if isinstance(value, str | Path):
            digest = self._digest_path(str(value))
            return str(value) if digest is None else {"content": digest}
        return _describe_value(value)

    def _describe_reference(self, text: str) -> dict[str, Any]:
        name, body = split_name(text)
        reference = parse_reference(body)
        described: dict[str, Any] = {
            "name": name,
            "form": reference.form,
            "target": reference.target,
            "attribute": reference.attribute,
            "zoo": reference.zoo,
            "arguments": list(map(self._describe_content, reference.arguments)),
            "options": self._describe_content(reference.options),
        }
        if reference.is_code:
            sources = list_sources(reference)
            if not sources:
                raise UsageError(f"{text}: its code was not found; name the file: file.py:NAME")
            # The script's own path is another for everybody.
            described["target"] = [self._digest_path(str(path)) for path in sources]
        elif reference.form == FILE or _is_folder_of_zoo(reference):
            described["target"] = [
                self._digest_path(f"{reference.target}{suffix}") for suffix in ("", *_EXTERNAL_DATA)
            ]
            described["stem"] = reference.stem
        return described

    def _list_versions(self, request: Request | GraphRequest) -> dict[str, Any]:
        found = {}
        for child in list_children(request):
            runtime = parse_child_name(child).runtime
            installation = self._probe(runtime, select_interpreter(child, request.python))
            versions = {**installation.versions}
            if _uses_zoo(request, runtime):
                versions |= installation.zoos
            found[child] = {
                **dict(sorted(versions.items())),
                "python": installation.python,
                "numpy": installation.numpy,
                "parity": installation.source,
            }
        return found


def _is_folder_of_zoo(reference: ModelReference) -> bool:
    return reference.form == ZOO and zoos.all_zoos()[reference.zoo].holds_folders


def _describe_value(value: Any) -> Any:
    """Return plain data for a value of an option."""
    if isinstance(value, Mapping):
        return {str(key): _describe_value(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_describe_value(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "tobytes"):
        digest = hashlib.sha256(value.tobytes()).hexdigest()
        return {"array": digest, "shape": list(value.shape), "dtype": str(value.dtype)}
    return str(value)


def describe_hardware(*, gpu: bool) -> dict[str, str | None]:
    """Return the kind of this machine, and with `gpu` the name of its GPU."""
    name = None
    if gpu:
        try:
            name = gpus.find_gpu().name
        except RequirementError:
            name = None
    return {"machine": platform.machine(), "processor": processor_name(), "gpu": name}


def hash_hardware(hardware: Mapping[str, str | None]) -> str:
    """Return the hash of a machine's kind, 8 hexadecimal digits."""
    return _hash(hardware)[:8]


def list_references(request: Request | GraphRequest) -> list[str]:
    """Return the references of the models of a request; a twin's or export's has its name."""
    if isinstance(request, GraphRequest):
        return list(request.references)
    found = [] if request.model is None else [request.model]
    for name, value in (
        ("keras", request.keras),
        ("torch", request.torch),
        ("onnx-keras", request.onnx_keras),
        ("onnx-torch", request.onnx_torch),
    ):
        if value is not None:
            found.append(f"{name}={value}")
    return found


def list_children(request: Request | GraphRequest) -> list[str]:
    """Return the names of the children that a comparison needs, as far as they can be told."""
    if not isinstance(request, GraphRequest):
        return sorted(request.runtimes)
    found: set[str] = set()
    for _, _, reference in request.name_models():
        found |= set(_guess_runtimes(reference))
    if request.export:
        found |= set(registry.graph_runtimes())
    if found.isdisjoint(registry.model_runtimes()):
        found.add(registry.graph_evaluator())
    return sorted(found)


def _guess_runtimes(reference: ModelReference) -> tuple[str, ...]:
    runtime = reference.runtime or guess_script_runtime(reference)
    return (runtime,) if runtime else registry.model_runtimes()


def _uses_zoo(request: Request | GraphRequest, runtime: str) -> bool:
    if not isinstance(request, GraphRequest):
        return False
    return any(r.form == ZOO and r.runtime == runtime for _, _, r in request.name_models())


def _digest_path(text: str) -> str | None:
    """Return the SHA-256 of a file, or of a folder's names and files; None if there is none."""
    if len(text) > 4096 or text in architectures.all_names():
        return None
    path = Path(text).expanduser()
    try:
        if path.is_file():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        if not path.is_dir():
            return None
        files = sorted(each for each in path.rglob("*") if each.is_file())
        listed = [(each.relative_to(path).as_posix(), _digest_path(str(each))) for each in files]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: cannot be read: {reason}") from error
    return _hash(listed)


def _hash(data: Any) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
