"""Loading the Keras model that a reference names."""

from __future__ import annotations

import importlib
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from parity.errors import UsageError, WeightError, WrongFrameworkError
from parity.processes import zoos
from parity.processes.model_files import KERAS_ARCHIVE, SAVED_MODEL_FOLDER, identify
from parity.processes.references import (
    FILE,
    REGISTERED,
    WEIGHTS,
    ZOO,
    ModelReference,
    parse_reference,
    registered_spec,
)
from parity.runtimes import user_code
from parity.runtimes.keras import load
from parity.runtimes.user_code import LoadedModel
from parity.text import quote


def load_model(
    reference: ModelReference, trust: Sequence[str], custom_objects: str | None
) -> LoadedModel:
    """Return the model that a reference names.

    Raises `UsageError` for what cannot be loaded, and `WrongFrameworkError` for a PyTorch module.
    """
    if reference.form == REGISTERED:
        model = load.build_twin(registered_spec(reference))
        return _finish(reference, LoadedModel(model, brings_weights=False))
    if reference.form == FILE:
        return _load_file(reference, trust, custom_objects)
    if reference.form == ZOO:
        return _load_from_zoo(reference)
    found = user_code.find_attribute(reference)
    if not isinstance(found, keras.layers.Layer):
        if not callable(found):
            raise UsageError(
                f"{quote(reference.text)}: expected a model or a callable that returns one, found "
                f"{type(found).__name__}"
            )
        found = user_code.call(reference, found)
    model, example = user_code.split_example(found)
    if not isinstance(model, keras.layers.Layer):
        text = f"{quote(reference.text)}: expected a keras.Model, found {type(model).__name__}"
        if any(base.__module__.split(".")[0] == "torch" for base in type(model).__mro__):
            raise WrongFrameworkError(text)
        raise UsageError(text)
    return _finish(reference, LoadedModel(model, brings_weights=True, example=example))


def _load_from_zoo(reference: ModelReference) -> LoadedModel:
    info = zoos.all_zoos()[reference.zoo]
    os.environ.update(info.variables)
    module = importlib.import_module(info.module)
    options = {name: value for name, value in reference.options.items() if name != WEIGHTS}
    return _finish(reference, LoadedModel(module.load(reference.target, options), False))


def _load_file(
    reference: ModelReference, trust: Sequence[str], custom_objects: str | None
) -> LoadedModel:
    kind = identify(reference.target)
    path = Path(reference.target)
    if kind is SAVED_MODEL_FOLDER:
        trusted = {os.path.realpath(name) for name in trust}
        if os.path.realpath(path) not in trusted:
            raise UsageError(
                f"{path}: a SavedModel holds a program, which loading runs; add --trust {path} "
                "if you trust its source"
            )
        return LoadedModel(_load_saved_model(path), brings_weights=True)
    classes = _read_classes(custom_objects)
    if kind is KERAS_ARCHIVE:
        _require_known_layers(reference, path, classes)
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True, custom_objects=classes)
    except Exception as error:
        lines = [line for line in str(error).strip().splitlines() if line]
        reason = lines[0] if lines else type(error).__name__
        raise UsageError(
            f"{path}: cannot be loaded: {reason}; give its classes with --custom-objects file.py, "
            "or build it: file.py:NAME,weights=FILE"
        ) from error
    return LoadedModel(model, brings_weights=True)


def _load_saved_model(path: Path) -> Any:
    """Return a SavedModel's serving function as a layer of a Keras model."""
    reason = ""
    # The first is TensorFlow's name, the second that of keras.Model.export.
    for endpoint in ("serving_default", "serve"):
        try:
            return keras.layers.TFSMLayer(str(path), call_endpoint=endpoint)
        except Exception as error:  # noqa: BLE001 (TensorFlow raises what it likes)
            lines = str(error).strip().splitlines()
            reason = reason or (lines[0] if lines else type(error).__name__)
    raise UsageError(f"{path}: cannot be loaded: {reason}")


def _read_classes(custom_objects: str | None) -> dict[str, Any]:
    """Return the classes and functions of the user's file, by name."""
    if custom_objects is None:
        return {}
    reference = parse_reference(f"{custom_objects}:__dict__")
    contents = user_code.find_attribute(reference)
    return {name: value for name, value in contents.items() if callable(value)}


def _require_known_layers(reference: ModelReference, path: Path, classes: dict[str, Any]) -> None:
    """Raise `UsageError` for a layer whose code is in the file, or nowhere, before it is loaded."""
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo("config.json")
            if info.file_size > 2**28:
                raise UsageError(f"{path}: its config.json of {info.file_size} bytes is too large")
            config = json.loads(archive.read(info))
    except (KeyError, ValueError, RecursionError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: is damaged: {error}") from error
    for layer in _walk_layers(config):
        kind = layer.get("class_name")
        module = str(layer.get("module") or "")
        name = quote(str((layer.get("config") or {}).get("name", kind)))
        if kind == "Lambda":
            raise UsageError(
                f"{path}: the layer {name} is a Lambda, whose code is in the file; write it in a "
                "file of yours: --custom-objects file.py, or file.py:NAME,weights=FILE"
            )
        registered = layer.get("registered_name")
        is_own = module.partition(".")[0] not in ("keras", "builtins", "") or (
            not module and registered not in (None, kind)
        )
        if is_own and kind not in classes:
            raise UsageError(
                f"{path}: the layer {name} is of the class {quote(str(kind))}, which Keras does "
                "not have; give it with --custom-objects file.py, or build the model: "
                "file.py:NAME,weights=FILE"
            )


def _walk_layers(config: Any) -> Iterator[dict[str, Any]]:
    """Yield every serialised object in a configuration that is a layer or a model."""
    stack = [config]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if "class_name" in item and isinstance(item.get("config"), dict):
                yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _finish(reference: ModelReference, loaded: LoadedModel) -> LoadedModel:
    """Load the checkpoint of the option `weights`."""
    checkpoint = reference.options.get(WEIGHTS)
    if checkpoint is not None:
        load_checkpoint(loaded.model, Path(str(checkpoint)))
        loaded.brings_weights = True
    return loaded


def load_checkpoint(model: keras.Model, path: Path) -> None:
    """Load a `.weights.h5` or `.h5` file; raises `WeightError`."""
    try:
        model.load_weights(path)
    except Exception as error:
        lines = [line for line in str(error).strip().splitlines() if line]
        raise WeightError(f"{path}: {lines[0] if lines else type(error).__name__}") from error
