"""Recording of the tensors that the layers of a Keras model return while it is called."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from exporters.errors import ExportError
from exporters.taps import Tap, group_by_layer


@contextmanager
def record_tapped_tensors(model: keras.Model, taps: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """While open, record the outputs (or inputs) of the tapped layers in each call of the model.

    Yields the tensors by tap name. Raises ExportError for an unknown layer.
    """
    recorded: dict[str, Any] = {}
    patched = []
    try:
        for path, layer_taps in group_by_layer(taps).items():
            layer = _find_layer(model, path)
            # The instance's own dictionary, past Keras's attribute tracking.
            layer.__dict__["call"] = _recorder(layer.call, path, layer_taps, recorded)
            patched.append(layer)
        yield recorded
    finally:
        for layer in patched:
            layer.__dict__.pop("call", None)


def _recorder(
    call: Callable[..., Any],
    path: str,
    taps: Sequence[Tap],
    recorded: dict[str, Any],
) -> Callable[..., Any]:
    calls = 0

    # Keras looks at the signature to see whether a layer takes `training` or a mask.
    @functools.wraps(call)
    def recording(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        result = call(*args, **kwargs)
        for tap in taps:
            if tap.call == calls:
                tensors = keras.tree.flatten([*args, kwargs] if tap.of_input else result)
                tensors = [tensor for tensor in tensors if tf.is_tensor(tensor)]
                if not tensors:
                    raise ExportError(f"{tap.name}: {path} has no tensor there")
                recorded[tap.name] = tensors[0]
        calls += 1
        return result

    return recording


def _find_layer(model: keras.Model, path: str) -> Any:
    layer: Any = model
    for name in path.split("/"):
        layers = {child.name: child for child in getattr(layer, "layers", [])}
        if name not in layers:
            close = difflib.get_close_matches(name, layers, n=3)
            hint = f"; the closest are {', '.join(close)}" if close else ""
            raise ExportError(f"{layer.name} has no layer {name!r}{hint}")
        layer = layers[name]
    return layer
