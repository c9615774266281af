"""Sequence taggers with two recurrent layers: GRU (Cho et al., 2014), LSTM (Hochreiter, 1997)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from parity.errors import ArchitectureError
from parity.network.spec import GraphSpec, InputForm, Size, require_positive

_GATES = {"gru": 3, "lstm": 4}


@dataclass(frozen=True)
class TaggerSpec(GraphSpec):
    """`vocabulary` words of `width` features, two layers of `units`, `classes` labels a token."""

    classes: int = 17
    cell: str = "gru"
    vocabulary: int = 2000
    width: int = 64
    units: int = 128
    length: int = 16
    """The tokens of the input that a comparison makes; the model takes any number."""

    family: ClassVar[str] = "tagger"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self.name, "vocabulary", self.vocabulary)
        if (self.image_size, self.channels) != (GraphSpec.image_size, GraphSpec.channels):
            raise ArchitectureError(
                f"{self.name}: reads tokens, so it has no image size and no channels"
            )

    @property
    def input_form(self) -> InputForm:
        return InputForm((None, self.length), "int64")

    @property
    def size(self) -> Size:
        gates, units = _GATES[self.cell], self.units
        # Two biases a layer; an LSTM of Keras has one, and its twin's second one is 0.
        layers = [gates * (units * (size + units) + 2 * units) for size in (self.width, units)]
        head = units * self.classes + self.classes
        return Size(self.vocabulary * self.width + sum(layers) + head, 0)


ARCHITECTURES = (
    TaggerSpec("gru_tagger"),
    TaggerSpec("lstm_tagger", cell="lstm"),
)
