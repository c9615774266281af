"""The operands of a float64 run: which are in float64, and which have to become so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from parity.runtimes.constants import has_constants, match_constants


class WideOperands:
    """Widens the operands of TensorFlow's operations, if another of them is in float64.

    `find_mark` returns what is known of a tensor: an id of data, or the weights that it is made of.
    """

    def __init__(self, tensorflow: Any, eager: Any, find_mark: Callable[[Any], Any]) -> None:
        self._tf, self._eager, self._find_mark = tensorflow, eager, find_mark

    def is_wide(self, value: Any) -> bool:
        """Return whether a value is a tensor in float64."""
        # A variable is a tensor to TensorFlow.
        return bool(self._tf.is_tensor(value) and value.dtype == self._tf.float64)

    def is_narrowing(self, value: Any, args: Sequence[Any]) -> bool:
        """Return whether a cast, with these arguments, takes a float64 value to another one."""
        target = dict(zip(args[4::2], args[5::2], strict=False)).get("DstT")
        return self.is_wide(value) and self._tf.as_dtype(target).is_floating

    def is_data(self, value: Any) -> bool:
        """Return whether a tensor depends on the model's inputs."""
        return isinstance(value, self._eager) and isinstance(self._find_mark(value), str)

    def widen_cast(self, args: Sequence[Any]) -> Any:
        """Return a cast of data from integers to float32 as one to float64."""
        if not self.is_data(args[3]) or args[3].dtype.is_floating:
            return args
        place = 4 + list(args[4::2]).index("DstT") * 2 + 1
        if self._tf.as_dtype(args[place]) != self._tf.float32:
            return args
        wide = self._tf.float64.as_datatype_enum
        return (*args[:place], wide, *args[place + 1 :])

    def widen_operands(self, values: Sequence[Any]) -> Any:
        """Return operands with float32 ones in float64, if another is in float64."""
        flat = [v for value in values for v in (value if isinstance(value, list) else [value])]
        if not any(map(self.is_wide, flat)):
            return values
        changed = [
            [self.widen_tensor(v) for v in value]
            if isinstance(value, list)
            else self.widen_tensor(value)
            for value in values
        ]
        return tuple(changed) if isinstance(values, tuple) else changed

    def widen_tensor(self, value: Any) -> Any:
        """Return a float32 tensor in float64; a constant as the reference has it."""
        if has_constants() and self._is_constant(value):
            return self._tf.constant(match_constants(np.asarray(value)), self._tf.float64)
        if getattr(value, "dtype", None) == self._tf.float32 and self._tf.is_tensor(value):
            return self._tf.cast(value, self._tf.float64)
        return value

    def _is_constant(self, value: Any) -> bool:
        """Return whether a floating operand is neither data nor made of weights."""
        if isinstance(value, np.ndarray | np.floating):
            return bool(value.dtype in (np.float32, np.float64))
        return (
            isinstance(value, self._eager)
            and value.dtype in (self._tf.float32, self._tf.float64)
            and self._find_mark(value) is None
        )
