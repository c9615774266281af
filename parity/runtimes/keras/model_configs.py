"""The configuration inside a Keras file, searched for code before Keras reads it.

A `Lambda` layer holds Python bytecode. A custom class or function is named by its module, which
Keras would import. Neither is taken from the file: the user's own file must define them.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import keras

from parity import files, temporary
from parity.errors import UsageError, WeightError
from parity.runtimes.keras import checkpoints
from parity.text import one_line, printable, quote

_CONFIG = "config.json"
_ATTRIBUTE = "model_config"

_NAMESPACES = (
    keras.layers, keras.models, keras.initializers, keras.regularizers, keras.constraints,
    keras.dtype_policies, keras.losses, keras.metrics, keras.optimizers,
)  # fmt: skip
"""Where the classes of an HDF5 file are found: it states no modules."""

_NAMELESS = ("Functional", "Model", "Sequential", "Policy")
"""Classes of Keras that HDF5 files name and that are in none of these."""


@dataclass(frozen=True)
class PreparedFile:
    """The file for Keras to load, and {name in the configuration: the user's class or function}."""

    path: Path
    objects: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Custom:
    """A class or function that Keras does not have, in the layer of this name."""

    layer: str
    name: str
    registered_name: str
    node: dict[str, Any]
    is_lambda: bool = False


@contextmanager
def prepare(path: Path, module: ModuleType | None) -> Iterator[PreparedFile]:
    """Yield the file to load; `module` is the user's file of custom classes and functions.

    With a function of a `Lambda` layer's name in `module`, the layer gets that function, in a
    temporary copy of the file. Raises `UsageError` for code that `module` does not define, with the
    layer's name and what to do, and for a file that holds weights and no model.
    """
    config = _read(path)
    objects: dict[str, Any] = {}
    is_changed = False
    for custom in _find_custom(config, "the model"):
        found = getattr(module, custom.name, None)
        if found is None or not callable(found):
            raise UsageError(_describe(path, custom, module))
        objects[custom.name] = objects[custom.registered_name] = found
        if custom.is_lambda:
            _replace_lambda(custom)
            is_changed = True
    if not is_changed:
        yield PreparedFile(path, objects)
        return
    with temporary.working_folder() as folder:
        copy = folder / path.name
        _write_copy(path, copy, config)
        yield PreparedFile(copy, objects)


def _describe(path: Path, custom: _Custom, module: ModuleType | None) -> str:
    name, layer = printable(str(path)), quote(custom.layer)
    defines = f"defines {quote(custom.name)}"
    if custom.is_lambda:
        problem = f"the layer {layer} is a Lambda, whose bytecode is never run"
        defines = f"defines a function {quote(custom.name)}"
    else:
        problem = f"the layer {layer} needs {quote(custom.name)}, which is no part of Keras"
    if module is not None:
        file = printable(str(module.__file__))
        return f"{name}: {problem}; expected that {file} {defines}"
    return (
        f"{name}: {problem}; give --custom-objects FILE.py that {defines}, "
        f"or FILE.py:NAME,weights={name}"
    )


def _read(path: Path) -> Any:
    """Return the configuration in a file; raises `UsageError` if it has none."""
    name = printable(str(path))
    text: Any = None
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if archive.getinfo(_CONFIG).file_size > files.LONGEST_TEXT:
                    raise UsageError(f"{name}: its {_CONFIG} is too long")
                text = archive.read(_CONFIG)
        else:
            with h5py.File(path, "r") as file:
                text = file.attrs.get(_ATTRIBUTE)
        config = None if text is None else json.loads(text)
    except UsageError:
        raise
    except Exception as error:
        # A damaged file makes zipfile and h5py raise errors of many kinds.
        reason = one_line(str(error), longest=160) or type(error).__name__
        raise UsageError(f"{name}: is damaged: {reason}") from error
    if config is None:
        raise UsageError(f"{name}: holds weights and no model; give FILE.py:NAME,weights={name}")
    if not isinstance(config, dict):
        raise UsageError(f"{name}: is damaged: its configuration is no JSON object")
    try:
        checkpoints.require_stored(path)
    except WeightError as error:
        raise UsageError(str(error)) from error
    return config


def _write_copy(path: Path, copy: Path, config: Any) -> None:
    """Copy a file with another configuration."""
    if not zipfile.is_zipfile(path):
        shutil.copyfile(path, copy)
        with h5py.File(copy, "r+") as file:
            file.attrs[_ATTRIBUTE] = json.dumps(config)
        return
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w") as target:
        for member in source.infolist():
            if member.filename == _CONFIG:
                target.writestr(_CONFIG, json.dumps(config))
            else:
                with source.open(member) as stream, target.open(member.filename, "w") as out:
                    shutil.copyfileobj(stream, out, 2**20)


def _find_custom(node: Any, layer: str) -> Iterator[_Custom]:
    """Yield the custom parts of a configuration, in its order; `layer` is the layer around."""
    if isinstance(node, list):
        for each in node:
            yield from _find_custom(each, layer)
    if not isinstance(node, dict):
        return
    config = node.get("config")
    if isinstance(config, dict) and isinstance(config.get("name"), str):
        layer = config["name"]
    class_name = node.get("class_name")
    if isinstance(class_name, str) and "config" in node:
        yield from _judge_node(node, class_name, layer)
    for each in node.values():
        yield from _find_custom(each, layer)


def _judge_node(node: dict[str, Any], class_name: str, layer: str) -> Iterator[_Custom]:
    config = node["config"]
    if class_name == "Lambda" and isinstance(config, dict) and _holds_bytecode(config):
        yield _Custom(layer, layer, layer, node, is_lambda=True)
    elif class_name == "function":
        name = config if isinstance(config, str) else str(config.get("name"))
        if not _is_keras_module(node.get("module")):
            yield _Custom(layer, name, name, node)
    elif not class_name.startswith("__") and not _is_known_class(node, class_name):
        registered = node.get("registered_name") or class_name
        yield _Custom(layer, class_name, str(registered), node)


def _holds_bytecode(config: dict[str, Any]) -> bool:
    """Return whether a Lambda's function is bytecode; older HDF5 files have it in a list."""
    function = config.get("function")
    if isinstance(function, list):
        return True
    parts = (function, config.get("output_shape"), config.get("mask"))
    return any(isinstance(part, dict) and part.get("class_name") == "__lambda__" for part in parts)


def _replace_lambda(custom: _Custom) -> None:
    """Make a Lambda's function one that is looked up by the layer's name."""
    config = custom.node["config"]
    for part in ("function", "output_shape", "mask"):
        value = config.get(part)
        if isinstance(value, dict) and value.get("class_name") == "__lambda__":
            config[part] = None
    config["function"] = {
        "module": "builtins",
        "class_name": "function",
        "config": custom.name,
        "registered_name": "function",
    }
    config.pop("function_type", None)


def _is_known_class(node: dict[str, Any], class_name: str) -> bool:
    """Return whether a class is one of Keras."""
    if "module" in node:
        return _is_keras_module(node["module"])
    return class_name in _NAMELESS or any(hasattr(each, class_name) for each in _NAMESPACES)


def _is_keras_module(module: Any) -> bool:
    return isinstance(module, str) and module.partition(".")[0] == "keras"
