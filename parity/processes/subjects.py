"""What can be compared and how it is written: the one place that reads a subject's name.

    KIND[BACKEND]@WHERE    torch   keras[jax]   onnx-torch@gpu   torch@old   keras[torch]@new@cpu

WHERE is a device, `cpu` or `gpu`, or the name of an environment; both may be given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from parity.errors import UsageError
from parity.text import quote, suggest

Side = Literal["keras", "torch"]

KINDS = ("keras", "torch", "onnx-keras", "onnx-torch")
RUNTIMES = ("keras", "torch", "onnx")
"""The children there are, the slowest to start first."""

LABELS = {"keras": "Keras", "torch": "PyTorch", "onnx": "ONNX Runtime"}
"""What a reader knows each runtime as."""

BACKENDS = ("tensorflow", "jax", "torch")
DEVICES = ("cpu", "gpu")

_GRAMMAR = re.compile(r"(?P<kind>[a-z][a-z-]*)(?:\[(?P<backend>[^\]]*)\])?(?P<where>(?:@[\w.-]+)*)")


@dataclass(frozen=True, slots=True)
class Subject:
    """One subject; `name` is what the user wrote, and what reports call it."""

    name: str
    kind: str
    backend: str | None = None
    device: str | None = None
    environment: str | None = None

    @property
    def side(self) -> Side:
        """The framework whose model it runs: `onnx-keras` is Keras's graph."""
        return "keras" if self.kind.endswith("keras") else "torch"

    @property
    def runtime(self) -> str:
        """What runs it: keras, torch or onnx."""
        return "onnx" if self.kind.startswith("onnx-") else self.kind


def parse(text: str) -> Subject:
    """Read a subject's name; raises `UsageError` with the closest one that there is."""
    found = _GRAMMAR.fullmatch(text)
    if found is None or found["kind"] not in KINDS:
        kind = re.split(r"[\[@]", text)[0]
        hint = suggest(kind, KINDS, otherwise=f"known: {', '.join(KINDS)}")
        raise UsageError(f"unknown subject {quote(text)}{hint}")
    kind, backend = found["kind"], found["backend"]
    if backend is not None:
        if kind != "keras":
            raise UsageError(f"subject {quote(text)}: only keras has a [backend]")
        if backend not in BACKENDS:
            raise UsageError(f"subject {quote(text)}: Keras's backends are {', '.join(BACKENDS)}")
    device = environment = None
    for place in filter(None, found["where"].split("@")):
        if place in DEVICES and device is None:
            device = place
        elif place not in DEVICES and environment is None:
            environment = place
        else:
            raise UsageError(f"subject {quote(text)}: one device and one environment at most")
    return Subject(text, kind, backend, device, environment)


def child_name(runtime: str, *, backend: str | None = None, environment: str | None = None) -> str:
    """The child that a runtime needs: `keras`, `keras[jax]`, `torch@old`."""
    name = runtime
    if backend not in (None, "tensorflow"):
        name += f"[{backend}]"
    return name if environment is None else f"{name}@{environment}"


def of_child(name: str) -> Subject:
    """What a child's name says: its runtime as the kind, its backend and its environment."""
    found = _GRAMMAR.fullmatch(name)
    assert found is not None, name
    return Subject(name, found["kind"], found["backend"], None, found["where"].lstrip("@") or None)


def keeps_memory(child: str) -> bool:
    """Whether a child's framework holds a card's memory until its process ends."""
    found = of_child(child)
    # TensorFlow and JAX never shrink their pools; PyTorch and ONNX Runtime can be made to.
    return found.kind == "keras" and found.backend != "torch"


def side_of(subject: str) -> Side:
    """The framework whose model the subject of this name runs."""
    return parse(subject).side


def is_model_of(model: str, graph: str) -> bool:
    """Whether the subject `graph` runs a graph that was exported from the model of the other."""
    one, other = parse(model), parse(graph)
    return other.runtime == "onnx" != one.runtime and one.side == other.side


def runtime_of(subject: str) -> str:
    """What runs the subject of this name."""
    return parse(subject).runtime
