"""One row of a layer table: a layer, its kind, its names in both models, its weights.

`parity.network.table` describes the file formats.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parity.errors import TableError
from parity.network import axes, kinds
from parity.text import quote, suggest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

COLUMNS = ("name", "stage", "kind", "keras", "torch", "shape", "weights", "inputs")

INPUT = "input"
"""The name of the network's input in rows and ONNX graphs."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_WEIGHT = re.compile(r"[^\s;]+")
_TORCH = re.compile(r"(?P<module>[^\s#@]+)(#(?P<call>[0-9]{1,6}))?(?P<input>@input)?")


@dataclass(frozen=True, slots=True)
class Weight:
    """One tensor of a layer; `name` is its key in PyTorch's state dict, `shape` its shape there.

    Kernels are (O, I, H, W), or (O, I) in dense layers. `keras` is the variable's name in Keras.
    """

    role: str
    name: str
    keras: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One layer. `shape` is its output's without the batch axis, (C, H, W) or (C,); () is unknown.

    `keras` or `torch` is empty where one side has no such layer. `inputs` are the rows that it
    reads, the shortcut of a sum before its branch; () is the row before it alone.
    """

    name: str
    stage: str
    kind: str
    keras: str
    torch: str
    shape: tuple[int, ...] = ()
    weights: tuple[Weight, ...] = ()
    inputs: tuple[str, ...] = ()

    @property
    def block(self) -> str:
        """The block that it belongs to, `stage1.block0`; the stage where it is in none."""
        inner = self.name.removeprefix(f"{self.stage}.")
        if inner == self.name or "." not in inner:
            return self.stage
        return f"{self.stage}.{inner.partition('.')[0]}"

    @property
    def in_both_models(self) -> bool:
        """Whether both models have this layer, so that it can be compared."""
        return bool(self.keras and self.torch)

    @property
    def statistics(self) -> tuple[Weight, ...]:
        """The running statistics among its weights: batch-norm's mean and variance."""
        return tuple(w for w in self.weights if kinds.get(self.kind).role(w.role).statistic)

    @property
    def parameters(self) -> int:
        """The number of its trained parameters; running statistics are not counted."""
        measured = self.statistics
        return sum(math.prod(w.shape) for w in self.weights if w not in measured)


@dataclass(frozen=True, slots=True)
class TorchPoint:
    """A tensor of a PyTorch model: the output, or input, of the `call`-th call (from 0) of a
    module.
    """

    module: str
    call: int
    is_input: bool


def parse_torch_point(text: str) -> TorchPoint:
    """Parse the `torch` column, `layer1.0.relu#2@input`; raises `TableError`."""
    match = _TORCH.fullmatch(text)
    if match is None or not text.isprintable():
        raise TableError(
            f"{quote(text)} is not a module path; expected module, module#CALL or module@input"
        )
    return TorchPoint(match["module"], int(match["call"] or 0), match["input"] is not None)


def canonical_name(row: Row, role: str) -> str:
    """Return the canonical name of a row's weight: its key in PyTorch's state dict.

    Where the PyTorch model has no such row, the row's own name stands for the module's path.
    """
    if not row.torch:
        return f"{row.name}.{role}"
    return f"{parse_torch_point(row.torch).module}.{kinds.get(row.kind).role(role).torch}"


def keras_shape(weight: Weight, kind: str) -> tuple[int, ...]:
    """Return the shape of a weight in Keras's layout, in a layer of `kind`."""
    return kinds.get(kind).role(weight.role).keras_shape(weight.shape)


def check_row(row: Row, where: str) -> None:
    """Raise `TableError`, beginning with `where`, if a row is invalid whatever the
    other rows are.
    """
    for field, value in (("name", row.name), ("stage", row.stage)):
        if not _NAME.fullmatch(value):
            raise TableError(
                f"{where}: {field} {quote(value)} must be letters, digits, '_', '-' and '.'"
            )
    _check_kind(row.kind, where)
    if not row.keras and not row.torch:
        raise TableError(f"{where}: neither model has this layer; give keras, torch or both")
    if row.keras != row.keras.strip() or not row.keras.isprintable():
        raise TableError(f"{where}: {quote(row.keras)} is not a name of a Keras layer")
    if row.torch:
        try:
            parse_torch_point(row.torch)
        except TableError as error:
            raise TableError(f"{where}: {error}") from None
    for name in row.inputs:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise TableError(f"{where}: inputs must be names of rows, found {quote(name)}")
    _check_dimensions(row.shape, where)
    roles = [weight.role for weight in row.weights]
    for weight in row.weights:
        _check_weight(row, weight, where)
        if roles.count(weight.role) > 1:
            raise TableError(f"{where}: {quote(weight.role)} is given twice")


def _check_kind(kind: str, where: str) -> None:
    if kinds.find(kind) is None:
        hint = suggest(kind, kinds.registry())
        raise TableError(f"{where}: unknown kind {quote(kind)}{hint}")


def _check_weight(row: Row, weight: Weight, where: str) -> None:
    roles = {role.name: role for role in kinds.get(row.kind).roles}
    if weight.role not in roles:
        known = f"its weights are {', '.join(roles)}" if roles else "it has no weights"
        raise TableError(f"{where}: a {row.kind} has no {quote(weight.role)}; {known}")
    role = roles[weight.role]
    if weight.keras != role.keras:
        raise TableError(f"{where}: Keras calls a {weight.role} {role.keras!r}")
    if not _WEIGHT.fullmatch(weight.name) or not weight.name.isprintable():
        raise TableError(f"{where}: {quote(weight.name)} is not a key of a state dict")
    _check_dimensions(weight.shape, f"{where}: {weight.name}")
    ranks = axes.ranks(role.axes)
    if len(weight.shape) not in ranks:
        expected = str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
        raise TableError(
            f"{where}: {weight.name} has {len(weight.shape)} axes, expected {expected}: a "
            f"{row.kind}'s {weight.role} is {axes.describe(role.axes)}"
        )
    if not axes.fits(role.axes, weight.shape):
        raise TableError(
            f"{where}: {weight.name} must be {axes.describe(role.axes)}, found {weight.shape}"
        )


def _check_dimensions(shape: tuple[int, ...], where: str) -> None:
    if not all(isinstance(size, int) and size > 0 for size in shape):
        raise TableError(f"{where}: shape {quote(shape)} must be whole numbers above 0")


def unique_keys(row: Row) -> Iterator[tuple[str, str]]:
    """Yield the (field, value) pairs that no other row of a table may have."""
    yield "name", row.name
    if row.keras:
        yield "Keras layer", row.keras
    if row.torch:
        point = parse_torch_point(row.torch)
        yield "PyTorch tensor", f"{point.module}#{point.call}{'@input' * point.is_input}"
    for weight in row.weights:
        yield f"weight {quote(weight.name)}", weight.name


def format_shape(shape: tuple[int, ...], *, by: str = "x") -> str:
    """Return a shape as text, `64x112x112`; empty where it is not known."""
    return by.join(str(size) for size in shape)


def format_weight_shapes(row: Row, *, in_keras: bool) -> str:
    """Return each weight's name in one framework and its shape there: `kernel 7×7×3×64`."""
    return ", ".join(
        f"{weight.keras} {format_shape(keras_shape(weight, row.kind), by='×')}"
        if in_keras
        else f"{weight.name.rpartition('.')[2]} {format_shape(weight.shape, by='×')}"
        for weight in row.weights
    )


def row_to_json(row: Row) -> dict[str, Any]:
    """Return the row as JSON data, with weight shapes in both layouts."""
    return {
        "name": row.name,
        "stage": row.stage,
        "kind": row.kind,
        "keras": row.keras,
        "torch": row.torch,
        "shape": list(row.shape),
        "weights": [
            {
                "role": weight.role,
                "name": weight.name,
                "shape": list(weight.shape),
                "keras_shape": list(keras_shape(weight, row.kind)),
            }
            for weight in row.weights
        ],
        **({"inputs": list(row.inputs)} if row.inputs else {}),
    }


def row_from_json(entry: object, where: str) -> Row:
    """Read a row as `row_to_json` or `row_to_cells` returns it.

    Raises `TableError`, beginning with `where`.
    """
    if not isinstance(entry, dict):
        raise TableError(f"{where}: expected a table of {', '.join(COLUMNS)}")
    if isinstance(entry.get("name"), str):
        where = f"{where} ({quote(entry['name'])})"
    check_keys(entry, COLUMNS, required=COLUMNS[:3], where=where)
    entry = _parse_cells(entry, where)
    text = {key: entry.get(key, "") for key in COLUMNS[:5]}
    for key, value in text.items():
        if not isinstance(value, str):
            raise TableError(f"{where}: {key} must be text, found {quote(value)}")
    weights = entry.get("weights", [])
    if not isinstance(weights, list):
        raise TableError(f"{where}: weights must be a list, found {quote(weights)}")
    inputs = entry.get("inputs", [])
    if not isinstance(inputs, list):
        raise TableError(f"{where}: inputs must be a list, found {quote(inputs)}")
    if weights:
        _check_kind(text["kind"], where)
    row = Row(
        **text,
        shape=_dimensions(entry.get("shape", []), f"{where}: shape"),
        weights=tuple(_weight_from_json(weight, text["kind"], where) for weight in weights),
        inputs=tuple(inputs),
    )
    check_row(row, where)
    for weight, given in zip(row.weights, weights, strict=True):
        expected = keras_shape(weight, row.kind)
        if given.get("keras_shape", list(expected)) != list(expected):
            raise TableError(
                f"{where}: {weight.name}: {weight.shape} is {expected} in Keras, "
                f"found {quote(given['keras_shape'])}"
            )
    return row


def _weight_from_json(entry: object, kind: str, where: str) -> Weight:
    keys = ("role", "name", "shape", "keras_shape")
    if not isinstance(entry, dict):
        raise TableError(f"{where}: a weight is a table of {', '.join(keys)}, found {quote(entry)}")
    check_keys(entry, keys, required=keys[:3], where=f"{where}: weights")
    role, name = entry["role"], entry["name"]
    known = kinds.role_names()
    if not isinstance(role, str) or role not in known:
        raise TableError(f"{where}: unknown role {quote(role)}{suggest(str(role), known)}")
    if not isinstance(name, str):
        raise TableError(f"{where}: the name of a weight must be text, found {quote(name)}")
    # check_row refuses a role of another kind.
    keras = next((r.keras for r in kinds.get(kind).roles if r.name == role), "")
    return Weight(role, name, keras, _dimensions(entry["shape"], f"{where}: {quote(name)}"))


def row_to_cells(row: Row) -> dict[str, str]:
    """Return the row as CSV and TOML have it: text under each of `COLUMNS`."""
    weights = (
        f"{weight.role} {weight.name} {format_shape(weight.shape)} "
        f"{format_shape(keras_shape(weight, row.kind))}"
        for weight in row.weights
    )
    names = (row.name, row.stage, row.kind, row.keras, row.torch)
    values = (*names, format_shape(row.shape), "; ".join(weights), " ".join(row.inputs))
    return dict(zip(COLUMNS, values, strict=True))


def _parse_cells(entry: dict[str, Any], where: str) -> dict[str, Any]:
    """Parse `shape`, `weights` and `inputs`, where they are text, to the lists of JSON."""
    entry = dict(entry)
    if isinstance(entry.get("inputs"), str):
        entry["inputs"] = entry["inputs"].split()
    if isinstance(entry.get("shape"), str):
        entry["shape"] = _parse_shape(entry["shape"], where)
    if isinstance(entry.get("weights"), str):
        parts = filter(None, (part.strip() for part in entry["weights"].split(";")))
        entry["weights"] = [_parse_weight(part, where) for part in parts]
    return entry


def _parse_weight(text: str, where: str) -> dict[str, Any]:
    words = text.split()
    if len(words) not in (3, 4):
        raise TableError(
            f"{where}: expected 'role name shape' or 'role name shape keras-shape', "
            f"found {quote(text)}"
        )
    role, name, *shapes = words
    sizes = (_parse_shape(shape, where) for shape in shapes)
    # One shape or two: the second is there to be checked.
    return {"role": role, "name": name, **dict(zip(("shape", "keras_shape"), sizes, strict=False))}


def _parse_shape(text: str, where: str) -> list[int]:
    sizes = text.split("x") if text else []
    if not all(size.isascii() and size.isdigit() and len(size) < 10 for size in sizes):
        raise TableError(f"{where}: expected a shape such as 64x112x112, found {quote(text)}")
    return [int(size) for size in sizes]


def _dimensions(value: object, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or any(type(size) is not int for size in value):
        raise TableError(f"{where}: expected a list of whole numbers, found {quote(value)}")
    return tuple(value)


def check_keys(
    found: Iterable[str], known: Collection[str], *, required: Iterable[str], where: str
) -> None:
    """Raise `TableError` for the first key that is unknown, given twice or missing."""
    seen: set[str] = set()
    for key in found:
        if key not in known:
            raise TableError(f"{where}: unknown key {quote(key)}{suggest(key, known)}")
        if key in seen:
            raise TableError(f"{where}: key {quote(key)} is given twice")
        seen.add(key)
    for key in required:
        if key not in seen:
            raise TableError(f"{where}: key {key!r} is missing")
