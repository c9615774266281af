"""One eager run of a PyTorch module, seen function by function: ids, operands, paths, lines.

This file and `function_names` alone use what PyTorch does not promise to keep: `TorchFunctionMode`,
by which every function of a tensor is seen, the names of those functions, and the hooks of all
modules. `tests/runtimes/test_torch_recorder.py` pins each of them.

A tensor's id is `N.M`: output M of the recorded function number N; the model's inputs are `0.M`.
Only functions of data are numbered: whatever depends on weights and constants alone is followed,
so that a weight that is transposed or computed keeps its names, and gets no number. So the ids are
the same in every precision and on every device.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from parity.network.graph import PARAMETER
from parity.runtimes.constants import has_constants
from parity.runtimes.torch import functions
from parity.runtimes.torch.calls import Call, Operand, WeightSource
from parity.runtimes.torch.float64 import share_constants, widen_casts
from parity.runtimes.torch.function_names import name_function
from parity.runtimes.torch.source_lines import SourceFinder
from parity.runtimes.torch.tensors import (
    Identity,
    empty_like,
    find_constants,
    find_storage,
    find_tensors,
    named_weights,
    replace_tensors,
    watch_tensor,
)


@dataclass
class Notes:
    """What a run did that its record cannot show."""

    lines: dict[str, None] = field(default_factory=dict)

    def add(self, line: str) -> None:
        """Add a line once."""
        self.lines[line] = None


Observer = Callable[[Call], None]
Replace = Callable[[str, torch.Tensor], torch.Tensor | None]
"""Is given each tensor with its id as soon as it is computed; may return what replaces it."""


class Recorder(TorchFunctionMode):
    """Numbers the functions of one run, and gives each to an observer."""

    def __init__(
        self,
        model: nn.Module,
        *,
        observe: Observer | None = None,
        replace: Replace | None = None,
        widen: bool = False,
        shared: Collection[str] = (),
    ) -> None:
        """With `widen`, casts to float32 are casts to float64 instead.

        `shared` are ids of tensors that see a later change in place of another's memory, as
        `shared` of a recorder has them after a run: they are replaced in place.
        """
        super().__init__()
        self.notes = Notes()
        self._observe = observe
        self._replace = replace
        self._widen = widen
        self._replaced_in_place = frozenset(shared)
        self.shared: dict[str, None] = {}
        self._ids: dict[int, tuple[weakref.ref[torch.Tensor], str]] = {}
        self._derived: dict[int, tuple[weakref.ref[torch.Tensor], WeightSource]] = {}
        self._weights = {id(tensor): name for name, tensor in named_weights(model).items()}
        self._attributes = find_constants(model)
        self._paths = {id(module): path for path, module in reversed([*model.named_modules()])}
        self._stack: list[str] = []
        self._sources = SourceFinder(model)
        self._numbers = itertools.count(1)
        self._escaped: dict[str, None] = {}
        self._constants: dict[int, weakref.ref[torch.Tensor]] = {}

    # The doors -----------------------------------------------------------------------------------

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _PLAIN:
            return func(*args, **kwargs)
        name, in_place = name_function(func)
        if self._widen:
            func, args, kwargs = widen_casts(func, name, args, kwargs)
        tensors = find_tensors(args, kwargs)
        operands = tuple(map(self._describe, tensors))
        if self._widen and has_constants() and not in_place:
            args, kwargs = share_constants(args, kwargs, operands)
        output = func(*args, **kwargs)
        if name.startswith("reversed "):
            name, args = name.removeprefix("reversed "), (args[1], args[0], *args[2:])
        return self._settle(func, name, in_place, args, kwargs, tensors, operands, output)

    @contextmanager
    def watch_modules(self) -> Iterator[None]:
        """While open, the path of the running module is known."""
        handles = [
            nn.modules.module.register_module_forward_pre_hook(self._enter),
            nn.modules.module.register_module_forward_hook(self._leave, always_call=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        path = self._paths.get(id(module))
        if path is None:
            path = self._path()
        self._stack.append(path)

    def _path(self) -> str:
        """Return the path of the running module; of the one that called it if it has none."""
        return self._stack[-1] if self._stack else ""

    def _leave(self, module: nn.Module, args: Any, output: Any) -> Any:
        entered = self._stack.pop()
        if not isinstance(module, torch.jit.ScriptModule):
            return None
        with torch._C.DisableTorchFunction():
            # The functions of a compiled module are not seen: it is one operation.
            unseen = [tensor for tensor in find_tensors(output) if not self.find_id(tensor)]
            operands = [self._describe(tensor) for tensor in find_tensors(args)]
            if not unseen or not any(operand.id for operand in operands):
                return None
            self.notes.add(f"{entered}: TorchScript, which cannot be read inside")
            operands += [self._describe(tensor) for tensor in module.parameters()]
            return self._record(
                type(module).__name__, {}, tuple(operands), output, False, opaque=True
            )

    # What is known of tensors --------------------------------------------------------------------

    def add_input(self, index: int, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
        """Give an input of the model its id; return it, and the tensor that the model reads."""
        name = f"0.{index}"
        if self._replace is not None and (other := self._replace(name, tensor)) is not None:
            tensor = other
        self._set_id(tensor, name)
        return name, tensor

    def find_id(self, tensor: torch.Tensor) -> str:
        """Return the id of a tensor; empty if no recorded function made it."""
        entry = self._ids.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else ""

    def describe(self, tensor: torch.Tensor) -> Operand:
        """Return what is known of a tensor."""
        return self._describe(tensor)

    def _describe(self, tensor: torch.Tensor) -> Operand:
        if found := self.find_id(tensor):
            return Operand(tensor, found)
        name = self._weights.get(id(tensor))
        if name is not None:
            return Operand(tensor, weights=WeightSource((name,), tuple(range(tensor.ndim))))
        entry = self._derived.get(id(tensor))
        if entry is not None and entry[0]() is tensor:
            return Operand(tensor, weights=entry[1])
        if self._escaped and not self._is_constant(tensor):
            return Operand(tensor, self._record_unseen(tensor))
        return Operand(tensor)

    def _is_constant(self, tensor: torch.Tensor) -> bool:
        known = self._constants.get(id(tensor))
        return id(tensor) in self._attributes or (known is not None and known() is tensor)

    def _record_unseen(self, tensor: torch.Tensor) -> str:
        """Record a tensor that was made outside of PyTorch, in NumPy, of data that went there."""
        number = next(self._numbers)
        found = f"{number}.0"
        self._set_id(tensor, found)
        self.notes.add("values went through NumPy or Python: that part cannot be read inside")
        if self._replace is not None and (other := self._replace(found, tensor)) is not None:
            tensor.copy_(other)
        if self._observe is not None:
            operands = tuple(Operand(tensor, each) for each in self._escaped)
            self._observe(
                Call(number, "numpy", {}, operands, {found: tensor}, self._path(),
                     self._sources.find(), is_opaque=True)
            )  # fmt: skip
        return found

    def _set_id(self, tensor: torch.Tensor, name: str) -> None:
        key, ids = id(tensor), self._ids
        entry = ids.get(key)
        if entry is not None and entry[0]() is tensor:
            ids[key] = (entry[0], name)
            return
        ids[key] = (watch_tensor(tensor, ids), name)

    # A call --------------------------------------------------------------------------------------

    def _settle(
        self, func: Any, name: str, in_place: bool, args: Any, kwargs: dict[str, Any],
        tensors: Sequence[torch.Tensor], operands: tuple[Operand, ...], output: Any,
    ) -> Any:  # fmt: skip
        """Note what a call made, and return its output, of which parts may be replaced."""
        made = [args[0]] if name == "setitem" else find_tensors(output)
        operands = self._read_weights_as_data(name, operands)
        read = operands[:1] if functions.reads_first_alone(name) else operands
        data = [operand for operand in read if operand.id]
        if not made:
            self._note_value(name, data)
            return output
        if not data or functions.is_constant_factory(name):
            self._follow_weights(name, read, made)
            return output
        is_free_cast = functions.is_cast(name) and (
            output.is_floating_point() or output.dtype == data[0].tensor.dtype
        )
        if is_free_cast or functions.is_transparent(name):
            for tensor in made:
                self._set_id(tensor, data[0].id)
            return output
        arguments = functions.bind_arguments(func, name, args, kwargs)
        if not in_place and any(output is tensor for tensor in tensors):
            in_place = bool(arguments.get("inplace")) or "out" in kwargs
            if not in_place and not functions.is_dropout(name):
                return output
            if not in_place:
                # The input is still the input to whoever reads it later. An alias has its strides,
                # by which PyTorch chooses how it computes; a view may have others.
                output = output.detach()
        by_tensor = {id(operand.tensor): operand for operand in operands}
        arguments = {key: replace_tensors(value, by_tensor) for key, value in arguments.items()}
        if name == "setitem":
            self._record(name, arguments, operands, args[0], True)
            return output
        return self._record(name, arguments, operands, output, in_place)

    def _read_weights_as_data(
        self, name: str, operands: tuple[Operand, ...]
    ) -> tuple[Operand, ...]:
        """Return the operands of a layer; weights in the place of its input are data from here on.

        So the layers of a decoder that reads learned queries are layers, and no computed weight. So
        are those that read a table of constants, such as the positions of a Transformer-XL.
        """
        found: dict[int, Operand] = {}
        for operand in operands[: functions.count_layer_inputs(name)]:
            is_table = operand.is_constant and functions.projects(name)
            if (operand.weights is None and not is_table) or id(operand.tensor) in found:
                continue
            number = next(self._numbers)
            data = Operand(operand.tensor, f"{number}.0")
            found[id(operand.tensor)] = data
            if id(operand.tensor) not in self._weights:
                # A weight itself stays one to whatever else reads it.
                self._set_id(operand.tensor, data.id)
            if self._replace is not None:
                self._replace(data.id, operand.tensor)
            if self._observe is not None:
                outputs = {data.id: operand.tensor}
                self._observe(
                    Call(number, PARAMETER, {}, (operand,), outputs, self._path(),
                         self._sources.find())
                )  # fmt: skip
        return tuple(found.get(id(each.tensor), each) for each in operands) if found else operands

    def _record(
        self,
        name: str,
        arguments: Mapping[str, Any],
        operands: tuple[Operand, ...],
        output: Any,
        in_place: bool,
        *,
        opaque: bool = False,
    ) -> Any:
        """Number a call and its outputs; return the output, of which parts may be replaced."""
        number = next(self._numbers)
        before = {id(operand.tensor): operand.id for operand in operands}
        made = list(dict.fromkeys(map(Identity, find_tensors(output))))
        replaced: dict[int, torch.Tensor] = {}
        outputs: dict[str, torch.Tensor] = {}
        storages = (
            {find_storage(operand.tensor) for operand in operands} if self._replace else set()
        )
        for index, wrapped in enumerate(made):
            tensor, found = wrapped.tensor, f"{number}.{index}"
            if self._replace is not None:
                other = self._replace(found, tensor)
                if other is not None:
                    is_view = not in_place and find_storage(tensor) in storages
                    if not is_view or found in self._replaced_in_place:
                        tensor.copy_(other)
                    else:
                        # What a view looks at stays as it is.
                        replaced[id(tensor)] = empty_like(tensor).copy_(other)
                        tensor = replaced[id(wrapped.tensor)]
            self._set_id(tensor, found)
            outputs[found] = tensor
        extra: tuple[Operand, ...] = ()
        if in_place:
            extra = self._renew_aliases(number, outputs)
            changed = [before.get(id(tensor), "") for tensor in outputs.values()] if extra else []
            self.shared.update(dict.fromkeys(found for found in changed if found))
        if self._observe is not None:
            self._observe(
                Call(number, name, arguments, (*operands, *extra), outputs, self._path(),
                     self._sources.find(), opaque)
            )  # fmt: skip
        return replace_tensors(output, replaced) if replaced else output

    def _renew_aliases(self, number: int, outputs: dict[str, torch.Tensor]) -> tuple[Operand, ...]:
        """Give a new id to each tensor that shares its memory with one that was changed in place.

        They are further outputs of the function; return them as they were, further inputs.
        """
        own = {id(tensor) for tensor in outputs.values()}
        storages = {find_storage(tensor) for tensor in outputs.values()}
        aliases = []
        for key, (reference, found) in list(self._ids.items()):
            tensor = reference()
            if tensor is None or key in own or find_storage(tensor) not in storages:
                continue
            aliases.append((_sort_key(found), found, tensor))
        operands = []
        for _, found, tensor in sorted(aliases, key=lambda entry: entry[0]):
            operands.append(Operand(tensor, found))
            self.shared[found] = None
            name = f"{number}.{len(outputs)}"
            if self._replace is not None and (other := self._replace(name, tensor)) is not None:
                tensor.copy_(other)
            self._set_id(tensor, name)
            outputs[name] = tensor
        return tuple(operands)

    def _follow_weights(
        self, name: str, operands: Sequence[Operand], outputs: Sequence[torch.Tensor]
    ) -> None:
        """Note what depends on weights alone, and of which, and what is a constant."""
        sources = [operand for operand in operands if operand.weights is not None]
        if functions.is_constant_factory(name) or not sources:
            if self._escaped and functions.makes_tensors(name):
                return
            for tensor in outputs:
                self._constants[id(tensor)] = watch_tensor(tensor, self._constants)
            return
        names = tuple(dict.fromkeys(n for s in sources if s.weights for n in s.weights.names))
        for tensor in outputs:
            if id(tensor) in self._weights:
                continue
            order = None
            first = sources[0].weights
            if len(names) == 1 and first is not None and first.order is not None:
                order = functions.permutation_of(name, sources[0].tensor, tensor, first.order)
            reference = watch_tensor(tensor, self._derived)
            self._derived[id(tensor)] = (reference, WeightSource(names, order))

    def _note_value(self, name: str, data: Sequence[Operand]) -> None:
        """Note that values of data left PyTorch."""
        if data and functions.reads_value(name):
            self.notes.add(
                f"{self._sources.find()}: the model reads a value of a tensor: on another input "
                "it may take another path"
            )
        elif data and functions.leaves_torch(name):
            self._escaped.update({operand.id: None for operand in data})


@contextmanager
def pin_fast_paths() -> Iterator[None]:
    """While open, `nn.MultiheadAttention` and `nn.Transformer*` run function by function.

    Their fused paths give other bits, and are left by PyTorch itself where functions are seen.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


_PLAIN = frozenset(
    getattr(torch.Tensor, name).__get__
    for name in ("shape", "dtype", "device", "is_cuda", "requires_grad", "layout", "ndim", "grad",
                 "is_meta", "is_nested", "is_sparse", "is_quantized", "is_mkldnn")
) | frozenset(
    {torch.Tensor.size, torch.Tensor.dim, torch.Tensor.numel, torch.Tensor.is_floating_point,
     torch.Tensor.stride, torch.Tensor.__len__, torch.Tensor.is_contiguous,
     torch.is_floating_point, torch.numel, torch.Tensor.is_complex, torch.is_complex}
)  # fmt: skip
"""Functions that return no tensor and read no value: nothing is to be noted of them."""


def _sort_key(found: str) -> tuple[int, ...]:
    return tuple(map(int, found.split(".")))


def call_model(
    recorder: Recorder, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Run a model under a recorder, in inference mode, and return its output."""
    with torch.inference_mode(), pin_fast_paths(), recorder.watch_modules(), recorder:
        return model(*args, **kwargs)
