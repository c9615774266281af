"""`assert_parity`: check in any test suite that models of several frameworks are the same."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from parity.network.table import Depth, LayerTable
from parity.numerics.verdict import LIMIT
from parity.testing.message import write_message
from parity.testing.study import Study, agree, find_models, read_input

__all__ = ["assert_parity"]


def assert_parity(
    *,
    keras: Any = None,
    torch: Any = None,
    onnx: str | Path | None = None,
    input: ArrayLike,
    table: LayerTable | str | Path | None = None,
    depth: Depth = "stage",
    limit: float = LIMIT,
    seed: int = 0,
) -> None:
    """Raise AssertionError unless the models compute the same, up to float32 rounding.

    Give at least two of a `keras.Model`, a `torch.nn.Module` and the path of an ONNX file, at least
    one of them a model of a framework. Each is compared with a float64 copy of the PyTorch module,
    or of the Keras model where there is none, in units of the floor: the effect of moving that
    model's weights and input by one ulp in float32. A difference of up to `limit` floors is
    rounding.

    `input` is (N, C, H, W), or of any other rank; Keras reads images as (N, H, W, C). `table`, a
    layer table or its file, names the tensors to compare, at `depth`; without one the final outputs
    are compared. The models run in this process on the CPU in inference mode, and are not changed.
    """
    __tracebackhide__ = True
    data = read_input(input)
    models = find_models(keras=keras, torch=torch, onnx=onnx)
    layers = LayerTable.load(table) if isinstance(table, (str, Path)) else table
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        study = Study(models, data, layers, Path(folder), limit, seed)
        stages = study.compare(depth)
        if agree(stages):
            return
        message = write_message(study, stages, depth)
    raise AssertionError(message)
