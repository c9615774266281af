"""`parity.convert`: convert a model's weights to another format, or into another model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.commands.conversion import Conversion, convert_registered
from parity.commands.notebooks import show_in_notebooks
from parity.commands.values import (
    ImageSize,
    Progress,
    find_interpreters,
    names_registered_model,
    no_progress,
    optional_path,
    parse_image_size,
)
from parity.comparison.checkpoints import detect_format
from parity.errors import UsageError
from parity.network import architectures
from parity.processes.children import Children

if TYPE_CHECKING:
    from numpy.typing import NDArray


@show_in_notebooks
def convert(
    model: str,
    source: str | Path | None,
    target: str | Path,
    *,
    into: str | None = None,
    classes: int | None = None,
    image_size: ImageSize | None = None,
    channels: int | None = None,
    input: str | Path | NDArray[Any] | None = None,
    inputs: Mapping[str, str | Path | NDArray[Any]] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    trust: Sequence[str | Path] = (),
    custom_objects: str | Path | None = None,
    python: Mapping[str, str | Path] | None = None,
    timeout: float = 900.0,
    progress: Progress | None = None,
) -> Conversion:
    """Convert the weights of a model into another format, or into another model, bit for bit.

    It is complete in both directions: every weight of one side is read once and written once, in
    the names and the axis orders of the target. The file is read back and compared bit for bit
    before it replaces `target`. With `into` both models then run with the same weights in float64;
    where their outputs differ, the result says so in `difference`.

    Parameters:
        model: A registered architecture (`parity models` lists them), or a reference to any model,
            as `parity.compare` takes them.
        source: The checkpoint of `model` to read: .safetensors, .pth, .pt, .weights.h5 or .keras;
            None where the model brings its weights.
        target: The checkpoint to write; its suffix is its format.
        into: The model whose checkpoint is written, of any framework; the layers of both are
            paired. None: `model` itself.
        classes, image_size, channels: Sizes that override the architecture's; `image_size` is in
            pixels: 224, "96x128" or (height, width).
        input, inputs, shapes, seed: What the models are run on while they are read and paired.
        trust: Model files that hold programs and may be run.
        custom_objects: A Python file with the classes that a .keras file needs.
        python: The interpreters of runtimes: {"keras": "envs/keras"}.
        timeout: Seconds that one step of a runtime may take.
        progress: A function that is called with a runtime and what it is doing now.

    Raises `UnpairedWeightError`, with the names, where a weight of one model has no partner in the
    other, `WeightError` for a weight that is missing, unused, of another shape or not finite,
    `ArchitectureError` for an unknown model or impossible sizes, `UsageError` for an unknown
    suffix, `OutputError` for a target that cannot be written, `RequirementError` without the
    framework. No file is written then.

    Example:
        >>> import parity
        >>> conversion = parity.convert("resnet18", "resnet18.pth", "resnet18.weights.h5")
        >>> conversion.tensors, conversion.parameters
        (102, 11689512)
        >>> conversion = parity.convert("net.py:build", None, "net.keras", into="kn.py:build")
    """
    progress = progress or no_progress
    interpreters = find_interpreters(python)
    target, size = Path(target), parse_image_size(image_size)
    if into is None and names_registered_model(model):
        if source is None:
            raise UsageError(f"{model}: a registered model has no weights: give --weights FILE")
        detect_format(source)
        detect_format(target)
        spec = architectures.get(model, classes=classes, image_size=size, channels=channels)
        with Children(python=interpreters) as children:
            return convert_registered(spec, Path(source), target, children, progress)
    if classes is not None or channels is not None:
        raise UsageError(
            f"--classes and --channels belong to one registered model; write {model},classes=N"
        )
    from parity.commands.convert_models import convert_models, plan_conversion

    request = plan_conversion(
        model,
        into,
        optional_path(source),
        target,
        input=input,
        inputs=dict(inputs or {}),
        shapes={name: tuple(shape) for name, shape in (shapes or {}).items()},
        image_size=size,
        seed=seed,
        trust=tuple(map(str, trust)),
        custom_objects=None if custom_objects is None else str(custom_objects),
        python=interpreters,
        timeout=timeout,
    )
    return convert_models(request, progress)


__all__ = ["Conversion", "convert"]
