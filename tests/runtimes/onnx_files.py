"""Files as other people write them: exported, optimised, quantised and narrowed models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Array = NDArray[Any]


class ImageNet(nn.Module):
    """Convolutions of three kinds, batch-norm, resizing, layer-norm and several activations."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depth = nn.Conv2d(8, 8, 3, groups=8, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.first = nn.Linear(256, 16)
        self.layer = nn.LayerNorm(16)
        self.last = nn.Linear(16, 5)
        nn.init.normal_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 1.5)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.relu6(self.norm(self.conv(image)))
        x = functional.max_pool2d(functional.silu(self.depth(x)), 2)
        x = functional.interpolate(self.up(x), size=(8, 8), mode="bilinear")
        return self.last(functional.gelu(self.layer(self.first(x.flatten(1)))))


class Tokens(nn.Module):
    """Embedding, an encoder layer, LSTM in both directions, GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")
        self.lstm = nn.LSTM(16, 12, bidirectional=True, batch_first=True, num_layers=2)
        self.gru = nn.GRU(24, 8, batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x, _ = self.lstm(self.encoder(self.embed(tokens)))
        x, _ = self.gru(x)
        return self.last(x[:, -1])


@dataclass(frozen=True)
class Example:
    """A module, and the inputs that it is tried on."""

    build: Callable[[], nn.Module]
    draw: Callable[[np.random.Generator], dict[str, Array]]


EXAMPLES: Mapping[str, Example] = {
    "image": Example(
        ImageNet,
        lambda rng: {"image": rng.standard_normal((2, 3, 32, 32)).astype(np.float32)},
    ),
    "tokens": Example(Tokens, lambda rng: {"tokens": rng.integers(0, 50, (2, 7))}),
}


def draw(name: str, seed: int = 0) -> dict[str, Array]:
    return EXAMPLES[name].draw(np.random.default_rng(seed))


def export(name: str, folder: Path) -> Path:
    """The module as `torch.onnx.export` writes it."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        torch.manual_seed(0)
        module = EXAMPLES[name].build().eval()
        tensors = tuple(torch.from_numpy(array) for array in draw(name).values())
        torch.onnx.export(module, tensors, path, dynamo=True, verbose=False)
    return path


def _optimise(level: str) -> Callable[[str, Path], Path]:
    def write(name: str, folder: Path) -> Path:
        import onnxruntime as ort

        path = folder / f"{name}-{level.lower()}.onnx"
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{level}")
        options.optimized_model_filepath = str(path)
        ort.InferenceSession(str(export(name, folder)), options, ["CPUExecutionProvider"])
        return path

    return write


def _prepare(name: str, folder: Path) -> Path:
    """The file as ONNX Runtime's quantiser wants it: with inferred shapes, in one file."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = folder / f"{name}-prepared.onnx"
    if not path.exists():
        quant_pre_process(str(export(name, folder)), str(path))
    return path


def _quantise_dynamically(name: str, folder: Path) -> Path:
    from onnxruntime.quantization import quantize_dynamic

    path = folder / f"{name}-dynamic.onnx"
    quantize_dynamic(str(_prepare(name, folder)), str(path))
    return path


def _quantise(form: str, *, per_channel: bool) -> Callable[[str, Path], Path]:
    def write(name: str, folder: Path) -> Path:
        from onnxruntime import quantization

        class Calibration(quantization.CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.batches = iter([draw(name, seed) for seed in range(3)])

            def get_next(self) -> dict[str, Array] | None:
                return next(self.batches, None)

        path = folder / f"{name}-{form}-{per_channel}.onnx"
        quantization.quantize_static(
            str(_prepare(name, folder)), str(path), Calibration(),
            quant_format=getattr(quantization.QuantFormat, form), per_channel=per_channel,
        )  # fmt: skip
        return path

    return write


def _narrow(*, keep_ends: bool) -> Callable[[str, Path], Path]:
    def write(name: str, folder: Path) -> Path:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        proto = onnx.load(_prepare(name, folder))
        path = folder / f"{name}-float16-{keep_ends}.onnx"
        onnx.save(convert_float_to_float16(proto, keep_io_types=keep_ends), path)
        return path

    return write


def _rename(name: str, folder: Path) -> Path:
    """The same file with names that say nothing, and its functions' nodes in reverse order."""
    proto = onnx.load(_prepare(name, folder))
    graph = proto.graph
    ends = {value.name for value in (*graph.input, *graph.output)}
    made = [each.name for each in graph.initializer]
    made += [output for node in graph.node for output in node.output]
    new = {old: old if old in ends or not old else f"t{i}" for i, old in enumerate(made)}
    for tensor in graph.initializer:
        tensor.name = new[tensor.name]
    for node in graph.node:
        node.name = ""
        for names in (node.input, node.output):
            for index, old in enumerate(names):
                names[index] = new.get(old, old)
    del graph.value_info[:]
    path = folder / f"{name}-renamed.onnx"
    onnx.save(proto, path)
    return path


FORMS: Mapping[str, Callable[[str, Path], Path]] = {
    "torch.onnx": export,
    "renamed": _rename,
    "basic": _optimise("ENABLE_BASIC"),
    "extended": _optimise("ENABLE_EXTENDED"),
    "float16": _narrow(keep_ends=False),
    "float16-inside": _narrow(keep_ends=True),
    "dynamic": _quantise_dynamically,
    "QDQ": _quantise("QDQ", per_channel=False),
    "QDQ-channels": _quantise("QDQ", per_channel=True),
    "QOperator": _quantise("QOperator", per_channel=False),
}
"""By name, what writes the file of an example."""
