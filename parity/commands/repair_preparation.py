"""The preparation of a comparison with a repaired model: its texts, and inputs of other values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.inputs import InputArrays
from parity.comparison.graphs.preparation import Preparation
from parity.comparison.graphs.request import GraphSubject
from parity.comparison.graphs.state import SubjectModel

Array = NDArray[Any]


@dataclass
class RepairPreparation(Preparation):
    """Loads the subject `name` with other texts of its source files, and keeps its constructors."""

    texts: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    unseen: int = 0
    """The seed of an input that takes the place of the request's; 0 for the request's own."""

    def read_models(self) -> tuple[list[GraphSubject], GraphSubject, dict[str, SubjectModel]]:
        subjects, reference, models = super().read_models()
        if self.unseen:
            model = models[reference.name]
            rng = np.random.default_rng([self.request.seed, 101, self.unseen])
            arrays = {name: _draw_like(each, rng) for name, each in model.inputs.arrays.items()}
            inputs = InputArrays(arrays, f"other than the search's, seed {self.unseen}")
            inputs.save(model.input_file)
            models[reference.name] = replace(model, inputs=inputs)
        return subjects, reference, models

    def _load_in(
        self, subject: GraphSubject
    ) -> tuple[GraphSubject, dict[str, Any], dict[str, str]]:
        reference = subject.reference
        if subject.name == self.name and reference is not None and reference.is_code:
            child = self.children[subject.child]
            child.hello()
            child.call("trace_constructors")
            if self.texts:
                others = {}
                for number, (file, text) in enumerate(self.texts.items()):
                    path = self.folder / f"source.{number}.py"
                    path.write_bytes(text.encode())
                    others[file] = str(path)
                child.call("replace_sources", files=others)
        return super()._load_in(subject)


def _draw_like(array: Array, rng: np.random.Generator) -> Array:
    """Return other values of an input: noise of its mean and spread, or integers of its range."""
    if array.dtype.kind == "f":
        spread = float(array.std()) or 1.0
        noise = float(array.mean()) + spread * rng.standard_normal(array.shape)
        return np.asarray(noise, array.dtype)
    if array.dtype.kind == "b":
        return rng.permuted(array.reshape(-1)).reshape(array.shape)
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    return rng.integers(low, high + 1, array.shape).astype(array.dtype)
