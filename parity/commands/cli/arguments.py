"""The arguments that several commands take, and what they hold."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parity.errors import ParityError
from parity.processes import registry
from parity.processes.subjects import backend_names, subject_kinds

if TYPE_CHECKING:
    from parity.comparison.request import Request


class Depth(StrEnum):
    """How fine the cuts are."""

    stage = "stage"
    block = "block"
    layer = "layer"


class Device(StrEnum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class Precision(StrEnum):
    """What the models compute in."""

    float32 = "float32"
    tf32 = "tf32"
    float16 = "float16"
    bfloat16 = "bfloat16"


def _choice(name: str, values: Iterable[str]) -> type[StrEnum]:
    """An enumeration of values that are found at run time, as Typer takes a choice."""
    return StrEnum(name, {value: value for value in values})  # type: ignore[return-value]


if TYPE_CHECKING:
    Backend = str
    Framework = str
else:
    try:
        Framework = _choice("Framework", registry.model_runtimes())
        Backend = _choice("Backend", backend_names("keras"))
    except ParityError as error:
        # Typer reads the choices while this module is imported, before a command can report it.
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)

DEFAULT_BACKEND = Backend(backend_names("keras")[0])


Model = Annotated[str, typer.Argument(metavar="MODEL", help="An architecture: `parity models`.")]
Classes = Annotated[int | None, typer.Option(help="How many classes the model ends with.")]
Size = Annotated[
    str | None, typer.Option(metavar="N|HxW", help="Image size in pixels, such as 224 or 96x128.")
]
Channels = Annotated[int | None, typer.Option(help="Channels of the input image.")]
Seed = Annotated[int, typer.Option(help="Seed of random weights, inputs and crops.")]
Opset = Annotated[int | None, typer.Option(help="ONNX opset, 17 or newer.")]
Where = Annotated[
    Device,
    typer.Option(help="Where subjects without @cpu or @gpu run; auto: the GPU if all can use it."),
]
Arithmetic = Annotated[
    Precision, typer.Option(help="What every subject computes in; the floor is scaled by it.")
]
JudgeAs = Annotated[
    Precision | None,
    typer.Option(help="Judge by the floor of this precision instead of the one computed in."),
]
KerasBackend = Annotated[
    Backend, typer.Option(help="The backend of subjects that are keras without a [backend].")
]
Xla = Annotated[bool, typer.Option("--xla", help="Compile Keras models with XLA.")]
Serial = Annotated[
    bool, typer.Option("--serial", help="Run one subject at a time, for a small GPU.")
]
Interpreters = Annotated[
    list[str] | None,
    typer.Option(
        "--python",
        metavar="NAME=PATH",
        help=f"The Python of a runtime ({', '.join(registry.frameworks())}) or of an environment "
        "of your naming.",
    ),
]
Cached = Annotated[bool, typer.Option("--cache/--no-cache", help="Use what earlier runs left.")]
AnyModel = Annotated[
    str | None, typer.Argument(metavar="MODEL", help="An architecture: `parity models`.")
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|random|own",
        help="A checkpoint; seeded random weights (the default for MODEL); or what each model "
        "of your own holds (the default there).",
    ),
]
Input = Annotated[
    str | None,
    typer.Option(
        metavar="PHOTO|DIR|F.npy|random", help="What to run; the default is a photograph."
    ),
]
Batch = Annotated[int | None, typer.Option(help="How many items to run at once.")]
Subjects = Annotated[str, typer.Option(help="What to compare, comma-separated.")]
Reference = Annotated[
    Framework | None, typer.Option(help="Who runs in float64; PyTorch if it can.")
]
Cuts = Annotated[Depth, typer.Option(help="Where to compare.")]
Limit = Annotated[float, typer.Option(help="How many floors are still rounding.")]
KerasGraph = Annotated[
    Path | None, typer.Option(metavar="F.onnx", help="Run this file as onnx-keras.")
]
TorchGraph = Annotated[
    Path | None, typer.Option(metavar="F.onnx", help="Run this file as onnx-torch.")
]
KerasReference = Annotated[
    str | None, typer.Option(metavar="MODULE:CALLABLE", help="Your own Keras model.")
]
TorchReference = Annotated[
    str | None, typer.Option(metavar="MODULE:CALLABLE", help="Your own PyTorch model.")
]
Table = Annotated[
    Path | None, typer.Option(help="The layer table of your own models (.csv .toml .json).")
]
Timeout = Annotated[float, typer.Option(help="Seconds that one step may take.")]

ALL = ",".join(subject_kinds())
"""What is compared when nothing else is asked for."""


def _shared(
    model: AnyModel = None,
    weights: Weights = None,
    input: Input = None,
    batch: Batch = None,
    seed: Seed = 0,
    subjects: Subjects = ALL,
    reference: Reference = None,
    depth: Cuts = Depth.stage,
    onnx_keras: KerasGraph = None,
    onnx_torch: TorchGraph = None,
    keras: KerasReference = None,
    torch: TorchReference = None,
    table: Table = None,
    opset: Opset = None,
    device: Where = Device.auto,
    precision: Arithmetic = Precision.float32,
    keras_backend: KerasBackend = DEFAULT_BACKEND,
    xla: Xla = False,
    serial: Serial = False,
    python: Interpreters = None,
    timeout: Timeout = 900.0,
    classes: Classes = None,
    image_size: Size = None,
    channels: Channels = None,
    cache: Cached = True,
) -> None:
    """What is run, and where: the options that `compare` and `capture` share."""


def requesting(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, whose ``given`` argument this fills, the options that `_shared` lists.

    ``given`` maps their names to what the command line says; `request` makes a request of it.
    """
    shared = inspect.signature(_shared).parameters

    @functools.wraps(command)
    def with_options(**found: Any) -> None:
        given = {name: found.pop(name) for name in shared}
        command(given=given, **found)

    signature = inspect.signature(command)
    own = [each for each in signature.parameters.values() if each.name != "given"]
    every = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*own, *shared.values())]
    # Typer reads the options off the signature and their types off the annotations.
    with_options.__signature__ = signature.replace(parameters=every)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in every}
    return with_options


def request(given: Mapping[str, Any], **more: Any) -> "Request":
    """Make a request of what `requesting` found and of `more` fields; raises `UsageError`."""
    from parity.commands.values import parse_image_size, parse_subjects
    from parity.comparison.request import Request
    from parity.processes.interpreters import interpreters

    plain = {name: v.value if isinstance(v, Enum) else v for name, v in given.items()}
    plain["image_size"] = parse_image_size(plain["image_size"])
    plain["subjects"] = parse_subjects(plain["subjects"])
    plain["python"] = interpreters(plain["python"] or [])
    return Request(**plain, **more)
