"""LSTM, GRU and SimpleRNN layers as ONNX's own operators, masked ones too.

While a model is traced, the loop over time of such a layer is one operation of TensorFlow's graph,
a marker, that becomes the ONNX operator. A loop in ONNX is tens of times slower.

ONNX stops each row after its own number of steps, Keras skips the steps that are masked, wherever
they are. A skipped step changes no state, so the steps that are not masked are moved to the front,
in their order, and the row has as many steps. The output of a masked step is the one before it (or
zeros, with `zero_output_for_mask`), which is looked up by the number of valid steps until then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import keras
import tensorflow as tf

from exporters.errors import ExportError

MARKER = "PyFunc"
"""The type of a marker's operation: one that holds a text, and takes and returns any tensors."""

_PREFIX = "exporters."


@dataclass(frozen=True)
class Recurrence:
    """An ONNX operator and its attributes."""

    operator: str
    attributes: dict[str, Any]


@dataclass
class Recurrences:
    """The recurrent operators of a graph by the text in their markers."""

    by_token: dict[str, Recurrence] = field(default_factory=dict)

    def add(self, recurrence: Recurrence) -> str:
        """Return a new token."""
        token = f"{_PREFIX}{len(self.by_token)}"
        self.by_token[token] = recurrence
        return token


@contextmanager
def mark_recurrent_layers(recurrences: Recurrences) -> Iterator[None]:
    """While open, the layers that ONNX has an operator for put a marker into the graph."""

    def patched(inner_loop: Any) -> Any:
        def run(
            self: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False
        ) -> Any:
            states = keras.tree.flatten(initial_state)
            mask_of = _flat_mask(mask)
            if _is_expressible(self, sequences, states, mask_of):
                return _run(self, sequences, states, mask_of, recurrences)
            return inner_loop(self, sequences, initial_state, mask, training=training)

        return run

    layers = keras.layers
    with ExitStack() as stack:
        for layer in (layers.RNN, layers.LSTM, layers.GRU):
            stack.enter_context(mock.patch.object(layer, "inner_loop", patched(layer.inner_loop)))
        yield


def convert_marker(recurrences: Recurrences, context: Any, node: Any) -> None:
    """Replace a marker in tf2onnx's graph by its operator."""
    token = node.get_attr_value("token")
    token = token.decode() if isinstance(token, bytes) else token
    recurrence = recurrences.by_token.get(token)
    if recurrence is None:
        raise ExportError(
            f"{node.name} runs Python code (tf.numpy_function), which ONNX has no operator for:"
            " write it with keras.ops, or compute it outside of the model"
        )
    outputs = list(node.output)
    shapes, dtypes = node.output_shapes, node.output_dtypes
    inputs = list(node.input)
    # Optional inputs are marked by their place: X, W, R, B, sequence_lens, initial_h, initial_c.
    if not recurrence.attributes.get("masked"):
        inputs.insert(4, "")
    attributes = {k: v for k, v in recurrence.attributes.items() if k != "masked"}
    context.remove_node(node.name)
    context.make_node(
        recurrence.operator, inputs, attr=attributes, outputs=outputs, name=node.name,
        shapes=shapes, dtypes=dtypes,
    )  # fmt: skip


# ONNX's name, alpha and beta of each activation.
_ACTIVATIONS: dict[Any, tuple[str, float | None, float | None]] = {
    keras.activations.tanh: ("Tanh", None, None),
    keras.activations.sigmoid: ("Sigmoid", None, None),
    keras.activations.relu: ("Relu", None, None),
    keras.activations.linear: ("Affine", 1.0, 0.0),
    keras.activations.softsign: ("Softsign", None, None),
    keras.activations.hard_sigmoid: ("HardSigmoid", 1 / 6, 0.5),
}


def _flat_mask(mask: Any) -> Any:
    return mask[0] if isinstance(mask, (list, tuple)) and mask else mask


def _is_expressible(layer: Any, sequences: Any, states: Sequence[Any], mask: Any) -> bool:
    cell = layer.cell
    kinds = {keras.layers.LSTMCell: 2, keras.layers.GRUCell: 1, keras.layers.SimpleRNNCell: 1}
    if type(cell) not in kinds or len(states) != kinds[type(cell)]:
        return False
    activations = [cell.activation, getattr(cell, "recurrent_activation", cell.activation)]
    return bool(
        all(_known(activation) for activation in activations)
        and len(sequences.shape) == 3
        and sequences.shape[2] is not None
        # ONNX Runtime computes these operators in float32 alone.
        and cell.compute_dtype == "float32"
        and (mask is None or len(mask.shape) == 2)
        and not getattr(cell, "quantization_mode", None)
    )


def _known(activation: Any) -> bool:
    try:
        return activation in _ACTIVATIONS
    except TypeError:  # an activation that is an object without a hash
        return False


def _run(
    layer: Any, sequences: Any, states: Sequence[Any], mask: Any, recurrences: Recurrences
) -> tuple[Any, Any, list[Any]]:
    """Return the last output, all outputs and the last states, as a layer's loop does."""
    cell = layer.cell
    if layer.go_backwards:
        sequences = tf.reverse(sequences, [1])
        mask = None if mask is None else tf.reverse(mask, [1])
    weights, attributes = _read_cell(cell)
    inputs = [tf.transpose(sequences, [1, 0, 2]), *weights]
    counts = None
    if mask is not None:
        mask = tf.cast(mask, tf.bool)
        counts = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
        inputs[0] = tf.transpose(_move_valid_to_front(sequences, mask), [1, 0, 2])
        inputs.append(tf.maximum(counts, 1))
    inputs += [tf.expand_dims(state, 0) for state in states]
    operator = {"LSTMCell": "LSTM", "GRUCell": "GRU", "SimpleRNNCell": "RNN"}[type(cell).__name__]
    operator = "GRU" if _is_simple_tanh(cell) else operator
    token = recurrences.add(Recurrence(operator, {**attributes, "masked": mask is not None}))
    found = tf.raw_ops.PyFunc(
        input=inputs, token=token, Tout=[tf.float32] * (len(states) + 1), name=operator.lower()
    )
    batch, steps, units = sequences.shape[0], sequences.shape[1], cell.units
    found[0].set_shape([steps, 1, batch, units])
    for tensor in found[1:]:
        tensor.set_shape([1, batch, units])
    outputs = tf.transpose(tf.squeeze(found[0], [1]), [1, 0, 2])
    last_states = [tf.squeeze(tensor, [0]) for tensor in found[1:]]
    if mask is None:
        return last_states[0], outputs if layer.return_sequences else last_states[0], last_states
    none = tf.expand_dims(tf.equal(counts, 0), 1)
    outputs = _spread(outputs, mask, zeros=layer.zero_output_for_mask)
    last_states = [
        tf.where(none, before, after) for before, after in zip(states, last_states, strict=True)
    ]
    return outputs[:, -1], outputs, last_states


def _move_valid_to_front(sequences: Any, mask: Any) -> Any:
    """Move the steps that are not masked to the front of each row, in their order."""
    steps = tf.shape(sequences)[1]
    position = tf.range(steps, dtype=tf.int32)
    # Larger for earlier steps, and for any that is valid than for any that is not.
    rank = tf.where(mask, 2 * steps - position, -position)
    order = tf.math.top_k(tf.cast(rank, tf.float32), steps).indices
    return tf.gather(sequences, order, batch_dims=1)


def _spread(outputs: Any, mask: Any, *, zeros: bool) -> Any:
    """Return the output of each step, from those of the valid steps: the last one until then."""
    done = tf.cumsum(tf.cast(mask, tf.int32), axis=1)
    found = tf.gather(outputs, tf.maximum(done - 1, 0), batch_dims=1)
    valid = mask if zeros else done > 0
    return tf.where(tf.expand_dims(valid, -1), found, tf.zeros_like(found))


def _read_cell(cell: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return ONNX's W, R and B of a cell, and the operator's attributes.

    Keras has the gates side by side in the last axis: i, f, c, o of an LSTM; z, r, h of a GRU. ONNX
    has them in the first: i, o, f, c and z, r, h.
    """
    gates = {"LSTMCell": (0, 3, 1, 2), "GRUCell": (0, 1, 2), "SimpleRNNCell": (0,)}[
        type(cell).__name__
    ]
    units = cell.units

    def reorder(weight: Any) -> Any:
        parts = tf.split(tf.convert_to_tensor(weight), len(gates), axis=-1)
        return tf.concat([parts[gate] for gate in gates], axis=-1) if len(gates) == 4 else weight

    if _is_simple_tanh(cell):
        return _write_as_gru(cell)
    kernel = tf.expand_dims(tf.transpose(reorder(cell.kernel)), 0)
    recurrent = tf.expand_dims(tf.transpose(reorder(cell.recurrent_kernel)), 0)
    zeros = tf.zeros([len(gates) * units])
    activation = cell.activation
    attributes: dict[str, Any] = {"hidden_size": units}
    if type(cell).__name__ == "SimpleRNNCell":
        names = [activation]
    elif type(cell).__name__ == "GRUCell":
        names = [cell.recurrent_activation, activation]
        attributes["linear_before_reset"] = int(bool(cell.reset_after))
    else:
        names = [cell.recurrent_activation, activation, activation]
    if cell.bias is None:
        both = tf.concat([zeros, zeros], 0)
    elif len(cell.bias.shape) == 2:  # input and recurrent biases of a GRU
        both = tf.reshape(tf.convert_to_tensor(cell.bias), [-1])
    else:
        both = tf.concat([reorder(tf.convert_to_tensor(cell.bias)), zeros], 0)
    return [kernel, recurrent, tf.expand_dims(both, 0)], attributes | _activations(names)


def _is_simple_tanh(cell: Any) -> bool:
    return type(cell).__name__ == "SimpleRNNCell" and cell.activation is keras.activations.tanh


def _write_as_gru(cell: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return W, R and B of a GRU that computes a SimpleRNN with tanh.

    Its gates are constant: z = 0 (nothing is kept) and r = 1. The tanh of ONNX Runtime's RNN is
    wrong by 1e-7 of its range, which near 0 is a hundred times what rounding explains; the one of
    its GRU is right.
    """
    units = cell.units
    saturated = 100.0
    blocks = [
        tf.concat([tf.zeros([2 * units, weight.shape[0]]), tf.transpose(weight)], axis=0)
        for weight in (
            tf.convert_to_tensor(cell.kernel), tf.convert_to_tensor(cell.recurrent_kernel)
        )
    ]  # fmt: skip
    bias = tf.zeros([units]) if cell.bias is None else tf.convert_to_tensor(cell.bias)
    gates = [tf.fill([units], -saturated), tf.fill([units], saturated)]
    both = tf.concat([*gates, bias, tf.zeros([3 * units])], axis=0)
    attributes = {"hidden_size": units, "linear_before_reset": 1}
    attributes |= _activations([keras.activations.sigmoid, cell.activation])
    return [tf.expand_dims(weight, 0) for weight in (*blocks, both)], attributes


def _activations(functions: Sequence[Any]) -> dict[str, Any]:
    found = [_ACTIVATIONS[function] for function in functions]
    attributes: dict[str, Any] = {"activations": [name for name, _, _ in found]}
    # They are listed for the activations that have them alone.
    alphas = [alpha for _, alpha, _ in found if alpha is not None]
    if alphas:
        attributes["activation_alpha"] = alphas
        attributes["activation_beta"] = [beta for _, _, beta in found if beta is not None]
    return attributes
