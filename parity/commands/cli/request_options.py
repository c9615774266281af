"""The options that `compare` and `capture` share, and the request that they make."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from parity.commands.cli import arguments

if TYPE_CHECKING:
    from parity.comparison.graphs.request import GraphRequest
    from parity.comparison.request import Request


def _shared_options(
    weights: arguments.WeightsOption = None,
    input: arguments.InputOption = None,
    batch: arguments.BatchOption = None,
    preprocess: arguments.PreprocessOption = None,
    seed: arguments.SeedOption = 0,
    subjects: arguments.SubjectsOption = None,
    reference: arguments.ReferenceOption = None,
    depth: arguments.DepthOption = arguments.Depth.stage,
    table: arguments.TableOption = None,
    opset: arguments.OpsetOption = None,
    device: arguments.DeviceOption = arguments.Device.auto,
    precision: arguments.PrecisionOption = arguments.Precision.float32,
    keras_backend: arguments.KerasBackendOption = arguments.DEFAULT_BACKEND,
    xla: arguments.XlaOption = False,
    serial: arguments.SerialOption = False,
    python: arguments.PythonOption = None,
    timeout: arguments.TimeoutOption = 900.0,
    classes: arguments.ClassesOption = None,
    image_size: arguments.ImageSizeOption = None,
    channels: arguments.ChannelsOption = None,
    cache: arguments.CacheOption = True,
) -> None:
    """List the options that `compare` and `capture` share: what is run, and where."""


def with_request_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of `_shared_options` to a command.

    The command gets their values by name in its argument ``options``, for `build_request`.
    """
    shared = inspect.signature(_shared_options).parameters

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        options = {name: values.pop(name) for name in shared}
        command(options=options, **values)

    signature = inspect.signature(command)
    own = [each for each in signature.parameters.values() if each.name != "options"]
    parameters = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*own, *shared.values())
    ]
    # Typer reads the options from the signature and their types from the annotations.
    with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_options


def build_request(
    options: Mapping[str, Any], references: tuple[str, ...] = (), **fields: Any
) -> "Request":
    """Return the request of the shared options and of further fields. Raises `UsageError`."""
    from parity.commands.values import parse_image_size, parse_inputs, parse_subjects, sort_models
    from parity.comparison.request import Request
    from parity.errors import UsageError
    from parity.processes.interpreters import resolve_interpreters

    values = {name: v.value if isinstance(v, Enum) else v for name, v in options.items()}
    values["image_size"] = parse_image_size(values["image_size"])
    values["subjects"] = parse_subjects(values["subjects"])
    values["input"], named = parse_inputs(values["input"] or ())
    if named:
        raise UsageError(f"--input {named[0][0]}=…: this model has one input; give the file alone")
    values["python"] = resolve_interpreters(values["python"] or [])
    return Request(**sort_models(references), **values, **fields)


def build_graph_request(
    options: Mapping[str, Any],
    references: tuple[str, ...],
    *,
    shape: Sequence[str] = (),
    **fields: Any,
) -> "GraphRequest":
    """Return the request for a comparison of any models. Raises `UsageError`."""
    from parity.commands.values import (
        parse_image_size,
        parse_inputs,
        parse_shapes,
        parse_subjects,
    )
    from parity.comparison.graphs.request import GraphRequest, refuse_table_options
    from parity.processes.interpreters import resolve_interpreters

    values = {name: v.value if isinstance(v, Enum) else v for name, v in options.items()}
    refuse_table_options(**values)
    names = {each.name for each in dataclasses.fields(GraphRequest)}
    values = {name: value for name, value in {**values, **fields}.items() if name in names}
    plain, named = parse_inputs(values.pop("input") or ())
    selected = values.pop("subjects")
    return GraphRequest(
        references=references,
        input=plain,
        inputs=dict(named),
        shapes=parse_shapes(shape),
        trust=tuple(values.pop("trust") or ()),
        subjects=() if selected is None else parse_subjects(selected),
        image_size=parse_image_size(values.pop("image_size")),
        python=resolve_interpreters(values.pop("python") or []),
        **values,
    )


def build_pair_request(
    right: str,
    other: str,
    *,
    input: Sequence[str] | None,
    shape: Sequence[str] | None,
    trust: Sequence[str] | None,
    image_size: str | None,
    python: Sequence[str] | None,
    **fields: Any,
) -> "GraphRequest":
    """Return the request of a command that takes a right model and another one, on the CPU.

    `fields` are those of the request that need no parsing. Raises `UsageError`.
    """
    from parity.commands.values import parse_image_size, parse_inputs, parse_shapes
    from parity.comparison.graphs.request import GraphRequest
    from parity.processes.interpreters import resolve_interpreters

    plain, named = parse_inputs(input or ())
    return GraphRequest(
        references=(right, other),
        input=plain,
        inputs=dict(named),
        shapes=parse_shapes(shape or ()),
        trust=tuple(trust or ()),
        image_size=parse_image_size(image_size),
        python=resolve_interpreters(python or []),
        device="cpu",
        export=False,
        **fields,
    )
