"""The differences between the layers of built models and of the layer table.

A description is plain data that a runtime returns for its model:

    {"layers": [{"row": name of the table's row or None, "name": its own name, "kind": "conv",
                 "class": "Conv2D", "shape": [C, H, W] or [C], "hyper": {field: value, …},
                 "parameters": number of trained ones}, …],
     "parameters": number of trained ones, in all}

Shapes have no batch axis and channels first. `hyper` has the same fields for a kind in every
framework, in the same units: `padding` is the effective one, [[top, bottom], [left, right]].
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from parity.errors import TableError
from parity.network import kinds
from parity.network.table import LayerTable, Row

Layer = Mapping[str, Any]

# A framework may store a constant in float32, a relative change of up to 6e-8.
_RELATIVE = 1e-7


@dataclass(frozen=True)
class Difference:
    """One difference of `subject` from the table, or from the reference model.

    `row` is a row, block or stage, empty for the whole model. `field` is `layer`, `kind`, `shape`,
    `parameters`, a hyperparameter, or `hyper` for all of them. A `consequence` follows from another
    difference, and most likely disappears with it.
    """

    row: str
    subject: str
    field: str
    expected: Any
    found: Any
    message: str
    consequence: bool = False
    layer: Layer | None = None
    """The description of a layer that is in no row."""


@dataclass
class _Model:
    """A description, its layers by row; `broken` are rows that are not compared any further."""

    subject: str
    rows: list[Row]
    layers: dict[str, Layer]
    extra: list[Layer]
    parameters: int
    broken: set[str] = field(default_factory=set)


def find_differences(
    table: LayerTable, descriptions: Mapping[str, Mapping[str, Any]], *, reference: str = "torch"
) -> list[Difference]:
    """Return the differences between the models and the table, and between the models.

    `descriptions` has one entry a subject, `keras` and `torch`. The table has no hyperparameters:
    they are compared with those of `reference`, and the difference names the model whose weights or
    shape contradict the table at that layer, the other model where neither or both do. The list is
    in the order of the table's rows, and empty if the structure is the same. Raises `TableError` if
    there is nothing to compare.
    """
    if not descriptions or not table.rows:
        raise TableError("the structure cannot be checked: no model or no layer to compare")
    models = [_sort_layers(table, subject, data) for subject, data in descriptions.items()]
    found: list[Difference] = []
    for model in models:
        found += [*_find_ambiguous(model, descriptions[model.subject]), *_find_missing(model)]
        found += [*_find_extra(model), *_find_kinds(model)]
    by_subject = {model.subject: model for model in models}
    expected = by_subject.get(reference, models[0])
    for model in models:
        if model is not expected:
            found += _compare_all_hyper(table, expected=expected, actual=model)
    for model in models:
        found += _find_shapes(model, expected, found)
    for model in models:
        found += _find_parameters(table, model, expected, found)
    order = {row.name: index for index, row in enumerate(table.rows)}
    return sorted(found, key=lambda difference: _position(difference, order))


def _position(difference: Difference, order: Mapping[str, int]) -> int:
    name = difference.row
    if name in order:
        return order[name]
    inside = [index for row, index in order.items() if row.startswith(f"{name}.")]
    return inside[0] if inside and name else len(order)


def _own_name(row: Row, subject: str) -> str:
    names = {"keras": row.keras, "torch": row.torch}
    if subject not in names:
        raise TableError(f"the table has no names for {subject!r}, only for keras and torch")
    return names[subject]


def _sort_layers(table: LayerTable, subject: str, description: Mapping[str, Any]) -> _Model:
    rows = [row for row in table.rows if _own_name(row, subject)]
    known = {row.name for row in rows}
    layers: dict[str, Layer] = {}
    extra = []
    for layer in description["layers"]:
        if layer["row"] in known:
            layers.setdefault(layer["row"], layer)
        elif not _is_passive(layer["kind"]):
            extra.append(layer)
    return _Model(subject, rows, layers, extra, description["parameters"])


def _is_passive(name: str) -> bool:
    """Return whether a layer computes nothing in inference: an input, or one of a passive kind."""
    kind = kinds.find(name)
    return name == "input" or (kind is not None and kind.passive)


def _find_ambiguous(model: _Model, description: Mapping[str, Any]) -> Iterator[Difference]:
    names: dict[str, list[str]] = {row.name: [] for row in model.rows}
    for layer in description["layers"]:
        if layer["row"] in names:
            names[layer["row"]].append(layer["name"])
    for row, claims in names.items():
        if len(claims) > 1:
            text = f"{row}: {len(claims)} layers of {model.subject} are this row: "
            text += _format_names(claims)
            yield Difference(row, model.subject, "layer", 1, len(claims), text)


def _find_missing(model: _Model) -> Iterator[Difference]:
    """Yield the rows without a layer; a block, stage or model without all its rows is one item."""
    absent = {row.name for row in model.rows if row.name not in model.layers}
    model.broken |= absent
    if len(absent) == len(model.rows):
        model.extra.clear()
        text = f"{model.subject} has none of the table's {len(absent)} layers: is it this model?"
        yield Difference("", model.subject, "layer", len(absent), 0, text)
        return
    reported: set[str] = set()
    for row in model.rows:
        if row.name not in absent or row.name in reported:
            continue
        group, rows = _largest_group(row, model.rows, absent)
        reported |= {member.name for member in rows}
        if len(rows) > 1:
            text = f"{group}: {model.subject} has none of its {len(rows)} layers"
            yield Difference(group, model.subject, "layer", len(rows), 0, text)
        else:
            yield _missing_row(row, model)


def _largest_group(row: Row, rows: Sequence[Row], absent: set[str]) -> tuple[str, Sequence[Row]]:
    """Return the stage or block of `row` if it is missing as a whole, else the row alone."""
    stage = [other for other in rows if other.stage == row.stage]
    block = [other for other in stage if other.block == row.block]
    for group, members in ((row.stage, stage), (row.block, block)):
        if all(member.name in absent for member in members):
            return group, members
    return row.name, [row]


def _missing_row(row: Row, model: _Model) -> Difference:
    name = _own_name(row, model.subject)
    text = f"{row.name}: {model.subject} has no {row.kind} {name!r}"
    # A layer that is there under another name is one mistake, not two.
    twins = [layer for layer in model.extra if _has_kind_and_shape(layer, row)]
    close = difflib.get_close_matches(name, [layer["name"] for layer in twins], n=1, cutoff=0.0)
    found = None
    if close:
        found = close[0]
        model.extra = [layer for layer in model.extra if layer["name"] != found]
        text += f"; {found!r} is of its kind and shape, and in no row of the table"
    return Difference(row.name, model.subject, "layer", name, found, text)


def _has_kind_and_shape(layer: Layer, row: Row) -> bool:
    return layer["kind"] == row.kind and (
        not row.shape or _lists_to_tuples(layer["shape"]) == row.shape
    )


def _find_extra(model: _Model) -> Iterator[Difference]:
    for layer in model.extra:
        name, what = layer["name"], layer["class"] or layer["kind"]
        text = f"{model.subject} has a layer that is not in the table: {name!r} ({what})"
        row = layer["row"] or ""
        yield Difference(row, model.subject, "layer", None, name, text, layer=layer)


def _find_kinds(model: _Model) -> Iterator[Difference]:
    for row in model.rows:
        layer = model.layers.get(row.name)
        if layer is not None and layer["kind"] != row.kind:
            model.broken.add(row.name)
            text = (
                f"{row.name}: expected a {row.kind}, found a {layer['kind']} "
                f"({layer['class']} {layer['name']!r} in {model.subject})"
            )
            yield Difference(row.name, model.subject, "kind", row.kind, layer["kind"], text)


def _compare_all_hyper(
    table: LayerTable, *, expected: _Model, actual: _Model
) -> Iterator[Difference]:
    """Yield the hyperparameters that are not the same in both models."""
    broken = expected.broken | actual.broken
    unreshaped, upstream, unpadded = [actual, expected], False, False
    for row in table.rows:
        if row.name in broken:
            upstream, unpadded = True, row.kind == "pad"
            continue
        if row.name not in actual.layers or row.name not in expected.layers:
            continue
        # After its first wrong shape, a model's shapes no longer show which layer is wrong.
        wrong = [model for model in (actual, expected) if _contradicts(model, row, unreshaped)]
        blamed = expected if wrong == [expected] else actual
        unreshaped = [model for model in unreshaped if not _has_other_shape(model, row)]
        for item in _compare_hyper(row, actual if blamed is expected else expected, blamed):
            # A layer's input channels follow from earlier layers, and its padding from the row
            # before.
            follows = {"in": upstream, "padding": unpadded}.get(item.field, False)
            yield replace(item, consequence=follows)
            upstream |= item.field in kinds.reshaping_hyperparameters()
        upstream, unpadded = upstream or len(unreshaped) < 2, False


def _compare_hyper(row: Row, other: _Model, blamed: _Model) -> Iterator[Difference]:
    wanted, given = _comparable(
        row, *(model.layers[row.name]["hyper"] for model in (other, blamed))
    )
    if bool(wanted) != bool(given):
        without, having = (blamed, other) if wanted else (other, blamed)
        text = (
            f"{row.name}: {without.subject} does not state {', '.join(wanted or given)}, as "
            f"{having.subject} does; they could not be compared"
        )
        yield Difference(row.name, blamed.subject, "hyper", wanted, given, text)
        return
    for name in dict.fromkeys((*wanted, *given)):
        # A field that only one model states was not compared, which is not a pass.
        if name in wanted and name in given and _equal(wanted[name], given[name]):
            continue
        text = (
            f"{row.name}: {name} is {_format_value(wanted, name)} in {other.subject}, "
            f"{_format_value(given, name)} in {blamed.subject}"
        )
        yield Difference(row.name, blamed.subject, name, wanted.get(name), given.get(name), text)


def _comparable(
    row: Row, one: Mapping[str, Any], other: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return both layers' hyperparameters without optional ones that only one of them states."""
    kind = kinds.find(row.kind)
    optional = (
        {setting.name for setting in kind.hyperparameters if setting.optional} if kind else set()
    )
    left_out = optional & (set(one) ^ set(other))
    one, other = ({n: v for n, v in h.items() if n not in left_out} for h in (one, other))
    return one, other


def _contradicts(model: _Model, row: Row, unreshaped: Sequence[_Model]) -> bool:
    """Return whether this layer's parameters or shape differ from the table's."""
    if row.weights and model.layers[row.name]["parameters"] != row.parameters:
        return True
    return any(other is model for other in unreshaped) and _has_other_shape(model, row)


def _has_other_shape(model: _Model, row: Row) -> bool:
    return bool(row.shape) and _lists_to_tuples(model.layers[row.name]["shape"]) != row.shape


def _format_value(hyper: Mapping[str, Any], name: str) -> str:
    return repr(_lists_to_tuples(hyper[name])) if name in hyper else "not stated"


def _find_shapes(
    model: _Model, reference: _Model, found: Sequence[Difference]
) -> Iterator[Difference]:
    """Yield the shapes that differ from the table's, or the reference's where the table has none.

    Every difference after the first layer that can have changed a shape is its consequence.
    """
    reshaped = {row for item in found for row in _rows_reshaped_by(item, model.subject)}
    upstream = "" in reshaped
    for row in model.rows:
        upstream |= not reshaped.isdisjoint((row.name, row.block, row.stage))
        other = reference.layers.get(row.name)
        shape = row.shape or (() if other is None else _lists_to_tuples(other["shape"]))
        if row.name in model.broken or not shape:
            continue
        given = _lists_to_tuples(model.layers[row.name]["shape"])
        if given != shape and not _padding_is_in_next_layer(model, row):
            text = f"{row.name}: the output's shape is {given} in {model.subject}, expected {shape}"
            yield Difference(row.name, model.subject, "shape", shape, given, text, upstream)
            upstream = True


def _padding_is_in_next_layer(model: _Model, row: Row) -> bool:
    """Return whether the layer after a padding layer states the total padding."""
    if row.kind != "pad":
        return False
    following = model.rows[model.rows.index(row) + 1 :][:1]
    return any(
        "padding" in model.layers[r.name]["hyper"] for r in following if r.name in model.layers
    )


def _rows_reshaped_by(difference: Difference, subject: str) -> Iterable[str]:
    """Return the row from which on a difference can have changed shapes of `subject`."""
    if difference.field in kinds.reshaping_hyperparameters():
        # It is not known which of the two models is the wrong one.
        return [difference.row]
    if difference.field in ("layer", "kind") and difference.subject == subject:
        return [difference.row]
    return []


def _find_parameters(
    table: LayerTable, model: _Model, reference: _Model, found: Sequence[Difference]
) -> Iterator[Difference]:
    """Yield the parameter counts that differ from the table's, or the reference's
    without a table.
    """
    explained = {
        item.row
        for item in found
        if item.subject == model.subject or item.field not in ("layer", "kind", "shape")
    }
    known = any(row.weights for row in table.rows)
    differs = False
    for row in model.rows:
        if row.name in model.broken or (not known and row.name in reference.broken):
            continue
        other = reference.layers.get(row.name)
        expected = row.parameters if known or other is None else other["parameters"]
        given = model.layers[row.name]["parameters"]
        if given != expected:
            differs = True
            text = f"{row.name}: {given:,} parameters in {model.subject}, expected {expected:,}"
            consequence = row.name in explained
            yield Difference(
                row.name, model.subject, "parameters", expected, given, text, consequence
            )
    total = table.parameters if known else reference.parameters
    if model.parameters != total:
        text = f"{model.subject} has {model.parameters:,} parameters, expected {total:,}"
        follows = differs or any(item.subject == model.subject for item in found)
        yield Difference("", model.subject, "parameters", total, model.parameters, text, follows)


def _equal(left: Any, right: Any) -> bool:
    left, right = _lists_to_tuples(left), _lists_to_tuples(right)
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(_equal, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=_RELATIVE)
    return bool(left == right)


def _lists_to_tuples(value: Any) -> Any:
    """Return a value with all lists in it (JSON's) turned into tuples (the table's)."""
    return tuple(map(_lists_to_tuples, value)) if isinstance(value, list | tuple) else value


def _format_names(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + ("…" if len(names) > 3 else "")
