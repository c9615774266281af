"""The arguments and options that several commands share, as annotated types for Typer."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parity.commands.cli import panels
from parity.errors import ParityError
from parity.processes import registry


class Depth(StrEnum):
    """The depth of the comparison points."""

    stage = "stage"
    block = "block"
    layer = "layer"


class Device(StrEnum):
    """The device of the subjects."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class FixedDevice(StrEnum):
    """The device of all runtimes of a command, which chooses none itself."""

    cpu = "cpu"
    gpu = "gpu"


class ExportPrecision(StrEnum):
    """The precision that an exported file computes in."""

    float32 = "float32"
    float16 = "float16"


class Precision(StrEnum):
    """The precision of the subjects."""

    float32 = "float32"
    tf32 = "tf32"
    float16 = "float16"
    bfloat16 = "bfloat16"


def _choice(name: str, values: Iterable[str]) -> type[StrEnum]:
    """Return an enumeration of values that are known at run time, which Typer takes as a choice."""
    return StrEnum(name, {value: value for value in values})  # type: ignore[return-value]


if TYPE_CHECKING:
    Backend = str
    Framework = str
else:
    try:
        Framework = _choice("Framework", registry.model_runtimes())
        Backend = _choice("Backend", registry.backend_names("keras"))
    except ParityError as error:
        # The choices are read while this module is imported, before a command can handle an error.
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)

DEFAULT_BACKEND = Backend(registry.backend_names("keras")[0])


def complete_model(incomplete: str) -> list[str]:
    """Return the registered architectures that begin so, for the shell."""
    from parity.network import architectures

    return [name for name in architectures.all_names() if name.startswith(incomplete)]


def complete_reference(incomplete: str) -> list[str]:
    """Return the architectures and the files that begin so, for the shell."""
    name, equals, text = incomplete.rpartition("=")
    folder = Path(text) if text.endswith("/") else Path(text).parent
    paths = folder.glob("*") if folder.is_dir() else ()
    found = [f"{path}/" if path.is_dir() else str(path) for path in sorted(paths)]
    known = [*complete_model(text), *(each for each in found if each.startswith(text))]
    return [f"{name}{equals}{each}" for each in known]


ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A registered architecture; see `parity models`.",
        autocompletion=complete_model,
    ),
]
ClassesOption = Annotated[
    int | None, typer.Option(help="Number of classes.", rich_help_panel=panels.WHAT)
]
ImageSizeOption = Annotated[
    str | None,
    typer.Option(
        metavar="N|HxW", help="Image size in pixels: 224 or 96x128.", rich_help_panel=panels.WHAT
    ),
]
ChannelsOption = Annotated[
    int | None, typer.Option(help="Channels of the input image.", rich_help_panel=panels.WHAT)
]
SeedOption = Annotated[
    int, typer.Option(help="Seed of random weights, inputs and crops.", rich_help_panel=panels.WHAT)
]
OpsetOption = Annotated[
    int | None, typer.Option(help="ONNX opset, 17 or newer.", rich_help_panel=panels.WHAT)
]
DeviceOption = Annotated[
    Device,
    typer.Option(
        help="Device of subjects without @cpu or @gpu; auto: GPU if all can use it.",
        rich_help_panel=panels.WHERE,
    ),
]
FixedDeviceOption = Annotated[
    FixedDevice,
    typer.Option(help="Device of all runtimes.", rich_help_panel=panels.WHERE),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        help="Precision of every subject; it scales the floor.", rich_help_panel=panels.WHERE
    ),
]
JudgeAsOption = Annotated[
    Precision | None,
    typer.Option(
        help="Use the floor of this precision instead of the run's.", rich_help_panel=panels.JUDGED
    ),
]
KerasBackendOption = Annotated[
    Backend,
    typer.Option(
        help="Backend of keras subjects without a [backend].", rich_help_panel=panels.WHERE
    ),
]
XlaOption = Annotated[
    bool, typer.Option("--xla", help="Compile Keras models with XLA.", rich_help_panel=panels.WHERE)
]
SerialOption = Annotated[
    bool,
    typer.Option(
        "--serial", help="Run one subject at a time, for a small GPU.", rich_help_panel=panels.WHERE
    ),
]
PythonOption = Annotated[
    list[str] | None,
    typer.Option(
        "--python",
        metavar="NAME=PATH",
        help=f"Python of a runtime ({', '.join(registry.frameworks())}) or of an environment that "
        "a subject names, such as old in torch@old. Repeatable.",
        rich_help_panel=panels.WHERE,
    ),
]
CacheOption = Annotated[
    bool,
    typer.Option(
        "--cache/--no-cache",
        help="Use what earlier runs made: exports, random weights, graphs, causes.",
        rich_help_panel=panels.WHERE,
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|REF|random|own",
        help="A checkpoint, or any model whose weights all others get; random: seeded weights, the "
        "default for MODEL; own: each model's own weights, the default for models that have some.",
        rich_help_panel=panels.WHAT,
    ),
]
ReferencesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME=]REF...",
        autocompletion=complete_reference,
        help="A registered architecture (see `parity models`), or models: file.py:build, "
        "module:build, a model file (.keras .h5 .onnx .pt2), keras:ResNet50, torchvision:resnet50, "
        "timm:resnet50, hf:FOLDER. Arguments follow a comma: net.py:Net,num_classes=10. After an "
        "architecture, keras=REF, torch=REF, onnx-keras=F, onnx-torch=F replace its own.",
    ),
]
ShapeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=1x3x224x224",
        help="Shape of an input, the batch first. Repeatable.",
        rich_help_panel=panels.WHAT,
    ),
]
TrustOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="Run the program that this model file holds. Repeatable.",
        rich_help_panel=panels.WHAT,
    ),
]
CustomObjectsOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE.py", help="Classes that a .keras file needs.", rich_help_panel=panels.WHAT
    ),
]
ExportOption = Annotated[
    bool,
    typer.Option(
        "--export/--no-export",
        help="Also compare the graphs exported to ONNX.",
        rich_help_panel=panels.WHAT,
    ),
]
InputOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]FILE|random",
        help="The input: a photograph, a folder, an .npy file, random; NAME=F.npy gives one of "
        "several inputs. By default a photograph.",
        rich_help_panel=panels.WHAT,
    ),
]
BatchOption = Annotated[
    int | None, typer.Option(help="Number of items in the batch.", rich_help_panel=panels.WHAT)
]
PreprocessOption = Annotated[
    str | None,
    typer.Option(
        metavar="imagenet|scale|none|keras:NAME",
        help="What is done to a photograph after its centre crop, 224/256 of the resized picture: "
        "imagenet: (x/255 - mean)/deviation of R, G, B; scale: x/255; none: 0 to 255; "
        "keras:ResNet50: that of a model of keras.applications. By default what an ONNX file's "
        "metadata states, or else imagenet.",
        rich_help_panel=panels.WHAT,
    ),
]
SubjectsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,…",
        help="Subjects to compare, with a device: keras,torch@gpu. By default every model and the "
        "graphs exported from them.",
        rich_help_panel=panels.WHAT,
    ),
]
ReferenceOption = Annotated[
    str | None,
    typer.Option(
        metavar="SUBJECT",
        help="The float64 reference: torch, keras, or a subject's name.",
        rich_help_panel=panels.JUDGED,
    ),
]
DepthOption = Annotated[
    Depth,
    typer.Option(
        help="Comparison points: the ends of stages, blocks or layers.",
        rich_help_panel=panels.JUDGED,
    ),
]
LimitOption = Annotated[
    float, typer.Option(help="Largest error that passes, in floors.", rich_help_panel=panels.JUDGED)
]
TableOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Pairs of layers to keep, as `parity align --out` writes them, while the rest is "
        "derived; or a layer table with all rows (.csv .toml .json).",
        rich_help_panel=panels.WHAT,
    ),
]
CheckpointOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A checkpoint (.safetensors "
        f"{' '.join(registry.checkpoint_suffixes())}); by default the model's own weights, if it "
        "brings some.",
        rich_help_panel=panels.WHAT,
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option(help="Threads of each runtime.", rich_help_panel=panels.WHERE)
]
TimeoutOption = Annotated[
    float, typer.Option(help="Time limit of one step, in seconds.", rich_help_panel=panels.WHERE)
]
