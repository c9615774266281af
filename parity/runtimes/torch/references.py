"""Loading the PyTorch module that a reference names."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from parity.errors import UsageError, WeightError, WrongFrameworkError
from parity.processes import zoos
from parity.processes.model_files import EXPORTED_PROGRAM, identify
from parity.processes.references import (
    FILE,
    REGISTERED,
    WEIGHTS,
    ZOO,
    ModelReference,
    registered_spec,
)
from parity.runtimes import user_code
from parity.runtimes.torch import checkpoints, load
from parity.runtimes.user_code import LoadedModel
from parity.text import quote


def load_model(reference: ModelReference, trust: Sequence[str]) -> LoadedModel:
    """Return the module that a reference names, in eval mode on the CPU.

    Raises `UsageError` for what cannot be loaded, and `WrongFrameworkError` for a model of Keras.
    """
    if reference.form == REGISTERED:
        spec = registered_spec(reference)
        model: nn.Module = load.build_twin(spec).to_empty(device="cpu")
        for parameter in (*model.parameters(), *model.buffers()):
            nn.init.zeros_(parameter)
        shape = (None, *spec.input_shape)
        return _finish(reference, LoadedModel(model, brings_weights=False, input_shape=shape))
    if reference.form == FILE:
        return _load_file(reference, trust)
    if reference.form == ZOO:
        model, input_shape = _load_from_zoo(reference)
        loaded = LoadedModel(model, brings_weights=False, input_shape=input_shape)
        return _finish(reference, loaded)
    found = user_code.find_attribute(reference)
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise UsageError(
                f"{quote(reference.text)}: expected a model or a callable that returns one, found "
                f"{type(found).__name__}"
            )
        found = user_code.call(reference, found)
    model, example = user_code.split_example(found)
    _require_module(reference, model)
    return _finish(reference, LoadedModel(model, brings_weights=True, example=example))


def _require_module(reference: ModelReference, model: Any) -> None:
    if isinstance(model, nn.Module):
        return
    text = f"{quote(reference.text)}: expected a torch.nn.Module, found {type(model).__name__}"
    if type(model).__module__.split(".")[0] in ("keras", "tensorflow") or any(
        base.__module__.split(".")[0] == "keras" for base in type(model).__mro__
    ):
        raise WrongFrameworkError(text)
    raise UsageError(text)


def _load_file(reference: ModelReference, trust: Sequence[str]) -> LoadedModel:
    kind = identify(reference.target)
    path = Path(reference.target)
    require_trust(reference, trust, kind.format)
    try:
        if kind is EXPORTED_PROGRAM:
            model = torch.export.load(path).module()
            return LoadedModel(model, brings_weights=True)
        return LoadedModel(torch.jit.load(path, map_location="cpu").eval(), brings_weights=True)
    except Exception as error:
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        raise UsageError(f"{path}: cannot be loaded: {reason}") from error


def require_trust(reference: ModelReference, trust: Sequence[str], label: str) -> None:
    """Raise `UsageError` unless the user named this file, which holds a program, to be run."""
    trusted = {os.path.realpath(path) for path in trust}
    if os.path.realpath(reference.target) not in trusted:
        raise UsageError(
            f"{reference.target}: a {label} file holds a program, which loading runs; add "
            f"--trust {reference.target} if you trust its source"
        )


def _load_from_zoo(
    reference: ModelReference,
) -> tuple[nn.Module, tuple[int | None, ...] | None]:
    """Return the zoo's model, and the shape of its one input if it takes images."""
    info = zoos.all_zoos()[reference.zoo]
    os.environ.update(info.variables)
    try:
        module = importlib.import_module(info.module)
    except ImportError as error:
        raise UsageError(f"{quote(reference.text)}: {error}; {info.install_command}") from error
    options = {name: value for name, value in reference.options.items() if name != WEIGHTS}
    model: nn.Module = module.load(reference.target, options)
    return model.eval(), getattr(module, "INPUT_SHAPE", None)


def _finish(reference: ModelReference, loaded: LoadedModel) -> LoadedModel:
    """Put the model in eval mode; load the checkpoint of the option `weights`."""
    loaded.model.eval()
    checkpoint = reference.options.get(WEIGHTS)
    if checkpoint is not None:
        load_checkpoint(loaded.model, Path(str(checkpoint)))
        loaded.brings_weights = True
    return loaded


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Load a state dict, strictly; raises `WeightError` with the first name that does not fit."""
    values, _ = checkpoints.read(path)
    own = model.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - values.keys() - counters)
    surplus = sorted(values.keys() - own.keys())
    for names, text in ((missing, "is missing"), (surplus, "is not a weight of the model")):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise WeightError(f"{path}: {quote(names[0])} {text}{more}")
    for name, value in values.items():
        if tuple(own[name].shape) != value.shape:
            raise WeightError(
                f"{path}: {quote(name)}: expected {tuple(own[name].shape)}, found {value.shape}"
            )
    tensors = {name: torch.from_numpy(value) for name, value in values.items()}
    model.load_state_dict(tensors, strict=False)
