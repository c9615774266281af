"""A part of a model as Python source: the steps of one run, and those that one tensor needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.errors import GraphError
from parity.numerics.npz import load_npz, save_npz
from parity.processes.graph_requests import PieceCode

Array = NDArray[Any]

Render = Callable[[Any], str | None]
"""Returns the source of a framework's own values, such as a dtype; None for any other value."""


class UnwritableError(Exception):
    """A value or a call that source code cannot state."""


@dataclass(frozen=True)
class Step:
    """One call of a run, as source.

    `lines` read and assign the variables of `name_variable`, and read `w["NAME"]` for the entries
    of `values`, which are weights and constants as the framework has them. `label` describes the
    call in a comment. With a `reason` it cannot be written.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    lines: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    reason: str = ""
    place: str = ""
    """The layer, or the line of the model's own code; empty for a step that is a layer itself."""


class PieceOperations:
    """What `parity reduce` asks of a child that has one model."""

    def trace_steps(self, inputs: Mapping[str, Array]) -> tuple[Sequence[Step], Collection[str]]:
        """Run the model once; return its steps in execution order, and the ids of its inputs."""
        raise NotImplementedError

    def to_array(self, value: Any) -> Array:
        """Return one of a step's `values` as an array."""
        raise NotImplementedError

    def wrap_piece(self, steps: Sequence[Step], reads: Sequence[str], output: str) -> PieceCode:
        """Return the body of a function that runs these steps."""
        raise NotImplementedError

    def write_piece(
        self, *, inputs: str, output: str, boundary: Sequence[str], weights: str
    ) -> dict[str, Any]:
        """Return the source of what makes `output` of the tensors in `boundary`; see `PieceCode`.

        The answer's fields are those of `PieceCode`. `inputs` is the `.npz` file of the run,
        `weights` the one that is written. Raises `GraphError` where source cannot state a part.
        """
        steps, ports = self.trace_steps(load_npz(inputs))
        chosen, reads = select_steps(steps, output=output, boundary={*boundary, *ports})
        values = {name: value for step in chosen for name, value in step.values.items()}
        save_npz(weights, {name: self.to_array(value) for name, value in values.items()})
        return self.wrap_piece(chosen, reads, output).to_json()


def select_steps(
    steps: Sequence[Step], *, output: str, boundary: Collection[str]
) -> tuple[list[Step], list[str]]:
    """Return the steps that `output` needs behind the tensors of `boundary`, in execution order.

    With them those of `boundary` that they read, in the order of their use. Raises `GraphError` for
    a tensor that no step makes, and for a step that cannot be written.
    """
    producers = {tensor: at for at, step in enumerate(steps) for tensor in step.outputs}
    wanted, reads, waiting = set[int](), dict[str, None](), [output]
    while waiting:
        tensor = waiting.pop()
        if tensor in boundary and tensor != output:
            reads[tensor] = None
            continue
        if tensor not in producers:
            raise GraphError(f"{tensor}: no layer of its own makes this tensor")
        at = producers[tensor]
        if at in wanted:
            continue
        if steps[at].reason:
            raise GraphError(f"{steps[at].label}: {steps[at].reason}")
        wanted.add(at)
        waiting += steps[at].inputs
    chosen = [steps[at] for at in sorted(wanted)]
    order = [tensor for step in chosen for tensor in step.inputs]
    return chosen, [tensor for tensor in dict.fromkeys(order) if tensor in reads]


def count_layers(steps: Sequence[Step]) -> int:
    """Return the number of layers and lines of the model's own code that steps belong to."""
    return len({step.place or str(number) for number, step in enumerate(steps)})


def name_variable(tensor: str) -> str:
    """Return the variable of a tensor's id, `t_5_0` for `5.0`."""
    return "t_" + "".join(each if each.isalnum() else "_" for each in tensor)


def format_steps(steps: Sequence[Step], indent: str) -> list[str]:
    """Return the lines of steps, each with its label as a comment."""
    found = []
    for step in steps:
        label = " ".join(step.label.split())
        found += [f"{indent}# {label}"] if label else []
        found += [f"{indent}{line}" for line in step.lines]
    return found


def render_value(value: Any, render: Render) -> str:
    """Return a value as source; raises `UnwritableError` for one of another type.

    `render` is asked first, for every value inside too.
    """
    text = render(value)
    if text is not None:
        return text
    if value is None or value is Ellipsis or isinstance(value, bool | int | str):
        return repr(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f'float("{value}")'
    if isinstance(value, np.generic):
        return render_value(value.item(), render)
    if isinstance(value, slice):
        parts = (value.start, value.stop, value.step)
        return f"slice({', '.join(render_value(each, render) for each in parts)})"
    if isinstance(value, tuple):
        inner = ", ".join(render_value(each, render) for each in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, list):
        return f"[{', '.join(render_value(each, render) for each in value)}]"
    if isinstance(value, Mapping):
        pairs = (f"{render_value(k, render)}: {render_value(v, render)}" for k, v in value.items())
        return f"{{{', '.join(pairs)}}}"
    raise UnwritableError(f"a {type(value).__name__} cannot be stated in source")
