"""`assert_parity`: check in any test suite that models of several frameworks are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from parity import temporary
from parity.commands.compare import compare
from parity.comparison.graphs.inputs import map_npy
from parity.errors import UsageError
from parity.network.table import Depth, LayerTable
from parity.numerics.verdict import LIMIT
from parity.report.model import Report
from parity.testing.comparison import InProcessComparison, agree, read_input, wrap_models
from parity.testing.message import write_message, write_report_message


class ParityAssertionError(AssertionError):
    """Models that are not the same; `report` is the comparison, None for live models."""

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message)
        self.report = report


def assert_parity(
    *models: str,
    keras: Any = None,
    torch: Any = None,
    onnx: str | Path | None = None,
    input: ArrayLike | str | Path | None = None,
    inputs: Mapping[str, str | Path | NDArray[Any]] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    weights: str | Path | None = None,
    table: LayerTable | str | Path | None = None,
    depth: Depth = "stage",
    limit: float = LIMIT,
    seed: int = 0,
    export: bool = False,
    trust: Sequence[str | Path] = (),
    custom_objects: str | Path | None = None,
    timeout: float = 900.0,
) -> None:
    """Raise AssertionError unless the models compute the same, up to float32 rounding.

    Give live models by `keras`, `torch` and `onnx`, or `models`, references as `parity.compare`
    takes them: "net.py:build", "deployed.onnx", "torchvision:resnet50".

    Live models: at least two of a `keras.Model`, a `torch.nn.Module` and the path of an ONNX file,
    at least one of them a model of a framework. Each is compared with a float64 copy of the PyTorch
    module, or of the Keras model where there is none, in units of the floor: the effect of moving
    that model's weights and input by one ulp in float32. A difference of up to `limit` floors is
    rounding. `input` is (N, C, H, W), or of any other rank; Keras reads images as (N, H, W, C).
    `inputs` are several, by the names of the models' inputs or in their order. Integers, such as
    tokens, are given as they are, and are never moved. `table`, a layer table or its file, names
    the tensors to compare, at `depth`; without one all outputs are compared: a tuple's in their
    order, a dict's by name. The models run in this process on the CPU in inference mode, and are
    not changed.

    References: each model is loaded in a process of its own, read, and paired with the first; every
    pair of layers is compared at `depth`. `input`, `inputs`, `shapes`, `weights`, `export`, `trust`
    and `custom_objects` are those of `parity.compare`; `timeout` is in seconds for one step.

    Raises `UsageError` for a call with neither or both, and what `parity.compare` raises.

    Example:
        >>> assert_parity("net.py:build", "deployed.onnx", inputs={"tokens": "tokens.npy"})
    """
    __tracebackhide__ = True
    if models:
        if any(each is not None for each in (keras, torch, onnx, table)):
            raise UsageError("assert_parity: give references, or keras=, torch=, onnx= and table=")
        report = compare(
            *models,
            input=input if input is None or isinstance(input, str | Path) else np.asarray(input),
            inputs=inputs,
            shapes=shapes,
            weights=weights,
            depth=depth,
            limit=limit,
            seed=seed,
            export=export,
            trust=trust,
            custom_objects=custom_objects,
            timeout=timeout,
        )
        if not report:
            raise ParityAssertionError(write_report_message(report), report)
        return
    data = _read_inputs(input, inputs)
    live = wrap_models(keras=keras, torch=torch, onnx=onnx)
    layers = LayerTable.load(table) if isinstance(table, (str, Path)) else table
    with temporary.working_folder() as folder:
        comparison = InProcessComparison(live, data, layers, folder, limit, seed)
        stages = comparison.compare(depth)
        if agree(stages):
            return
        message = write_message(comparison, stages, depth)
    raise ParityAssertionError(message)


def _read_inputs(
    input: ArrayLike | str | Path | None, inputs: Mapping[str, Any] | None
) -> dict[str, NDArray[Any]]:
    """Return the arrays of live models by name; raises `UsageError` unless one of both is given."""
    if (input is None) == (not inputs) or isinstance(input, str | Path):
        raise UsageError("assert_parity: give input=, an array that the models take, or inputs=")
    if input is not None:
        return {"input": read_input(input)}
    found = {}
    for name, value in (inputs or {}).items():
        array = map_npy(Path(value)) if isinstance(value, str | Path) else value
        found[name] = read_input(array, name)
    return found
