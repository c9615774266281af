"""A second set of weights for a Keras model, in any precision and on any device.

The model's own layers compute with it: its variables and dtype policies are replaced while it runs,
and put back afterwards. So every model has copies, whether it can be saved or built again or not,
and constants that it computed when it was built keep the values that will be deployed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from parity.errors import PrecisionError
from parity.runtimes.devices import is_device
from parity.runtimes.keras import device as keras_device
from parity.runtimes.keras import load
from parity.runtimes.keras.variables import dtype_of, name_variables, raw_variable

_SCALES = ("_inverse_sqrt_key_dim", "_inverse_sqrt_head_dim")
"""Private numbers of Keras's attention layers that become float32 tensors, whatever the precision;
arrays of float64 are left as they are."""


class Replica:
    """The weights of a model in another precision, or on another device, and where they belong."""

    def __init__(self, model: Any, dtype: str, device: str) -> None:
        """Raises `PrecisionError` where the model's layers cannot compute in `dtype`."""
        self.model = model
        self.dtype = dtype
        self.device = device
        self.variables: dict[str, Any] = {}
        """TensorFlow's variables by the names of `variables.name_variables`."""
        self._policies = [(layer, _require_plain(layer, dtype)) for layer in iterate_layers(model)]
        self._originals = name_variables(model)
        tf = importlib.import_module("tensorflow")
        with keras_device.device_scope(device):
            for name, variable in self._originals.items():
                value = np.asarray(raw_variable(variable))
                wanted = dtype if is_floating(variable) else None
                self.variables[name] = tf.Variable(tf.cast(value, wanted) if wanted else value)

    @contextmanager
    def applied(self) -> Iterator[Any]:
        """While open, the model computes with these weights; yields the model."""
        undo: list[tuple[Any, str, Any]] = []

        def replace(owner: Any, attribute: str, value: Any) -> None:
            undo.append((owner, attribute, getattr(owner, attribute)))
            object.__setattr__(owner, attribute, value)

        try:
            self._replace_all(replace)
            with load.default_dtype(self.dtype), keras_device.device_scope(self.device):
                yield self.model
        finally:
            for owner, attribute, value in reversed(undo):
                object.__setattr__(owner, attribute, value)

    def keep(self) -> None:
        """Make the model compute with these weights from now on.

        The inputs of its functional parts, which Keras casts to the dtype that they were made with,
        get the same dtype.
        """
        self._replace_all(object.__setattr__)
        for layer in iterate_layers(self.model):
            for tensor in keras.tree.flatten(getattr(layer, "_inputs_struct", None)):
                if "float" in str(getattr(tensor, "dtype", "")):
                    tensor._dtype = self.dtype

    def _replace_all(self, replace: Callable[[Any, str, Any], None]) -> None:
        """Give each replacement, an owner with an attribute and its value, to `replace`."""
        for name, variable in self._originals.items():
            own = self.variables[name]
            _replace_value(variable, own, replace)
            if not isinstance(variable, keras.Variable):
                replace(variable, "_dtype", own.dtype)
            elif is_floating(own):
                replace(variable, "_dtype", self.dtype)
        for layer, policy in self._policies:
            if policy is not None:
                replace(layer, "_dtype_policy", policy)
        for layer in iterate_layers(self.model) if self.dtype == "float64" else ():
            for attribute in _SCALES:
                if isinstance(getattr(layer, attribute, None), float):
                    value = np.asarray(getattr(layer, attribute), np.float64)
                    replace(layer, attribute, value)


class MixedPolicies:
    """The layers of a model that compute in mixed precision, while it is applied.

    Those that compute in float32: their weights stay, and are cast for what is computed.
    """

    def __init__(self, model: Any, precision: str) -> None:
        self._policy = keras.DTypePolicy(f"mixed_{precision}")
        self._layers = [each for each in iterate_layers(model) if each.compute_dtype == "float32"]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While open, the layers have the policy."""
        policies = [layer._dtype_policy for layer in self._layers]
        try:
            for layer in self._layers:
                object.__setattr__(layer, "_dtype_policy", self._policy)
            yield
        finally:
            for layer, policy in zip(self._layers, policies, strict=True):
                object.__setattr__(layer, "_dtype_policy", policy)


def move_weights(model: Any, device: str) -> None:
    """Put the variables of a model on a device, "cpu" or "gpu"; their dtypes and values stay."""
    tf = importlib.import_module("tensorflow")
    with keras_device.device_scope(device):
        for variable in name_variables(model).values():
            raw = raw_variable(variable)
            if not is_device(str(raw.device), device):
                _replace_value(variable, tf.Variable(np.asarray(raw)), object.__setattr__)


def _replace_value(variable: Any, own: Any, replace: Callable[[Any, str, Any], None]) -> None:
    """Let a variable of Keras or of TensorFlow be another one of TensorFlow."""
    if isinstance(variable, keras.Variable):
        replace(variable, "_value", own)
    else:
        replace(variable, "_handle", own.handle)


def iterate_layers(model: Any) -> Iterator[Any]:
    """Yield the model and every layer in it."""
    yield from model._flatten_layers()


def is_floating(variable: Any) -> bool:
    """Return whether a variable of Keras or of TensorFlow holds floating numbers."""
    return "float" in dtype_of(variable)


def _require_plain(layer: Any, dtype: str) -> Any:
    """Return the policy that makes a layer compute in `dtype`; None for a layer of integers."""
    policy = layer._dtype_policy
    if getattr(policy, "quantization_mode", None) is not None:
        raise PrecisionError(
            f"{layer.path or layer.name}: its weights are quantised ({policy.name}): it cannot "
            f"compute in {dtype}"
        )
    if "float" not in str(layer.compute_dtype):
        return None
    return keras.DTypePolicy(dtype)
