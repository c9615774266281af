"""PyTorch modules of model references: registered twins, the user's code, files, zoos."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from parity.errors import UsageError, WeightError
from parity.network import checkpoint_fit, weights
from parity.processes import model_files
from parity.processes.references import FILE, REGISTERED, ZOO, ModelReference, registered_spec
from parity.runtimes.loaded import LoadedModel, describe_other_precisions
from parity.runtimes.torch import checkpoints, torchvision_shim
from parity.runtimes.trust import require_trust
from parity.runtimes.user_code import load_user_model
from parity.runtimes.zoo_models import load_zoo_model
from parity.text import one_line, printable, quote

_COUNTER = "num_batches_tracked"


def load_reference(
    reference: ModelReference,
    *,
    trust: Sequence[str],
    custom_objects: str | None,
    seed: int = 0,
) -> LoadedModel:
    """Load the module of a reference on the CPU, in eval mode.

    `trust` are the files that may be loaded although they hold programs; `custom_objects` belongs
    to Keras files. Raises `UsageError`, `WrongFrameworkError` for a model of another framework, and
    `WeightError` for a checkpoint that does not fit.
    """
    _set_seed(seed)
    if reference.form == REGISTERED:
        return _load_registered(reference)
    if reference.form == FILE:
        loaded = _load_file(reference, trust)
    elif reference.form == ZOO:
        loaded = load_zoo_model(reference)
    else:
        loaded = _load_code(reference, seed)
    return replace(loaded, notes=(*loaded.notes, *_describe_precisions(loaded.model)))


def _describe_precisions(model: nn.Module) -> list[str]:
    dtypes = (each.dtype for each in model.state_dict().values() if isinstance(each, torch.Tensor))
    return describe_other_precisions(str(dtype).removeprefix("torch.") for dtype in dtypes)


def load_checkpoint(model: nn.Module, path: str) -> tuple[str, ...]:
    """Copy the weights of a `.safetensors`, `.pth` or `.pt` file into a module; return notes.

    Raises `WeightError` unless the names and shapes are exactly the module's.
    """
    notes: Sequence[str] = ()
    own = model.state_dict()
    if path.endswith(".safetensors"):
        # The header alone: no values are read for a file that does not fit.
        _require_same(weights.read_types(path), own, path)
        state = _read_safetensors(path)
        for name, tensor in state.items():
            checkpoints.require_dense(tensor, f"{path}: {printable(name)}")
    else:
        state, notes = checkpoints.read_tensors(Path(path))
        _require_same(checkpoints.describe_types(state), own, path)
    model.load_state_dict({n: tensor for n, tensor in state.items() if n in own}, strict=False)
    return (*notes, *_describe_conversions(state, own, path))


def _require_same(
    found: checkpoint_fit.TensorTypes, own: Mapping[str, torch.Tensor], path: str
) -> None:
    """Raise `WeightError` unless a checkpoint has a module's names and shapes."""
    # A weight that is tied has its values under any of its names.
    given = {tensor.data_ptr() for name, tensor in own.items() if name in found}
    missing = [
        name
        for name, tensor in own.items()
        if name not in found and not name.endswith(_COUNTER) and tensor.data_ptr() not in given
    ]
    unused = [printable(n) for n in found if n not in own and not n.endswith(_COUNTER)]
    for names, what in ((missing, "lacks"), (unused, "has weights that the model lacks:")):
        if names:
            raise WeightError(f"{path}: {what} {checkpoint_fit.join_first(names)}")
    for name, tensor in own.items():
        if name in found and tuple(tensor.shape) != found[name][1]:
            raise WeightError(
                f"{path}: {name}: expected {tuple(tensor.shape)}, found {found[name][1]}"
            )


def _describe_conversions(
    state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], path: str
) -> list[str]:
    """Return a note for each pair of dtypes between which weights were converted."""
    pairs = Counter((state[n].dtype, own[n].dtype) for n in state if n in own)
    notes = []
    for (old, new), count in pairs.items():
        if old == new:
            continue
        how = "widened" if torch.promote_types(old, new) == new else "narrowed"
        names = " to ".join(str(dtype).removeprefix("torch.") for dtype in (old, new))
        notes.append(f"{path}: {count} weights were {how} from {names}")
    return notes


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


def _set_seed(seed: int) -> None:
    torch.manual_seed(seed)


def _read_safetensors(path: str) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, KeyError, SafetensorError) as error:
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


def _load_code(reference: ModelReference, seed: int) -> LoadedModel:
    notes: tuple[str, ...] = ()
    try:
        found = load_user_model(reference, "torch", partial(_set_seed, seed))
    except UsageError as error:
        if not torchvision_shim.is_missing_operator(error.__cause__):
            raise
        torchvision_shim.define_operators()
        found = load_user_model(reference, "torch", partial(_set_seed, seed))
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
