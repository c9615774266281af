"""The choices and the dropouts of a module that is no registered one, call by call.

A module `nn.ReLU`, `functional.relu` and the method of a tensor all pass one door, PyTorch's
function mode, so that the calls of a step are those of the graph, in its order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from parity.network.trained_layout import TrainedLayout
from parity.runtimes.observed_steps import ChoiceDistances
from parity.runtimes.torch import functions
from parity.runtimes.torch.float64 import widen_casts
from parity.runtimes.torch.function_names import name_function
from parity.runtimes.torch.weights import to_numpy

Array = NDArray[Any]


class CallChoices:
    """Reads and replaces the choices of a module's calls, by point.

    With `widen`, casts to float32 within the step are casts to float64.
    """

    def __init__(self, layout: TrainedLayout, *, widen: bool) -> None:
        self.inputs: dict[str, Tensor] = {}
        self.widen = widen
        self._points = {(point.kind, point.call): point for point in layout.choices}
        self._expected = dict(layout.calls or {})
        self._counts: dict[str, int] = {}
        self._found: dict[str, Tensor] = {}
        self._forced: Mapping[str, Array] | None = None
        self._dropouts: list[tuple[float, int]] = []

    def force(self, choices: Mapping[str, Array] | None) -> None:
        """Take these choices from now on; None are the module's own."""
        self._forced = choices
        self.inputs = {}

    def run(self, model: nn.Module, images: Tensor) -> Any:
        """Run a module in training, without its dropouts, and note these and its choices."""
        self._counts, self._found, self._dropouts = {}, {}, []
        with _Mode(self):
            return model(images)

    def read(self) -> dict[str, Array]:
        """Return the choices of the last step.

        Those of a kind of which it had another number of calls than the graph are left out.
        """
        return {
            point.name: to_numpy(self._found[point.name])
            for (kind, _), point in self._points.items()
            if point.name in self._found and self._counts.get(kind) == self._expected.get(kind)
        }

    def read_omitted_dropouts(self) -> Array:
        """Return the rate of each dropout of the last step, and the number of values it acts on."""
        return np.array(self._dropouts, np.float64).reshape(-1, 2)

    def leave_out_dropout(self, name: str, func: Any, args: Any, options: dict[str, Any]) -> Any:
        """Note the dropout of a function; return what it computes without one."""
        given = functions.bind_arguments(func, name, args, options)
        if name == "scaled_dot_product_attention":
            rate, query, key = given.get("dropout_p", 0.0), given["query"], given["key"]
            count = query.shape[:-1].numel() * key.shape[-2]
        elif name == "multi_head_attention_forward":
            rate = given["dropout_p"] if given.get("training", True) else 0.0
            count = given["query"].shape[:-1].numel() * given["key"].shape[0] * given["num_heads"]
        else:
            is_training = given.get("training", given.get("train", True))
            rate, count = (given.get("p", 0.5) if is_training else 0.0), given["input"].numel()
        if rate:
            self._dropouts.append((float(rate), int(count)))
        return func(**{**given, "dropout_p": 0.0}) if name in _ATTENTIONS else given["input"]

    def measure_distances(self) -> dict[str, ChoiceDistances]:
        """Return the distances of each point of which a given choice is not its own."""
        found = {}
        for name, forced in (self._forced or {}).items():
            if name in self.inputs:
                taken = torch.from_numpy(np.array(forced))
                measured = measure_distance(self.inputs[name], self._found[name], taken)
                if measured is not None:
                    found[name] = ChoiceDistances(to_numpy(self.inputs[name]), measured)
        return found

    def compute(
        self, kind: str, in_place: bool, func: Any, args: Any, options: dict[str, Any]
    ) -> Any:
        """Compute a ReLU or a max-pool, with the given choices if there are any."""
        number = self._counts.get(kind, 0)
        self._counts[kind] = number + 1
        point = self._points.get((kind, number))
        if point is None:
            return func(*args, **options)
        given = functions.bind_arguments(func, name_function(func)[0], args, options)
        data: Tensor = given["input"]
        # What is computed in place is needed as it was.
        z = data.clone() if in_place else data
        own = z.detach() > 0 if kind == "relu" else find_maxima(z.detach(), given)
        self._found[point.name] = own
        if self._forced is None or point.name not in self._forced:
            return func(*args, **options)
        self.inputs[point.name] = z.detach()
        taken = torch.from_numpy(np.array(self._forced[point.name]))
        chosen = z * taken.to(z.dtype) if kind == "relu" else gather(z, taken)
        return data.copy_(chosen) if in_place else chosen


class _Mode(TorchFunctionMode):
    """Shows each function of a tensor that a module calls."""

    def __init__(self, choices: CallChoices) -> None:
        super().__init__()
        self._choices = choices

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        name, in_place = name_function(func)
        if self._choices.widen:
            func, args, options = widen_casts(func, name, args, options)
        if functions.is_dropout(name) or name in _ATTENTIONS:
            return self._choices.leave_out_dropout(name, func, args, options)
        kind = _KINDS.get(name)
        if kind is None:
            return func(*args, **options)
        in_place = in_place or bool(options.get("inplace")) or (name == "relu" and True in args[1:])
        return self._choices.compute(kind, in_place, func, args, options)


_ATTENTIONS = ("scaled_dot_product_attention", "multi_head_attention_forward")
"""The functions that drop out of the scores within."""


_KINDS = {"relu": "relu", "max_pool2d": "max_pool"}
"""The kinds whose choices are hooked, by the name of the function."""


def find_maxima(z: Tensor, given: Mapping[str, Any]) -> Tensor:
    """Return the places of a max-pool's maxima in the flat planes of `z` (N, C, H, W).

    `given` are the arguments of `max_pool2d`.
    """
    kernel = given["kernel_size"]
    stride = given.get("stride")
    places: Tensor = nn.functional.max_pool2d(
        z,
        kernel,
        kernel if stride is None else stride,
        given.get("padding", 0),
        given.get("dilation", 1),
        bool(given.get("ceil_mode", False)),
        return_indices=True,
    )[1]
    return places


def gather(z: Tensor, places: Tensor) -> Tensor:
    """Return the values (N, C, h, w) at places of the flat planes of `z` (N, C, H, W)."""
    return z.flatten(2).gather(2, places.flatten(2)).view(places.shape)


def measure_distance(z: Tensor, own: Tensor, taken: Tensor) -> Array | None:
    """Return the distance of each unit with another choice to its kink or tie; None if none has.

    `z` is the input, `own` and `taken` are its choices and those that were given.
    """
    other = taken != own
    if not bool(other.any()):
        return None
    if own.dtype == torch.bool:
        return to_numpy(z[other].abs())
    return to_numpy((gather(z, own) - gather(z, taken))[other])
