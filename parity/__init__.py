"""Are a network's Keras, PyTorch and ONNX versions the same, and if not, where and why?

    compare   Compare models in Keras, PyTorch and ONNX Runtime; returns a `Report`.
    align     Pair the layers of two models, and say how sure each pair is.
    capture   Run a model and save its tensors, to be compared later or elsewhere.
    diff      Compare saved captures without running a model; returns a `Report`.
    bisect    Find the release or commit that moved a result, the layer and the cause.
    reduce    Write the smallest part of two models that shows their difference, as one file.
    check     Run the cases of a parity.toml and compare them with locked figures.
    sweep     Compare a grid of models, versions, devices and inputs; returns a `SweepResult`.
    convert   Convert a checkpoint to another framework's format, bit for bit.
    export    Export a model to ONNX and verify the file.
    evaluate  Run labelled images through every runtime; returns an `Evaluation`.
    history   The figures of a lock file over time, from git; returns a `History`.
    predict   Class names and probabilities of images, in every runtime.
    warm      Keep children that have imported their frameworks, so that later calls start faster.
    train     Train a model in Keras and PyTorch on the same batches; returns a `TrainingResult`.

Each is loaded when it is first used. Importing this package loads neither NumPy nor a framework;
frameworks run in processes of their own.
"""

from __future__ import annotations

from parity.version import __version__

# As in `typing`, whose import takes longer than all else here: until `parity.__main__` has set its
# signals, Ctrl-C would print a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from parity.commands.align import align
    from parity.commands.bisect import BisectResult, bisect
    from parity.commands.capture import capture
    from parity.commands.check import check
    from parity.commands.compare import compare
    from parity.commands.convert import convert
    from parity.commands.diff import diff
    from parity.commands.evaluate import evaluate
    from parity.commands.export import export
    from parity.commands.history import History, history
    from parity.commands.predict import PredictionResult, predict
    from parity.commands.reduce import Reduction, reduce
    from parity.commands.sweep import sweep
    from parity.commands.train import train
    from parity.commands.warm import WarmStatus, warm
    from parity.evaluation.results import Evaluation
    from parity.report.grid import SweepResult
    from parity.report.model import Report
    from parity.training.result import TrainingResult

__all__ = [
    "BisectResult",
    "Evaluation",
    "History",
    "PredictionResult",
    "Reduction",
    "Report",
    "SweepResult",
    "TrainingResult",
    "WarmStatus",
    "__version__",
    "align",
    "bisect",
    "capture",
    "check",
    "compare",
    "convert",
    "diff",
    "evaluate",
    "export",
    "history",
    "predict",
    "reduce",
    "sweep",
    "train",
    "warm",
]

_MODULES = {
    "BisectResult": "parity.commands.bisect",
    "Evaluation": "parity.evaluation.results",
    "History": "parity.commands.history",
    "PredictionResult": "parity.commands.predict",
    "Reduction": "parity.commands.reduce",
    "Report": "parity.report.model",
    "SweepResult": "parity.report.grid",
    "TrainingResult": "parity.training.result",
    "WarmStatus": "parity.commands.warm",
    "align": "parity.commands.align",
    "bisect": "parity.commands.bisect",
    "capture": "parity.commands.capture",
    "check": "parity.commands.check",
    "compare": "parity.commands.compare",
    "convert": "parity.commands.convert",
    "diff": "parity.commands.diff",
    "evaluate": "parity.commands.evaluate",
    "export": "parity.commands.export",
    "history": "parity.commands.history",
    "predict": "parity.commands.predict",
    "reduce": "parity.commands.reduce",
    "sweep": "parity.commands.sweep",
    "train": "parity.commands.train",
    "warm": "parity.commands.warm",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'parity' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    # `help` and completion also show what is not loaded yet.
    return sorted({*globals(), *__all__})
