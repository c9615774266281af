"""The PyTorch twin of the sequence taggers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from parity.network.models.tagger.spec import TaggerSpec

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


class Tagger(nn.Module):
    """(N, T) tokens to (N, T, classes)."""

    def __init__(self, spec: TaggerSpec) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocabulary, spec.width)
        cell = CELLS[spec.cell]
        self.rnn = cell(spec.width, spec.units, num_layers=2, batch_first=True)
        self.fc = nn.Linear(spec.units, spec.classes)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc(self.rnn(self.embedding(tokens))[0])


def build(spec: TaggerSpec) -> nn.Module:
    """Return the module for `spec`, freshly initialised, in training mode and the default dtype."""
    return Tagger(spec)
