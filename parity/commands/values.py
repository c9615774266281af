"""Parameter values, in the forms that the command line, parity.toml and Python callers write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from parity.comparison.graphs.request import expect_runtime
from parity.errors import UsageError
from parity.network import architectures
from parity.processes.interpreters import resolve_interpreters
from parity.processes.references import parse_reference
from parity.processes.subjects import subject_kinds
from parity.text import quote

ImageSize = int | str | Sequence[int]
"""Pixels: 224, "224", "96x128" or (height, width)."""

Progress = Callable[[str, str], None]
"""A function that is called with a runtime and what it is doing now."""


def no_progress(runtime: str, text: str) -> None:
    """Show no progress."""


def parse_image_size(value: ImageSize | None) -> tuple[int, int] | None:
    """Return (height, width) in pixels, and None for None. Raises UsageError."""
    if value is None:
        return None
    if isinstance(value, Sequence) and not isinstance(value, str):
        sides = [str(side) for side in value]
    else:
        sides = str(value).lower().split("x")
    # Python converts no text of thousands of digits; no picture has a side of ten.
    is_valid = len(sides) in (1, 2) and all(s.isdecimal() and len(s) < 10 for s in sides)
    if not is_valid:
        raise UsageError(
            f"--image-size: expected N or HxW, such as 224 or 96x128, found {quote(value)}"
        )
    return int(sides[0]), int(sides[-1])


def parse_inputs(texts: Sequence[str]) -> tuple[str | None, list[tuple[str, str]]]:
    """Return the one input without a name, or None, and (name, file) of the others.

    A text with `=` whose first part is a file's path is a file. Raises UsageError for two inputs
    without a name.
    """
    plain, named = [], []
    for text in texts:
        name, equals, file = text.partition("=")
        if equals and name and not Path(text).exists() and "/" not in name:
            named.append((name, file))
        else:
            plain.append(text)
    if len(plain) > 1:
        raise UsageError(f"--input is given twice: {plain[0]} and {plain[1]}; name them NAME=FILE")
    return (plain[0] if plain else None), named


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the shape by input of texts such as `tokens=1x16`. Raises UsageError."""
    found = {}
    for text in texts:
        name, equals, shape = text.rpartition("=")
        sizes = shape.lower().split("x")
        if not (equals and name) or not all(
            size.isascii() and size.isdecimal() and len(size) < 10 and int(size) for size in sizes
        ):
            raise UsageError(f"--shape: expected NAME=1x3x224x224, found {quote(text)}")
        found[name] = tuple(map(int, sizes))
    return found


def parse_dynamic(texts: Sequence[str]) -> dict[str, dict[int, str]]:
    """Return the axes that vary, by input, of texts such as `tokens=1` or `x=2:height,3:width`.

    An axis without a name has "". Raises UsageError.
    """
    found: dict[str, dict[int, str]] = {}
    for text in texts:
        name, equals, axes = text.rpartition("=")
        for item in axes.split(","):
            axis, colon, size = item.partition(":")
            named = bool(size) and size.isidentifier() if colon else True
            if not (equals and name and axis.isascii() and axis.isdecimal() and named):
                raise UsageError(
                    f"--dynamic: expected NAME=AXIS or NAME=AXIS:SIZE, as in x=2,3 or "
                    f"tokens=1:length, found {quote(text)}"
                )
            found.setdefault(name, {})[int(axis)] = size
    return found


def parse_subjects(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the subjects of a comma-separated text or of a sequence; None is all kinds."""
    if value is None:
        return subject_kinds()
    names = value.split(",") if isinstance(value, str) else value
    return tuple(name.strip() for name in names if name.strip())


def find_interpreters(python: Mapping[str, str | Path] | None) -> dict[str, str]:
    """Return {runtime or environment: path of its Python}; see `resolve_interpreters`.

    `python` maps runtimes or environments to an interpreter or an environment's folder. It
    overrides the `[environments]` of parity.toml in the working folder. Raises InterpreterError for
    a path that does not exist.
    """
    return resolve_interpreters([f"{name}={path}" for name, path in (python or {}).items()])


def optional_path(value: str | Path | None) -> Path | None:
    """Return the value as a path; None for None."""
    return None if value is None else Path(value)


def require_references(models: Sequence[object]) -> tuple[str, ...]:
    """Return references as text, paths among them. Raises UsageError for anything else."""
    for each in models:
        if not isinstance(each, str | Path):
            raise UsageError(
                f"expected a reference such as 'net.py:build' or 'net.onnx', found a "
                f"{type(each).__name__}; live models are compared by "
                "parity.testing.assert_parity(keras=…, torch=…)"
            )
    return tuple(map(str, models))


def names_any_models(references: Sequence[str], *, table: object = None) -> bool:
    """Return whether the arguments name models to be read and aligned.

    One registered architecture has a layer table, whatever replaces its twins or their exports, and
    so have models that are given with a layer table of the user's. A file of pairs is none: models
    are aligned with it.
    """
    if not references:
        return False
    if isinstance(table, str | Path):
        # Not at the top: it brings the whole alignment of graphs, and no child is started yet.
        from parity.comparison.graphs.given_pairs import is_pairs_file

        return is_pairs_file(table)
    return bool(references[1:] and find_replacements(references) is None) or not (
        names_registered_model(references[0])
    )


def find_replacements(references: Sequence[str]) -> dict[str, str] | None:
    """Return what replaces a registered architecture's twins and exports, by field of `Request`.

    The references after the architecture's are `keras=REF`, `torch=REF`, `onnx-keras=FILE` and
    `onnx-torch=FILE`. None where the references are others.
    """
    if not references or not names_registered_model(references[0]):
        return None
    found = {}
    for text in references[1:]:
        name, equals, reference = text.partition("=")
        if not equals or name not in subject_kinds():
            return None
        found[name.replace("-", "_")] = reference
    return found


def sort_models(references: Sequence[str]) -> dict[str, Any]:
    """Return the models of a comparison by a layer table, by field of `Request`.

    An architecture is `model`; others are named by their runtime, or else by what they import.
    Raises `UsageError` for two of one runtime.
    """
    found: dict[str, Any] = {"model": None}
    for text in references:
        name, equals, reference = text.partition("=")
        if not equals or name not in subject_kinds():
            reference = text
            if names_registered_model(text):
                name = "model"
            else:
                name = expect_runtime(parse_reference(text))
        field = name.replace("-", "_")
        if found.get(field) is not None:
            raise UsageError(f"{quote(text)}: there is a {field} already: {quote(found[field])}")
        found[field] = Path(reference) if field.startswith("onnx_") else reference
    if "onnx" in found:
        raise UsageError(f"{found['onnx']}: name it: onnx-keras=FILE or onnx-torch=FILE")
    return found


def names_registered_model(text: str) -> bool:
    """Return whether a text can only be meant as an architecture with a layer table, or unknown."""
    name = text.partition(",")[0]
    if name in architectures.graph_names():
        return False
    return name in architectures.names() or not any(mark in text for mark in ":/.=")
