"""The choices and the dropouts of a Keras model that is no registered one, call by call.

Whoever calls them, a layer, an `activation=` or the user's own code, TensorFlow's functions `relu`
and `max_pool` compute them. While a step is traced they are replaced by ones that keep what they
read, in variables that the compiled step assigns.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network.trained_layout import ChoicePoint, TrainedLayout
from parity.runtimes.keras import device as keras_device

Array = NDArray[Any]

_FUNCTIONS = {"relu": "relu", "max_pool": "max_pool"}
"""The functions of `tf.nn`, by kind."""


_DROPOUT = "stateless_dropout"
"""The function of `tf.nn.experimental` that every dropout of Keras calls."""


class CallChoices:
    """Keeps the choices of the steps that are traced while `open` is, without their dropouts."""

    def __init__(self, model: Any, layout: TrainedLayout) -> None:
        self._points = {(point.kind, point.call): point for point in layout.choices}
        self._expected = dict(layout.calls or {})
        self._counts: dict[str, int] = {}
        self._seen: dict[int, dict[str, int]] = {}
        """By the size of the batch, the calls of each kind in its traced step."""
        self._kept: dict[tuple[str, int], tuple[Any, dict[str, Any]]] = {}
        """By point and size of the batch: the variable, and how a max-pool's window moves."""
        self._dropouts: list[tuple[float, int]] = []
        self._noted: dict[int, list[tuple[float, int]]] = {}
        """By the size of the batch, the dropouts of its traced step."""
        self._count = 0
        call = model.call

        def count_anew(*args: Any, **options: Any) -> Any:
            self._counts, self._dropouts = {}, []
            output = call(*args, **options)
            self._seen[self._count] = dict(self._counts)
            self._noted[self._count] = self._dropouts
            return output

        count_anew.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
        model.call = count_anew

    @contextmanager
    def open(self, count: int) -> Iterator[None]:
        """While open, a step of `count` images is traced, or runs as it was traced."""
        self._count = count
        functions = keras_device.import_backend().nn
        with ExitStack() as stack:
            for kind, name in _FUNCTIONS.items():
                original = getattr(functions, name)
                stack.callback(setattr, functions, name, original)
                setattr(functions, name, self._wrap(kind, original))
            random = functions.experimental
            stack.callback(setattr, random, _DROPOUT, getattr(random, _DROPOUT))
            setattr(random, _DROPOUT, self._leave_out)
            yield

    def _leave_out(self, x: Any, rate: Any, *args: Any, **options: Any) -> Any:
        """Note a dropout, and return its input."""
        if None not in x.shape:
            self._dropouts.append((float(rate), math.prod(x.shape)))
        return x

    def read_omitted_dropouts(self, count: int) -> Array:
        """Return the rate of each dropout of a step, and the number of values it acts on."""
        return np.array(self._noted.get(count, []), np.float64).reshape(-1, 2)

    def _wrap(self, kind: str, original: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(original)

        def compute(*args: Any, **options: Any) -> Any:
            output = original(*args, **options)
            number = self._counts.get(kind, 0)
            self._counts[kind] = number + 1
            point = self._points.get((kind, number))
            if point is not None and None not in output.shape:
                if kind == "relu":
                    self._keep(point, output > 0, {})
                else:
                    bound = signature.bind(*args, **options)
                    bound.apply_defaults()
                    given = bound.arguments
                    window = {name: given[name] for name in ("ksize", "strides", "padding")}
                    self._keep(point, given["input"], window)
            return output

        return compute

    def _keep(self, point: ChoicePoint, tensor: Any, window: dict[str, Any]) -> None:
        tf = keras_device.import_backend()
        key = (point.name, self._count)
        kept = self._kept.get(key)
        if kept is None or kept[0].shape != tensor.shape:
            # The step is being traced, and a variable must outlive that.
            with tf.init_scope():
                variable = tf.Variable(tf.zeros(tensor.shape, tensor.dtype), trainable=False)
            kept = self._kept[key] = variable, window
        kept[0].assign(tensor)

    def read(self, count: int) -> dict[str, Array]:
        """Return the choices of the last step of `count` images, in the reference's axes.

        Those of a kind of which the step had another number of calls than the graph are left out.
        """
        found = {}
        for (kind, _), point in self._points.items():
            kept = self._kept.get((point.name, count))
            if kept is None or self._seen.get(count, {}).get(kind) != self._expected.get(kind):
                continue
            variable, window = kept
            value = variable.numpy() if kind == "relu" else _find_maxima(variable, window, point)
            found[point.name] = np.ascontiguousarray(point.rearrangement.apply(value))
        return found


def _find_maxima(inputs: Any, window: dict[str, Any], point: ChoicePoint) -> Array:
    """Return the place of each maximum (N, h, w, C) in the flat planes without padding.

    Padding that is the maximum is as large as the values beside it, or they are cut by a ReLU.
    """
    tf = keras_device.import_backend()
    places = tf.nn.max_pool_with_argmax(inputs, **window)[1].numpy()
    _, height, width, channels = inputs.shape
    y, x = np.divmod(places // channels, width)
    top, bottom, left, right = point.crop
    y = np.clip(y - top, 0, height - top - bottom - 1)
    x = np.clip(x - left, 0, width - left - right - 1)
    return np.asarray(y * (width - left - right) + x)
