"""One function that exports a model of any framework, which the model's own classes name."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters.errors import ExportError

if TYPE_CHECKING:
    from exporters.graph.pipeline import Export


def export(model: Any, path: Path | str, example: object = None, **options: Any) -> Export:
    """Export a Keras model or a PyTorch module to an ONNX file that is verified.

    `example` describes a PyTorch module's inputs: for each argument of forward, a tensor (axis 0 is
    the batch) or the shape of a float one without the batch. `options` are those of
    `exporters.keras_onnx.export` or `exporters.torch_onnx.export`. Raises ExportError, and leaves
    no file then.
    """
    framework = _framework_of(model)
    if framework == "torch":
        if example is None and not options.get("kwargs"):
            raise ExportError(
                f"{type(model).__name__}: a PyTorch module does not say what its inputs are; give"
                " an example, as in export(model, path, [(3, 224, 224)])"
            )
        return _call("exporters.torch_onnx", (model, example, path), options)
    if example is not None:
        options = {"example": example, **options}
    return _call("exporters.keras_onnx", (model, path), options)


def _framework_of(model: object) -> str:
    """Return the framework whose class a model's class descends from. Raises ExportError."""
    for base in type(model).__mro__:
        if base.__module__.startswith("torch.nn") and base.__name__ == "Module":
            return "torch"
        if base.__module__.startswith("keras.") and base.__name__ in ("Layer", "Model"):
            return "keras"
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    raise ExportError(
        f"expected a Keras model or a PyTorch module, found {name}: load the model first"
    )


def _call(name: str, arguments: tuple[object, ...], options: dict[str, Any]) -> Export:
    """Call an exporter, which is imported only now. Raises ExportError for an unknown option."""
    function = importlib.import_module(name).export
    known = inspect.signature(function).parameters
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ExportError(f"{name}.export has no option {unknown[0]!r}; it has {', '.join(known)}")
    result: Export = function(*arguments, **options)
    return result
