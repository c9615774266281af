"""The study of the proof: graphs broken on purpose in one node, which verification must refuse.

A fault is applied to the graph of a correct export. Whether it changes a number is found out apart
from the verification: both files are run on many inputs, those of its kinds and others. One that
changes nothing anywhere may pass; each of the others must be refused.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from exporters.errors import ExportError
from tests.studies.exports.case import Case, difference

MODELS = (
    "cnn",
    "unet",
    "squeeze-excite",
    "patch-transformer",
    "causal-transformer",
    "autoencoder",
    "lstm-states",
    "gru-bidirectional-2",
    "batch-norm2d",
    "group-norm",
    "layer-norm",
    "avg-pool",
    "max-pool",
    "upsample-bilinear",
    "topk",
    "round",
    "where",
    "softmax(dim=1)",
    "gather",
    "embedding",
    "cumsum",
    "floor-divide-int",
    "remainder-int",
    "mha-cross",
    "conv2d-depthwise",
    "argmax",
    "split-unequal",
    "one-hot",
    "std-mean",
    "clamp",
)

SWAPS = {
    "Add": "Sub", "Sub": "Add", "Mul": "Div", "Div": "Mul", "Relu": "Sigmoid", "Sigmoid": "Tanh",
    "Tanh": "Sigmoid", "Softmax": "LogSoftmax", "MaxPool": "AveragePool", "AveragePool": "MaxPool",
    "GlobalAveragePool": "GlobalMaxPool", "ReduceMean": "ReduceSum", "ReduceSum": "ReduceMean",
    "ReduceMax": "ReduceMin", "Max": "Min", "Min": "Max", "Floor": "Ceil", "Round": "Floor",
    "Erf": "Tanh", "Exp": "Sin", "Sqrt": "Abs", "ArgMax": "ArgMin", "Greater": "GreaterOrEqual",
    "Less": "LessOrEqual", "And": "Or", "Neg": "Abs", "Elu": "Selu", "ConvTranspose": "Conv",
    "LeakyRelu": "Elu", "HardSwish": "Relu", "Gelu": "Relu",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Fault:
    """One change of one node: what it is called, and a function that makes it in place."""

    name: str
    apply: Callable[[ModelProto], None]


def faults_of(model: ModelProto) -> Iterator[Fault]:
    """Yield every fault of every node, and of every initializer, of a graph."""
    for index, node in enumerate(model.graph.node):
        label = f"{node.op_type} {node.name}"
        if node.op_type in SWAPS:
            yield Fault(f"{label}: {SWAPS[node.op_type]}", _change(index, _swap))
        for attribute in node.attribute:
            for name, change in _attribute_changes(attribute):
                yield Fault(
                    f"{label}: {attribute.name} {name}",
                    _change(index, lambda n, a=attribute.name, c=change: c(_attribute(n, a))),
                )
        if len(node.input) == 2 and node.op_type in ("Sub", "Div", "Pow", "Greater", "Less"):
            yield Fault(f"{label}: operands exchanged", _change(index, _exchange))
        if node.output and node.op_type not in ("Shape", "Constant", "Cast"):
            yield Fault(f"{label}: cast to float16 and back", _narrow(index))
    for index, tensor in enumerate(model.graph.initializer):
        values = numpy_helper.to_array(tensor)
        for name, changed in _tensor_changes(values):
            yield Fault(f"{tensor.name}: {name}", _replace(index, changed))


def _change(index: int, change: Callable[[NodeProto], None]) -> Callable[[ModelProto], None]:
    return lambda model: change(model.graph.node[index])


def _swap(node: NodeProto) -> None:
    node.op_type = SWAPS[node.op_type]
    if node.op_type in ("ArgMin",):
        return
    if node.op_type in ("MaxPool",):
        kept = [a for a in node.attribute if a.name != "count_include_pad"]
        del node.attribute[:]
        node.attribute.extend(kept)


def _exchange(node: NodeProto) -> None:
    node.input[0], node.input[1] = node.input[1], node.input[0]


def _attribute(node: NodeProto, name: str) -> onnx.AttributeProto:
    return next(a for a in node.attribute if a.name == name)


def _attribute_changes(
    attribute: onnx.AttributeProto,
) -> Iterator[tuple[str, Callable[[onnx.AttributeProto], None]]]:
    kinds = onnx.AttributeProto
    if attribute.type == kinds.FLOAT:
        yield "* 1.01", lambda a: setattr(a, "f", a.f * 1.01 if a.f else 0.01)
        yield "* 10", lambda a: setattr(a, "f", a.f * 10 if a.f else 0.1)
    elif attribute.type == kinds.INT and attribute.name != "to":
        yield "+ 1", lambda a: setattr(a, "i", a.i + 1)
        yield "- 1", lambda a: setattr(a, "i", a.i - 1)
    elif attribute.type == kinds.INTS and len(attribute.ints) > 1:
        yield "reversed", lambda a: _set_ints(a, list(a.ints)[::-1])
        yield "rolled", lambda a: _set_ints(a, [*a.ints[1:], a.ints[0]])
        yield "first + 1", lambda a: _set_ints(a, [a.ints[0] + 1, *a.ints[1:]])
    elif attribute.type == kinds.STRING:
        for text in (b"asymmetric", b"nearest", b"tf_crop_and_resize", b"pytorch_half_pixel"):
            yield text.decode(), lambda a, t=text: setattr(a, "s", t)


def _set_ints(attribute: onnx.AttributeProto, values: list[int]) -> None:
    del attribute.ints[:]
    attribute.ints.extend(values)


def _narrow(index: int) -> Callable[[ModelProto], None]:
    def apply(model: ModelProto) -> None:
        node = model.graph.node[index]
        name, inner = node.output[0], f"{node.output[0]}/wide"
        node.output[0] = inner
        nodes = list(model.graph.node)
        casts = [
            helper.make_node("Cast", [inner], [f"{name}/narrow"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", [f"{name}/narrow"], [name], to=TensorProto.FLOAT),
        ]
        nodes[index + 1 : index + 1] = casts
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    return apply


def _tensor_changes(values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    if values.dtype.kind == "f" and values.size > 1:
        yield "rolled by one", np.roll(values.reshape(-1), 1).reshape(values.shape)
        square = values.ndim >= 2 and values.shape[0] == values.shape[1]
        if square:
            yield "transposed", np.ascontiguousarray(np.swapaxes(values, 0, 1))
        if values.ndim > 2 and values.shape[-1] > 1:
            yield "reversed on the last axis", np.ascontiguousarray(values[..., ::-1])
        largest = int(np.abs(values).argmax())
        one = values.copy().reshape(-1)
        one[largest] *= 1.05
        yield "one element * 1.05", one.reshape(values.shape)
    elif values.dtype.kind == "f" and values.size == 1:
        yield "* 1.01", np.asarray(values * 1.01, values.dtype)
    elif values.dtype == np.int64 and 0 < values.size <= 8:
        yield "+ 1", values + 1
        yield "- 1", values - 1
        if values.size > 1:
            yield "reversed", np.ascontiguousarray(values[::-1])


def _replace(index: int, values: np.ndarray) -> Callable[[ModelProto], None]:
    def apply(model: ModelProto) -> None:
        tensor = model.graph.initializer[index]
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    return apply


def run_model(case: Case, most: int) -> Counter[str]:
    """Break one model in up to `most` ways; print what passed and changes a number."""
    import torch

    from exporters import torch_onnx
    from exporters.graph.model import WeightedModel
    from exporters.graph.verification import verify
    from exporters.torch.arguments import read_arguments
    from exporters.torch.export import _sizes
    from exporters.torch.function import to_reference
    from exporters.torch.module import to_array

    torch.manual_seed(0)
    built: Any = case.build()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "right.onnx"
        torch_onnx.export(built.module, built.example, path, kwargs=built.kwargs)
        right = onnx.load(path)
        arguments = read_arguments(built.module, built.example, built.kwargs)
        reference = to_reference(
            built.module,
            arguments,
            example=[to_array(tensor) for tensor in arguments.values()],
            sizes=_sizes(arguments),
            roundoffs=[],
        )
        faults = list(faults_of(right))
        step = max(1, len(faults) // most)
        for fault in faults[::step][:most]:
            model = ModelProto()
            model.CopyFrom(right)
            fault.apply(model)
            for value in model.graph.output:
                value.type.tensor_type.ClearField("shape")
            del model.graph.value_info[:]
            broken = Path(folder) / "broken.onnx"
            onnx.save(model, broken)
            effect = measure_effect(path, broken, built)
            if effect == "invalid":
                counts["invalid"] += 1
                continue
            try:
                verify(WeightedModel(model, {}), broken, reference)
            except ExportError:
                counts["refused" if effect else "refused, without effect"] += 1
            else:
                counts["passed" if effect else "passed, without effect"] += 1
                if effect:
                    print(f"  PASSED {case.name}: {fault.name} (changes {effect:.2g})", flush=True)
    return counts


def measure_effect(right: Path, broken: Path, model: Any) -> float | str:
    """Return the largest difference of two files' outputs over many inputs, or "invalid"."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        first, second = (
            onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            for path in (right, broken)
        )
    except Exception:  # noqa: BLE001 - a graph that does not load is refused by anybody
        return "invalid"
    names = [value.name for value in first.get_inputs()]
    worst = 0.0
    for batch, seed, scale in ((1, 1, 1.0), (3, 2, 1.0), (40, 3, 1.0), (40, 4, 30.0), (2, 5, 0.0)):
        inputs = [
            array if array.dtype.kind != "f" else (array * scale).astype(array.dtype)
            for array in model.draw(batch, seed)
        ]
        feeds = dict(zip(names, inputs, strict=True))
        try:
            expected, actual = first.run(None, feeds), second.run(None, feeds)
        except Exception:  # noqa: BLE001 - it fails where the right one does not
            return "invalid"
        for a, e in zip(actual, expected, strict=True):
            worst = max(worst, difference(a, e))
    return worst if worst > 1e-5 else 0.0


def main(names: str, most: int = 12) -> None:
    """Print how many broken graphs were refused, by model and in all."""
    from tests.studies.exports.__main__ import cases_of

    cases = {case.name: case for case in cases_of("torch")}
    total: Counter[str] = Counter()
    for name in MODELS:
        if not any(fnmatch.fnmatch(name, part) for part in names.split(",")):
            continue
        counts = run_model(cases[name], most)
        total += counts
        print(f"{name:<24}{', '.join(f'{n} {k}' for k, n in sorted(counts.items()))}", flush=True)
    effective = total["refused"] + total["passed"]
    print(f"\n{effective} broken graphs change a number: {total['refused']} refused,"
          f" {total['passed']} passed")  # fmt: skip
    print(", ".join(f"{n} {kind}" for kind, n in sorted(total.items())))
