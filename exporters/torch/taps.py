"""Recording of the tensors that modules inside a PyTorch module return while it is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch.utils import _pytree as pytree

from exporters.errors import ExportError
from exporters.taps import Tap, check_tapped_calls, group_by_layer


@contextmanager
def return_tapped_tensors(module: torch.nn.Module, taps: Mapping[str, str]) -> Iterator[None]:
    """While open, a forward pass of `module` returns (its outputs, the tapped tensors in order)."""
    recorded: dict[str, torch.Tensor] = {}
    with ExitStack() as stack:
        for path, layer_taps in group_by_layer(taps).items():
            try:
                child = module.get_submodule(path)
            except AttributeError as error:
                raise ExportError(f"{layer_taps[0].name}: no module {path!r} ({error})") from error
            for handle in _register_hooks(child, path, layer_taps, recorded):
                stack.callback(handle.remove)

        def add_taps(_: object, __: object, result: object) -> object:
            check_tapped_calls(taps, recorded)
            tapped = tuple(recorded[name] for name in taps)
            recorded.clear()
            return result, tapped

        if taps:
            stack.callback(module.register_forward_hook(add_taps).remove)
        yield


def _register_hooks(
    child: torch.nn.Module, path: str, taps: Sequence[Tap], recorded: dict[str, torch.Tensor]
) -> Iterator[torch.utils.hooks.RemovableHandle]:
    calls = {True: 0, False: 0}

    def record(values: object, *, of_input: bool) -> None:
        for tap in taps:
            if tap.of_input == of_input and tap.call == calls[of_input]:
                tensors = [v for v in pytree.tree_leaves(values) if isinstance(v, torch.Tensor)]
                if not tensors:
                    raise ExportError(f"{tap.name}: {path} has no tensor there")
                # A copy: a later operator may work in place. It is an Identity in the graph.
                recorded[tap.name] = tensors[0].clone()
        calls[of_input] += 1

    def before(_: object, args: object, kwargs: object) -> None:
        record((args, kwargs), of_input=True)

    def after(_: object, __: object, result: object) -> None:
        record(result, of_input=False)

    yield child.register_forward_pre_hook(before, with_kwargs=True)
    yield child.register_forward_hook(after)
