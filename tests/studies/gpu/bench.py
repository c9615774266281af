"""A model on a GPU: the subjects that can run there, comparisons, and single children."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from parity.comparison.graphs.request import GraphRequest
from parity.comparison.placement import confirm_placement, plan_placement
from parity.comparison.request import Request
from parity.errors import ParityError
from parity.network import architectures, weights
from parity.processes import gpus
from parity.processes.child import Child
from parity.processes.children import Children
from parity.processes.interpreters import select_interpreter
from parity.report.model import Report
from parity.version import __version__

SUBJECTS = (
    "keras@gpu", "torch@gpu", "onnx-keras@gpu", "onnx-torch@gpu",
    "keras[jax]@gpu", "keras[torch]@gpu",
)  # fmt: skip
"""Everything that could run on a GPU."""

PRECISIONS = ("float32", "tf32", "float16", "bfloat16")
"""float32 has TF32 off in every runtime, tf32 has it on."""


@dataclass
class Bench:
    """A model on a GPU: the subjects that can run there, and why the others cannot."""

    model: str
    size: int
    python: Mapping[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    asked: Sequence[str] = SUBJECTS
    facts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    gpu: gpus.Gpu | None = None

    def find_subjects(self, subjects: Sequence[str] = SUBJECTS) -> None:
        """Ask the runtimes of these subjects whether each can run on the GPU."""
        self.asked = subjects
        try:
            self.gpu = gpus.find_gpu()
        except ParityError as error:
            self.absent = dict.fromkeys(SUBJECTS, str(error))
            return
        for subject in subjects:
            try:
                request = self.request([subject])
                with Children(python=self.python, timeout=120.0, gpu=True) as children:
                    placement = confirm_placement(plan_placement(request), request, children)
                    # The reference may need a runtime that the subject does not.
                    children[request.home_child(request.reference_side)].hello()
                self.facts.update(placement.facts)
            except ParityError as error:
                self.absent[subject] = str(error)

    def explain_absence(self, subjects: Sequence[str]) -> str | None:
        """Return why these subjects cannot be run; None if all can."""
        reasons = dict.fromkeys(self.absent[name] for name in subjects if name in self.absent)
        return "; ".join(reasons) or None

    @property
    def present(self) -> list[str]:
        """The subjects that can be run."""
        return [name for name in self.asked if name not in self.absent]

    def request(self, subjects: Sequence[str], **options: Any) -> Request:
        """Return the request of a comparison of these subjects on this model."""
        size = (self.size, self.size)
        return Request(
            model=self.model, image_size=size, subjects=tuple(subjects), python=self.python,
            **{"device": "cpu", "explain": False, **options},
        )  # fmt: skip

    def compare(self, subjects: Sequence[str], **options: Any) -> Report:
        """Run a comparison and return its report; subjects without a device are on the CPU."""
        from parity.commands import compare as comparing

        return comparing.compare_request(self.request(subjects, **options))

    def compare_references(self, references: Sequence[str], **options: Any) -> Report:
        """Compare models that references name, with the weights of the first; no export."""
        from parity.commands.compare_graphs import compare_graphs

        name = references[0].partition("=")[0]
        request = GraphRequest(
            references=tuple(references), weights=name, image_size=(32, 32), python=self.python,
            **{"explain": False, "export": False, **options},
        )  # fmt: skip
        return compare_graphs(request)

    def export(self, side: str, path: Path, **options: Any) -> None:
        """Export the model of a framework, with random weights, to a verified ONNX file."""
        from parity.commands import export as exporting

        size = (self.size, self.size)
        exporting.export(
            self.model, path, side=side, image_size=size, python=self.python, **options
        )

    @contextmanager
    def load_child(self, subject: str, batch: int) -> Iterator[tuple[Child, dict[str, Any]]]:
        """Yield a framework's child with the model, and the arguments of a run of the logits."""
        spec = architectures.get(self.model, image_size=(self.size, self.size))
        runtime = subject.partition("@")[0]
        with tempfile.TemporaryDirectory(prefix="parity-gpu-") as name:
            folder = Path(name)
            path = folder / "weights.safetensors"
            weights.save(path, weights.init(spec, seed=0))
            data = np.zeros((batch, *spec.input_shape), np.float32)
            np.save(folder / "x.npy", data)
            child = Child(runtime, python=select_interpreter(runtime, self.python), gpu=True)
            try:
                child.call("load", spec=spec.to_json(), callable_path=None)
                child.call("load_weights", path=str(path))
                yield child, {
                    "x": str(folder / "x.npy"), "rows": ["logits"], "device": "gpu",
                    "out": str(folder / "out.safetensors"), "manifest": {"subject": subject},
                }  # fmt: skip
            finally:
                child.close()


def version() -> str:
    """The version of `parity` that the record is of."""
    return __version__
