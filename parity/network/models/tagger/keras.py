"""The Keras twin of the sequence taggers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers

if TYPE_CHECKING:
    from parity.network.models.tagger.spec import TaggerSpec

CELLS = {"gru": layers.GRU, "lstm": layers.LSTM}


def build(spec: TaggerSpec) -> keras.Model:
    """Return the functional model for `spec`, (N, T) tokens to (N, T, classes)."""
    tokens = keras.Input((None,), dtype="int64", name="tokens")
    x = layers.Embedding(spec.vocabulary, spec.width, name="embedding")(tokens)
    for number in range(2):
        # Keras's GRU has the reset gate behind the product by default, as PyTorch's.
        cell = CELLS[spec.cell]
        x = cell(spec.units, return_sequences=True, name=f"rnn.{number}")(x)
    return keras.Model(tokens, layers.Dense(spec.classes, name="fc")(x), name=spec.name)
