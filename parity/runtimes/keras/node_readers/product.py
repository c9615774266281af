"""Readers of matrix products."""

from __future__ import annotations

import math

import numpy as np

from parity.network.axes import rename_indices
from parity.runtimes.keras.events import Event, Operand
from parity.runtimes.keras.node_readers.reading import (
    NodeReading,
    channels_last,
    decode_text,
    find_weight,
    register_reader,
)


@register_reader("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "matmul", "tensordot")
def _read_product(event: Event) -> NodeReading | None:
    if len(event.operands) != 2:
        return None
    given = event.arguments
    turned = bool(given.get("transpose_b") or given.get("adj_y"))
    if given.get("transpose_a") or given.get("adj_x"):
        return None
    if event.name == "tensordot" and not _is_plain_tensordot(event):
        return None
    kernel = event.operands[1]
    if kernel.weight is not None and len(kernel.shape) == 2 and event.operands[0].id:
        depth, out = kernel.shape[::-1] if turned else kernel.shape
        hyperparameters = {"bias": False, "in": int(depth), "out": int(out)}
        axes = channels_last(len(event.operands[0].shape))
        order = "O I" if turned else "I O"
        return NodeReading(
            "dense", hyperparameters, {1: "kernel"}, {"kernel": order}, axes=axes, input_axes=axes
        )
    if event.name == "tensordot" or turned:
        return None
    return NodeReading("matmul")


def _is_plain_tensordot(event: Event) -> bool:
    axes = event.arguments["axes"]
    if isinstance(axes, Operand):
        return False
    rank = len(event.operands[0].shape)
    if axes == 1:
        return True
    if not isinstance(axes, list | tuple) or len(axes) != 2:
        return False
    one, other = ([int(a) for a in np.atleast_1d(each)] for each in axes)
    return [a % rank for a in one] == [rank - 1] and other == [0]


@register_reader("einsum", "Einsum")
def _read_einsum(event: Event) -> NodeReading | None:
    equation = event.arguments.get("subscripts", event.arguments.get("equation"))
    if equation is None:
        return None
    equation = rename_indices(decode_text(equation))
    dense = _read_dense_einsum(event, equation)
    if dense is not None:
        return dense
    place = find_weight(event)
    roles = {} if place is None else {place: "kernel"}
    return NodeReading("einsum", {"equation": equation}, roles)


def _read_dense_einsum(event: Event, equation: str) -> NodeReading | None:
    """Return a product over the last axes of the data with a weight's first or last ones.

    A weight whose inputs or outputs are several axes has them numbered: `I O1 O2`.
    """
    if len(event.operands) != 2 or event.operands[1].weight is None or "->" not in equation:
        return None
    # Keras reshapes the weight inside.
    stated = event.arguments.get("operands", event.operands)
    kernel = stated[1] if isinstance(stated[1], Operand) else event.operands[1]
    (data, weight), output = equation.partition("->")[0].split(","), equation.partition("->")[2]
    shared = [each for each in data.replace(".", "") if each in weight and each not in output]
    made = [each for each in output.replace(".", "") if each in weight and each not in data]
    is_dense = (
        "".join(shared) == data[len(data) - len(shared) :]
        and output == data[: len(data) - len(shared)] + "".join(made)
        and sorted(weight) == sorted([*shared, *made])
        and bool(shared and made)
    )
    if not is_dense:
        return None
    names = {}
    for letter, group in (("I", shared), ("O", made)):
        for number, each in enumerate(group, 1):
            names[each] = letter if len(group) == 1 else f"{letter}{number}"
    shape = dict(zip(weight, kernel.shape, strict=True))
    hyperparameters = {
        "bias": False,
        "in": math.prod(int(shape[each]) for each in shared),
        "out": math.prod(int(shape[each]) for each in made),
    }
    order = " ".join(names[each] for each in weight)
    return NodeReading("dense", hyperparameters, {1: "kernel"}, {"kernel": order})
