"""The texts in which a layer is another where its source constructs or calls it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from parity.explain.repair import literals
from parity.explain.repair import source as sources
from parity.explain.repair.arguments import to_arguments
from parity.explain.repair.chains import Chains, is_activation
from parity.explain.repair.changes import LayerRepair
from parity.explain.repair.source_files import Sibling, SourceFiles
from parity.network import kinds
from parity.network.alignment import families
from parity.network.graph import Node


def plan_layer_texts(
    repair: LayerRepair,
    node: Node,
    chain: Chains,
    files: SourceFiles,
    framework: str,
    sizes: Sequence[int],
    siblings: Sequence[Sibling],
) -> Iterator[tuple[str, str]]:
    """Yield each file that could be changed, and its new text."""
    if repair.kind:
        kind, hyper = repair.kind, repair.hyper
        yield from _change_operation(node, kind, hyper, files, framework)
    elif repair.hyper:
        yield from _change_settings(repair, node, files, framework, sizes, siblings)
    if not repair.kind and not repair.hyper:
        if chain.surplus is not None:
            yield from _remove_activation(chain.surplus, files, framework)
        elif chain.missing is not None and chain.before is not None:
            for each in (chain.before, *chain.others):
                yield from _add_activation(chain.missing, each, files, framework)
    elif is_activation(node) is False and chain.missing is not None and chain.before is not None:
        yield from _add_activation(chain.missing, chain.before, files, framework)
    if "bias" in repair.roles and node.find_parameter("bias") is None:
        argument = "use_bias" if framework == "keras" else "bias"
        yield from _change_arguments(node, files, {argument: True})
    if "padding" in repair.hyper and repair.moves_weights and framework == "torch":
        # The zeros are other values there: by reflection, for example.
        yield from _change_arguments(node, files, {"padding_mode": "zeros"})
    if repair.changes_data:
        # The operation that was added may itself be the partner of the layer.
        own = (node,) if chain.is_other else ()
        yield from _remove_added(node, (*chain.added, *own), files)


def _change_arguments(
    node: Node, files: SourceFiles, arguments: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield the text with other arguments where the layer of a node is constructed."""
    place = files.find_layer_class(node, next(iter(arguments), ""))
    if place is not None:
        text = sources.change_constructor(files.texts[place.file], place, arguments)
        if text is not None:
            yield place.file, text


def _remove_added(
    node: Node, added: Sequence[Node], files: SourceFiles
) -> Iterator[tuple[str, str]]:
    """Yield the texts without an operation that the reference lacks, or with two inputs exchanged.

    Each is judged by a comparison before it is taken.
    """
    for each in (*added, node):
        line = files.find_line(each)
        if line is None:
            continue
        text = files.texts[line[0]]
        for changed in (
            *sources.remove_arithmetic(text, line[1]),
            *(sources.remove_call(text, line[1], (each.operation,)) if each in added else ()),
        ):
            yield line[0], changed
    line = files.find_line(node)
    if line is not None and families.is_ordered(node.kind):
        for changed in sources.exchange_items(files.texts[line[0]], line[1], (node.operation,)):
            yield line[0], changed


def _change_settings(
    repair: LayerRepair,
    node: Node,
    files: SourceFiles,
    framework: str,
    sizes: Sequence[int],
    siblings: Sequence[Sibling],
) -> Iterator[tuple[str, str]]:
    hyper = {**node.hyper, **repair.hyper}
    yield from _leave_out_arguments(repair, node, files)
    arguments = to_arguments(framework, node.kind, repair.hyper, hyper, sizes)
    if arguments is None:
        return
    place = files.find_layer_class(node, next(iter(arguments), ""))
    if place is not None:
        computed = sources.find_computed(files.texts[place.file], place, arguments)
        for name, value in computed.items():
            # What the argument is computed from, ahead of one value for all that the call makes.
            yield from _change_computed(name, value, repair, node, files, framework, siblings)
        text = sources.change_constructor(files.texts[place.file], place, arguments)
        if text is not None:
            line = files.find_line(node)
            if "padding" in repair.hyper and line is not None and line[0] == place.file:
                # The padding is an operation of its own: it is taken away, where there is one.
                for each in sources.remove_call(text, line[1], ("pad",)):
                    yield place.file, each
            yield place.file, text
            return
    line = files.find_line(node)
    if line is not None:
        names = kinds.get(node.kind).torch_functions or kinds.get(node.kind).keras_functions
        for text in sources.change_function_argument(
            files.texts[line[0]], line[1], (*names, node.operation), arguments
        ):
            yield line[0], text


def _change_computed(
    name: str,
    value: ast.expr,
    repair: LayerRepair,
    node: Node,
    files: SourceFiles,
    framework: str,
    siblings: Sequence[Sibling],
) -> Iterator[tuple[str, str]]:
    """Yield the texts in which an argument that is no literal gets other values.

    The loop that gives the layers of one call theirs gets the reference's, in order.
    """
    place = files.places[node.path]
    text = files.texts[place.file]
    wanted = []
    for each in siblings:
        right = {key: each.wanted.get(key) for key in repair.hyper}
        if None in right.values():
            continue
        found = to_arguments(framework, node.kind, right, {**each.node.hyper, **right}, each.sizes)
        wanted.append((found or {}).get(name))
    if len(wanted) == len(siblings) and None not in wanted:
        for changed in literals.change_looped_list(text, value, wanted):
            yield place.file, changed


def _leave_out_arguments(
    repair: LayerRepair, node: Node, files: SourceFiles
) -> Iterator[tuple[str, str]]:
    """Yield the texts whose call states no other value than the default that is wanted."""
    line = files.find_line(node)
    if line is None:
        return
    for name, value in repair.hyper.items():
        setting = next((s for s in kinds.get(node.kind).hyperparameters if s.name == name), None)
        if setting is not None and setting.call_arguments and value == setting.default:
            for text in sources.remove_keywords(
                files.texts[line[0]], line[1], setting.call_arguments
            ):
                yield line[0], text


def _change_operation(
    node: Node, wanted: str, hyper: Mapping[str, Any], files: SourceFiles, framework: str
) -> Iterator[tuple[str, str]]:
    """Yield the texts in which an operation is one of another kind."""
    target, found = kinds.get(wanted), kinds.find(node.kind)
    place = files.find_layer_class(node)
    if place is not None and found is not None:
        text = files.texts[place.file]
        classes, own = getattr(target, framework), getattr(found, framework)
        # `nn.Conv2d` has no activation; `Conv2D(activation=…)` has.
        if classes and place.made in own:
            parts = _class_arguments(framework, wanted, hyper)
            changed = sources.change_constructor(
                text, place, parts, _same_rank(place.made, classes[0])
            )
            if changed is not None:
                yield place.file, changed
                return
        if framework == "keras" and target.keras_functions:
            arguments = {"activation": target.keras_functions[0]}
            changed = sources.change_constructor(text, place, arguments)
            if changed is not None:
                yield place.file, changed
                return
    line = files.find_line(node)
    if line is not None and target.torch_reduction and node.operation in _reductions():
        for text in sources.rename_call(
            files.texts[line[0]], line[1], node.operation, target.torch_reduction
        ):
            yield line[0], text
        return
    if line is not None and target.python_operator and found is not None:
        for text in sources.change_operator(
            files.texts[line[0]], line[1], found.python_operator, target.python_operator
        ):
            yield line[0], text
    functions = f"{framework}_functions"
    names = getattr(target, functions) or target.torch_functions
    if line is None or not names:
        return
    own = () if found is None else (*found.torch_functions, *found.keras_functions)
    for name in names[:1] if "pool" not in wanted else names:
        if "pool" in wanted and name[-2:] != node.operation[-2:]:
            continue
        for text in sources.replace_function(
            files.texts[line[0]], line[1], (*own, node.operation), name
        ):
            yield line[0], text


def _reductions() -> set[str]:
    """Return the methods of PyTorch's tensors that reduce the axes that they are given."""
    return {each.torch_reduction for each in kinds.registry().values()} - {""}


def _class_arguments(framework: str, kind: str, hyper: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that an activation's class needs beside its defaults."""
    if "pool" in kind:
        return {}
    stated = {
        s.name: hyper[s.name]
        for s in kinds.get(kind).hyperparameters
        if getattr(s, framework) and s.name in hyper and hyper[s.name] != s.default
    }
    return to_arguments(framework, kind, stated, stated) or {}


def _same_rank(made: str, wanted: str) -> str:
    """Return the class of the rank that the present one has: MaxPool1d for MaxPool2d."""
    if made[-2:].lower() in ("1d", "2d", "3d") and wanted[-2:].lower() in ("1d", "2d", "3d"):
        return wanted[:-2] + made[-2:]
    return wanted


def _remove_activation(node: Node, files: SourceFiles, framework: str) -> Iterator[tuple[str, str]]:
    found = kinds.get(node.kind)
    place = files.find_layer_class(node, "activation")
    if place is not None:
        text = files.texts[place.file]
        changed = None
        if place.made in getattr(found, framework):
            changed = sources.change_constructor(text, place, {}, "Identity")
        elif framework == "keras":
            changed = sources.change_constructor(text, place, {"activation": "linear"})
        if changed is not None:
            yield place.file, changed
            return
    line = files.find_line(node)
    if line is not None:
        names = (*found.torch_functions, *found.keras_functions, node.operation)
        for text in sources.remove_call(files.texts[line[0]], line[1], names):
            yield line[0], text


def _add_activation(
    missing: Node, before: Node, files: SourceFiles, framework: str
) -> Iterator[tuple[str, str]]:
    kind = kinds.get(missing.kind)
    if framework == "keras":
        place = files.find_layer_class(before, "activation")
        if place is not None and kind.keras_functions:
            arguments = {"activation": kind.keras_functions[0]}
            text = sources.change_constructor(files.texts[place.file], place, arguments)
            if text is not None:
                yield place.file, text
        return
    line = files.find_line(before)
    if line is not None and kind.torch_functions:
        own = before.path.rpartition(".")[2]
        found = kinds.find(before.kind)
        names = (own,) if own else (*(found.torch_functions if found else ()), before.operation)
        arguments = _class_arguments(framework, missing.kind, missing.hyper)
        for text in sources.wrap_call(
            files.texts[line[0]], line[1], names, kind.torch_functions[0], arguments
        ):
            yield line[0], text
