"""What a model reference gives when it is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LoadedModel:
    """A model of one framework, ready for inference on the CPU.

    `example` are the example inputs that came with it: a tuple, list or dict of arrays or tensors,
    or one of these. `brings_weights` is False where the weights are still to be set. `source` names
    the model in messages. `input_shape` is the shape of the one input where the origin of the model
    states it, None for an axis of any length, and `input_dtype` its dtype. `notes` are lines for
    the report.
    """

    model: Any
    source: str
    brings_weights: bool
    example: Any | None = None
    input_shape: tuple[int | None, ...] | None = None
    input_dtype: str = "float32"
    notes: tuple[str, ...] = ()


def describe_other_precisions(dtypes: Iterable[str]) -> list[str]:
    """Return a note for each floating dtype of a model's weights that is not float32.

    Every subject is run in the precision of the comparison, which is not always the model's own.
    """
    counts = Counter(name for name in dtypes if "float" in name and name != "float32")
    return [
        f"{count} of its weights {'is' if count == 1 else 'are'} {name}; the comparison runs the "
        "model in the precision that the report states"
        for name, count in sorted(counts.items())
    ]
