"""Keras models of model references: registered twins, the user's code, files, zoos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras

from parity import temporary
from parity.errors import ParityError, UsageError, WeightError
from parity.processes import model_files
from parity.processes.references import FILE, REGISTERED, ZOO, ModelReference, registered_spec
from parity.runtimes.keras import checkpoints, model_configs
from parity.runtimes.keras.load import build_twin
from parity.runtimes.loaded import LoadedModel, describe_other_precisions
from parity.runtimes.trust import require_trust
from parity.runtimes.user_code import describe_error, load_custom_objects, load_user_model
from parity.runtimes.zoo_models import load_zoo_model
from parity.text import one_line, printable, quote

_ENDPOINTS = ("serving_default", "serve")
"""The signatures of a SavedModel, of TensorFlow's and of Keras's `export`."""


def load_reference(
    reference: ModelReference,
    *,
    trust: Sequence[str],
    custom_objects: str | None,
    seed: int = 0,
) -> LoadedModel:
    """Load the model of a reference: a `keras.Model`, or a layer.

    `trust` are the files that may be loaded although they hold programs; `custom_objects` is a
    Python file with the custom classes and functions of a Keras file. Raises `UsageError`,
    `WrongFrameworkError` for a model of another framework, and `WeightError` for a checkpoint that
    does not fit.
    """
    _set_seed(seed)
    if reference.form == REGISTERED:
        model = build_twin(registered_spec(reference))
        return LoadedModel(model, reference.text, brings_weights=False)
    if reference.form == FILE:
        loaded = _load_file(reference, trust, custom_objects)
    elif reference.form == ZOO:
        loaded = load_zoo_model(reference)
    else:
        loaded = _load_code(reference, seed)
    dtypes = (str(each.dtype) for each in getattr(loaded.model, "weights", ()))
    return replace(loaded, notes=(*loaded.notes, *describe_other_precisions(dtypes)))


def load_checkpoint(model: Any, path: str, example: Any | None = None) -> None:
    """Copy the weights of a `.weights.h5`, `.keras` or `.h5` file into a model.

    A model without weights yet is called on `example` first. Raises `WeightError` if they do not
    fit.
    """
    if not path.endswith((".h5", ".hdf5", ".keras")):
        raise WeightError(f"{path}: expected .weights.h5, .keras or .h5 for a Keras model")
    if not isinstance(model, keras.Model):
        raise WeightError(f"{path}: weights are loaded into a keras.Model, found a layer")
    if not model.built or not model.variables:
        if example is None:
            raise WeightError(
                f"{path}: the model has no weights before it is called; "
                "build it, or return (model, example inputs)"
            )
        _call_once(model, example)
    _require_arrays(model, path)
    try:
        model.load_weights(path)
    except Exception as error:
        reason = one_line(str(error), longest=300)
        raise WeightError(f"{path}: does not fit the model: {reason}") from error


def save_checkpoint(model: Any, path: Path) -> None:
    """Write a model's weights as a `.weights.h5` file, or the model as a `.keras` file.

    Raises `WeightError` for a layer, and for a model that Keras cannot save.
    """
    if not isinstance(model, keras.Model):
        raise WeightError(f"{path.name}: weights are saved of a keras.Model, found a layer")
    try:
        if path.name.endswith(".weights.h5"):
            model.save_weights(path)
        else:
            model.save(path)
    except OSError:
        raise
    except Exception as error:
        reason = one_line(str(error), longest=300)
        raise WeightError(f"{path.name}: cannot be saved by Keras: {reason}") from error


def _require_arrays(model: keras.Model, path: str) -> None:
    """Raise `WeightError` unless a file has as many arrays of each shape as the model would write.

    Keras leaves layers that a `.weights.h5` or `.keras` file lacks, and arrays that no layer reads,
    without a word. It checks the older `.h5` files itself.
    """
    found = checkpoints.read_shapes(Path(path))
    if found is None:
        return
    with temporary.working_folder() as folder:
        own = folder / "own.weights.h5"
        model.save_weights(own)
        expected = checkpoints.read_shapes(own)
    assert expected is not None
    for shape in sorted({*found, *expected}):
        if found[shape] != expected[shape]:
            raise WeightError(
                f"{path}: does not fit the model: expected {expected[shape]} arrays of the shape "
                f"{shape}, found {found[shape]}"
            )


def _set_seed(seed: int) -> None:
    keras.utils.set_random_seed(seed)


def _call_once(model: Any, example: Any) -> None:
    try:
        if isinstance(example, tuple):
            model(*example)
        else:
            model(example)
    except Exception as error:
        raise UsageError(
            f"the model does not run on its example: {describe_error(error)}"
        ) from error


def _load_code(reference: ModelReference, seed: int) -> LoadedModel:
    found = load_user_model(reference, "keras", partial(_set_seed, seed))
    if found.checkpoint is not None:
        load_checkpoint(found.model, found.checkpoint, found.example)
    return LoadedModel(found.model, reference.text, brings_weights=True, example=found.example)


def _load_file(
    reference: ModelReference, trust: Sequence[str], custom_objects: str | None
) -> LoadedModel:
    path = reference.target
    kind = model_files.identify(path)
    require_trust(path, kind, trust)
    if kind is model_files.SAVED_MODEL_FOLDER:
        model = _load_saved_model(path)
    else:
        model = _load_keras_file(path, custom_objects)
    return LoadedModel(model, reference.text, brings_weights=True)


def _load_keras_file(path: str, custom_objects: str | None) -> Any:
    """Load a `.keras` or `.h5` file; only classes of Keras and of the user's own file are used."""
    module = None if custom_objects is None else load_custom_objects(custom_objects)
    with model_configs.prepare(Path(path), module) as prepared:
        try:
            return keras.saving.load_model(
                prepared.path, custom_objects=prepared.objects, compile=False, safe_mode=True
            )
        except ParityError:
            raise
        except Exception as error:
            reason = one_line(str(error), longest=300)
            raise UsageError(
                f"{printable(path)}: cannot be loaded: {type(error).__name__}: {reason}"
            ) from error


def _load_saved_model(path: str) -> Any:
    errors = []
    for endpoint in _ENDPOINTS:
        try:
            return keras.layers.TFSMLayer(path, call_endpoint=endpoint)
        except Exception as error:  # noqa: BLE001 (TensorFlow raises errors of many kinds)
            errors.append(one_line(str(error), longest=200))
    raise UsageError(f"{quote(path)}: cannot be loaded as a SavedModel: {errors[-1]}")
