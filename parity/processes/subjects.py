"""The names of subjects and of child processes, which are parsed and built here alone.

    KIND[BACKEND]@WHERE    torch   keras[jax]   onnx-torch@gpu   torch@old   keras[torch]@new@cpu

KIND is a runtime that holds models, or GRAPH_RUNTIME-MODEL_RUNTIME. WHERE is a device, `cpu` or
`gpu`, or the name of an environment; both may be given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from parity.errors import UsageError
from parity.processes import registry
from parity.text import quote, suggest

Side: TypeAlias = str
"""The name of a runtime that holds models: the framework of a subject's model."""

DEVICES = ("cpu", "gpu")

_NAME = re.compile(
    r"(?P<kind>[a-z][a-z0-9_-]*)(?:\[(?P<backend>[^\]]*)\])?(?P<where>(?:@[\w.-]+)*)"
)


@dataclass(frozen=True, slots=True)
class Subject:
    """One subject; `name` is its full name, as the user wrote it and reports show it."""

    name: str
    kind: str
    backend: str | None = None
    device: str | None = None
    environment: str | None = None

    @property
    def side(self) -> Side:
        """The framework of its model: `keras` for `onnx-keras`."""
        return self.kind.rpartition("-")[2]

    @property
    def runtime(self) -> str:
        """The runtime that runs it: `onnx` for `onnx-keras`."""
        return self.kind.partition("-")[0]

    @property
    def runs_graph(self) -> bool:
        """Whether it runs an ONNX graph instead of the framework's own model."""
        return self.runtime != self.side


@dataclass(frozen=True, slots=True)
class ChildName:
    """The parts of a child's name, `keras[jax]@old`; no backend is the runtime's default.

    A second child of the same runtime is `torch#2`.
    """

    runtime: str
    backend: str | None = None
    environment: str | None = None
    instance: int = 1

    def __str__(self) -> str:
        backend = "" if self.backend is None else f"[{self.backend}]"
        environment = f"@{self.environment}" if self.environment else ""
        instance = f"#{self.instance}" if self.instance > 1 else ""
        return f"{self.runtime}{backend}{environment}{instance}"


def subject_kinds() -> tuple[str, ...]:
    """Return the kinds of subjects: models first, then the graphs exported from them."""
    runtimes = registry.all_runtimes()
    exporters = [name for name, info in runtimes.items() if info.exports_onnx]
    graphs = [f"{graph}-{model}" for graph in registry.graph_runtimes() for model in exporters]
    return (*registry.model_runtimes(), *graphs)


def parse_subject(text: str) -> Subject:
    """Parse a subject's name; raises `UsageError`, with the most similar kind if it is unknown."""
    kinds = subject_kinds()
    match = _NAME.fullmatch(text)
    if match is None or match["kind"] not in kinds:
        kind = re.split(r"[\[@]", text)[0]
        hint = suggest(kind, kinds, otherwise=f"known: {', '.join(kinds)}")
        raise UsageError(f"unknown subject {quote(text)}{hint}")
    kind, backend = match["kind"], match["backend"]
    if backend is not None:
        _check_backend(text, kind, backend)
    device = environment = None
    for place in filter(None, match["where"].split("@")):
        if place in DEVICES and device is None:
            device = place
        elif place not in DEVICES and environment is None:
            environment = place
        else:
            raise UsageError(
                f"subject {quote(text)}: expected at most one device and one environment"
            )
    return Subject(text, kind, backend, device, environment)


def _check_backend(text: str, kind: str, backend: str) -> None:
    """Raise `UsageError` unless subjects of this kind can have this backend."""
    runtimes = registry.all_runtimes()
    if kind not in runtimes or not runtimes[kind].backends:
        several = [name for name, info in runtimes.items() if info.backends]
        raise UsageError(f"subject {quote(text)}: only {', '.join(several)} has a [backend]")
    known = registry.backend_names(kind)
    if backend not in known:
        raise UsageError(
            f"subject {quote(text)}: {runtimes[kind].label}'s backends are {', '.join(known)}"
        )


def child_name(
    runtime: str,
    *,
    backend: str | None = None,
    environment: str | None = None,
    instance: int = 1,
) -> str:
    """Return the name of the child that runs a runtime: `keras`, `keras[jax]`, `torch@old`.

    Further children of the same runtime are `instance` 2, 3, …: `torch#2`.
    """
    is_default = backend in registry.backend_names(runtime)[:1]
    return str(ChildName(runtime, None if is_default else backend, environment, instance))


def parse_child_name(name: str) -> ChildName:
    """Parse a name that `child_name` returned."""
    own, _, instance = name.partition("#")
    match = _NAME.fullmatch(own)
    assert match is not None, name
    environment = match["where"].lstrip("@") or None
    return ChildName(match["kind"], match["backend"], environment, int(instance or 1))


def keeps_gpu_memory(child: str) -> bool:
    """Return whether a child's GPU memory is freed only when its process ends."""
    name = parse_child_name(child)
    backends = registry.get(name.runtime).backends
    matches = [backend for backend in backends if name.backend in (None, backend.name)]
    return bool(matches) and matches[0].keeps_gpu_memory


def side_of(subject: str) -> Side:
    """Return the framework of the model that a subject runs, by the subject's name."""
    return parse_subject(subject).side


def runtime_of(subject: str) -> str:
    """Return the runtime that runs a subject, by the subject's name."""
    return parse_subject(subject).runtime


def runs_graph(subject: str) -> bool:
    """Return whether a subject runs an ONNX graph, by the subject's name."""
    return parse_subject(subject).runs_graph


def is_model_of(model: str, graph: str) -> bool:
    """Return whether subject `graph` runs a graph exported from the model of subject `model`."""
    source, export = parse_subject(model), parse_subject(graph)
    return export.runs_graph and not source.runs_graph and source.side == export.side
