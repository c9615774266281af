"""PyTorch modules of model references: registered twins, the user's code, files, zoos."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from parity.errors import UsageError, WeightError
from parity.network import checkpoint_fit
from parity.processes import model_files
from parity.processes.references import FILE, REGISTERED, ZOO, ModelReference, registered_spec
from parity.runtimes.loaded import LoadedModel
from parity.runtimes.torch import checkpoints, torchvision_shim
from parity.runtimes.trust import require_trust
from parity.runtimes.user_code import load_user_model
from parity.runtimes.zoo_models import load_zoo_model
from parity.text import one_line, quote

_COUNTER = "num_batches_tracked"


def load_reference(
    reference: ModelReference, *, trust: Sequence[str], custom_objects: str | None
) -> LoadedModel:
    """Load the module of a reference on the CPU, in eval mode.

    `trust` are the files that may be loaded although they hold programs; `custom_objects` belongs
    to Keras files. Raises `UsageError`, `WrongFrameworkError` for a model of another framework, and
    `WeightError` for a checkpoint that does not fit.
    """
    _set_seed()
    if reference.form == REGISTERED:
        return _load_registered(reference)
    if reference.form == FILE:
        return _load_file(reference, trust)
    if reference.form == ZOO:
        return load_zoo_model(reference)
    return _load_code(reference)


def load_checkpoint(model: nn.Module, path: str) -> tuple[str, ...]:
    """Copy the weights of a `.safetensors`, `.pth` or `.pt` file into a module; return notes.

    Raises `WeightError` unless the names and shapes are exactly the module's.
    """
    notes: Sequence[str] = ()
    if path.endswith(".safetensors"):
        state = _read_safetensors(path)
    else:
        arrays, notes = checkpoints.read(Path(path))
        state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    own = model.state_dict()
    missing = [name for name in own if name not in state and not name.endswith(_COUNTER)]
    unused = [name for name in state if name not in own and not name.endswith(_COUNTER)]
    for names, what in ((missing, "lacks"), (unused, "has weights that the model lacks:")):
        if names:
            raise WeightError(f"{path}: {what} {checkpoint_fit.join_first(names)}")
    for name, tensor in own.items():
        if name in state and tensor.shape != state[name].shape:
            raise WeightError(
                f"{path}: {name}: expected {tuple(tensor.shape)}, found {tuple(state[name].shape)}"
            )
    model.load_state_dict({n: tensor for n, tensor in state.items() if n in own}, strict=False)
    return tuple(notes)


def save_checkpoint(model: nn.Module, path: Path) -> None:
    """Write a module's state dict as a `.safetensors`, `.pth` or `.pt` file."""
    state = model.state_dict()
    if path.suffix != ".safetensors":
        torch.save(state, path)
        return
    from safetensors.torch import save

    # The format holds no tensors that share memory, such as tied weights.
    path.write_bytes(
        save({name: each.detach().clone().contiguous() for name, each in state.items()})
    )


def _set_seed() -> None:
    torch.manual_seed(0)


def _read_safetensors(path: str) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        reason = one_line(str(error), longest=160)
        raise WeightError(f"{path}: cannot be read as a safetensors file: {reason}") from error


def _load_registered(reference: ModelReference) -> LoadedModel:
    """Build the twin with initial weights: on the meta device it would have no values."""
    spec = registered_spec(reference)
    module = importlib.import_module(f"parity.network.models.{spec.family}.torch")
    return LoadedModel(
        module.build(spec).eval(),
        reference.text,
        brings_weights=False,
        input_shape=spec.input_form.shape,
        input_dtype=spec.input_form.dtype,
    )


def _load_code(reference: ModelReference) -> LoadedModel:
    notes: tuple[str, ...] = ()
    try:
        found = load_user_model(reference, "torch", _set_seed)
    except UsageError as error:
        if not torchvision_shim.is_missing_operator(error.__cause__):
            raise
        torchvision_shim.define_operators()
        found = load_user_model(reference, "torch", _set_seed)
        notes = (torchvision_shim.NOTE,)
    model = found.model
    if found.checkpoint is not None:
        notes += load_checkpoint(model, found.checkpoint)
    return LoadedModel(
        model.eval(), reference.text, brings_weights=True, example=found.example, notes=notes
    )


def _load_file(reference: ModelReference, trust: Sequence[str]) -> LoadedModel:
    path = reference.target
    kind = model_files.identify(path)
    require_trust(path, kind, trust)
    example: Any | None = None
    try:
        if kind is model_files.TORCHSCRIPT:
            model = torch.jit.load(path, map_location="cpu").eval()
        else:
            program = torch.export.load(path)
            # It was exported in one mode, and cannot be put into another.
            model = program.module()
            example = _example_of(program)
    except Exception as error:
        reason = one_line(str(error), longest=200)
        raise UsageError(f"{quote(path)}: cannot be loaded as a {kind.format}: {reason}") from error
    return LoadedModel(model, reference.text, brings_weights=True, example=example)


def _example_of(program: Any) -> Any | None:
    """Return the inputs that a program was exported with: a tuple, or a dict if all are named."""
    if program.example_inputs is None:
        return None
    arguments, named = program.example_inputs
    if arguments and not named:
        return tuple(arguments)
    return dict(named) if named and not arguments else None
