"""Small cases of every ONNX operator that the evaluator translates."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
LIMIT = {"float64": 1e-13, "float32": 2e-5}


@dataclass(frozen=True)
class Case:
    op: str
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 18
    outputs: int = 1
    domain: str = ""

    def __str__(self) -> str:
        shown = [f"{k}={v}" for k, v in self.attributes.items() if not hasattr(v, "raw_data")]
        shapes = "x".join(str(list(np.shape(a))) for a in self.inputs if a is not None)
        return f"{self.domain}{self.op}-{self.opset}-{shapes}-{','.join(shown)}".replace(" ", "")


def case(
    op: str, *inputs: Any, opset: int = 18, outputs: int = 1, domain: str = "", **attributes: Any
) -> Case:
    return Case(op, inputs, attributes, opset, outputs, domain)


def drawn(*shape: int, seed: int = 0) -> Array:
    """Normal numbers that float32 holds exactly, so that both dtypes see the same ones."""
    rng = np.random.default_rng((seed, *shape))
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)


def ints(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


def positive(*shape: int) -> Array:
    return np.abs(drawn(*shape)) + 0.25


X = drawn(2, 3, 4)
UNIT = np.tanh(drawn(2, 5))  # inside (-1, 1)
IMAGE = drawn(2, 4, 7, 9)
WAVE = drawn(2, 4, 11)
VOLUME = drawn(1, 2, 5, 4, 6)
NONFINITE = np.array([1.0, math.nan, math.inf, -math.inf])
FLAGS = np.array([[True, False, True, False], [True, True, False, False]])

# Attributes are numbers that float32 holds exactly: the reference takes the others literally.
UNARY = [
    case(op, X, **kw)
    for op, kw in [
        *[(op, {}) for op in ("Abs", "Neg", "Exp", "Floor", "Ceil", "Round", "Sign")],
        *[(op, {}) for op in ("Sigmoid", "Tanh", "Relu", "Softsign", "Softplus", "Identity")],
        *[(op, {}) for op in ("Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Asinh", "Elu")],
        *[(op, {}) for op in ("ThresholdedRelu", "Celu")],
        ("LeakyRelu", {"alpha": 0.375}),
        ("Elu", {"alpha": 0.75}),
        ("Celu", {"alpha": 1.75}),
        ("Selu", {"alpha": 1.5, "gamma": 1.25}),
        ("HardSigmoid", {"alpha": 0.5, "beta": 0.25}),
        ("ThresholdedRelu", {"alpha": 0.25}),
        ("Mish", {}),
    ]
]
UNARY += [case(op, positive(2, 3)) for op in ("Log", "Sqrt", "Reciprocal")]
UNARY += [case(op, UNIT) for op in ("Asin", "Acos", "Atanh")]
UNARY += [
    case("Acosh", positive(3, 3) + 1),
    case("Round", np.array([0.5, 1.5, 2.5, -0.5, -1.5])),
    case("IsNaN", NONFINITE),
    case("Not", FLAGS),
    case("Softplus", np.array([-40.0, 0.0, 19.0, 21.0, 30.0])),
    case("PRelu", X, drawn(3, 1)),
    case("Dropout", X, opset=13),
    case("Dropout", X, opset=11),
    case("Swish", X, opset=24, alpha=0.5),
]

BINARY = [case(op, X, drawn(3, 1, seed=1)) for op in ("Add", "Sub", "Mul", "Div")]
BINARY += [case(op, FLAGS, FLAGS[:1]) for op in ("And", "Or", "Xor")]
BINARY += [
    case(op, np.round(X), np.round(drawn(4, seed=1)))
    for op in ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual")
]
BINARY += [
    case("Div", ints(7, -7, 7, -7), ints(2, 2, -2, -2)),
    case("Mod", ints(7, -7, 7, -7), ints(3, 3, -3, -3)),
    case("Mod", ints(7, -7, 7, -7), ints(3, 3, -3, -3), fmod=1),
    case("Mod", X, drawn(4, seed=1), fmod=1),
    case("Pow", positive(2, 3), np.array(1.5)),
    case("Pow", X, ints(2)),
    case("Max", X, drawn(4, seed=1), drawn(3, 1, seed=2)),
    case("Min", X, drawn(4, seed=1)),
    case("Sum", X, drawn(2, 3, 4, seed=1), drawn(2, 3, 4, seed=2)),
    case("Mean", X, drawn(4, seed=1)),
    case("Max", X),
    case("Where", FLAGS, drawn(4), drawn(2, 1)),
    case("Clip", X, np.array(-0.5), np.array(0.5)),
    case("Clip", X, None, np.array(0.5)),
    case("Clip", X, np.array(0.0)),
    case("Clip", X, opset=6, min=-0.5, max=0.25),
    case("Clip", X, opset=6),
    case("Clip", X, opset=6, min=0.0),
    case("CastLike", np.array([1.7, -1.7]), ints(1), opset=15),
    case("Cast", np.array([1.7, -1.7, 0.0]), to=TensorProto.INT64),
    case("Cast", np.array([1.7, -1.7, 0.0]), to=TensorProto.BOOL),
]

PRODUCTS = [
    case("MatMul", drawn(2, 3, 4), drawn(4, 5)),
    case("MatMul", drawn(4), drawn(2, 4, 3)),
    case("MatMul", drawn(2, 1, 3, 4), drawn(5, 4, 2)),
    case("Gemm", drawn(3, 4), drawn(4, 5), drawn(5)),
    case("Gemm", drawn(4, 3), drawn(5, 4), drawn(3, 1), transA=1, transB=1, alpha=0.375, beta=0.75),
    case("Gemm", drawn(3, 4), drawn(4, 5)),
    case("Einsum", drawn(2, 3, 4), drawn(2, 4, 5), equation="bij, bjk -> bik"),
    case("Einsum", drawn(2, 3, 4), drawn(3, 4), equation="...ij,ij->...i"),
    case("Softmax", X),
    case("Softmax", X, axis=1),
    case("Softmax", X, opset=11, axis=2),
    case("LogSoftmax", X, axis=-2),
]

_KINDS = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp")
REDUCTIONS = [f"Reduce{kind}" for kind in _KINDS]
REDUCED = [
    case(op, positive(2, 3, 4), *([] if axes is None else [axes]), opset=18, **kw)
    for op in REDUCTIONS
    for axes, kw in [
        (None, {}),
        (ints(1, -1), {}),
        (ints(0, 2), {"keepdims": 0}),
        (ints(1), {"keepdims": 0}),
    ]
]
REDUCED += [
    case(op, positive(2, 3, 4), opset=12, axes=[0, -1], keepdims=keep)
    for op in REDUCTIONS
    for keep in (0, 1)
]
REDUCED += [
    case("ReduceL1", np.array(-3.0), keepdims=0),
    case("ReduceSum", X, ints(2), opset=13),
    case("ReduceSum", X, ints(), opset=13, noop_with_empty_axes=1),
    case("ReduceSum", ints(3, 4), opset=13),
    case("ReduceSum", np.array([3, 4], dtype=np.int32), opset=13),
    case("ReduceMean", X, opset=13, axes=[1]),
    *[
        case(op, np.round(X), opset=13, **kw)
        for op in ("ArgMax", "ArgMin")
        for kw in ({}, {"axis": -1, "keepdims": 0}, {"axis": 2, "select_last_index": 1})
    ],
    case("TopK", np.round(drawn(3, 6)), ints(2), outputs=2),
    case("TopK", np.round(drawn(3, 6)), ints(4), outputs=2, axis=0 - 1, largest=0),
    case("CumSum", X, np.array(1)),
    case("CumSum", X, np.array(-1), exclusive=1, reverse=1),
    case("CumSum", np.array([1, 2, 3], dtype=np.int32), np.array(0)),
]

MOVED = [
    case("Reshape", X, ints(0, -1)),
    case("Reshape", X, ints(4, 6)),
    case("Reshape", drawn(0, 3), ints(3, 0), allowzero=1),
    case("Flatten", X),
    case("Flatten", X, axis=0),
    case("Flatten", X, axis=3),
    case("Flatten", X, axis=-1),
    case("Transpose", X),
    case("Transpose", X, perm=[1, 2, 0]),
    case("Squeeze", drawn(1, 3, 1), ints(0), opset=13),
    case("Squeeze", drawn(1, 3, 1), opset=13),
    case("Squeeze", drawn(1, 3, 1), opset=11, axes=[-1]),
    case("Unsqueeze", X, ints(0, -1), opset=13),
    case("Unsqueeze", X, opset=11, axes=[0, 3]),
    case("Concat", X, drawn(2, 1, 4), axis=1),
    case("Concat", X, drawn(2, 3, 1), axis=-1),
    case("Split", drawn(2, 7), ints(3, 4), outputs=2, axis=1),
    case("Split", drawn(2, 7), outputs=3, axis=1, num_outputs=3),
    case("Split", drawn(6, 2), outputs=3, opset=13),
    case("Split", drawn(2, 7), outputs=2, opset=11, axis=-1, split=[2, 5]),
    case("Slice", drawn(5, 6), ints(1), ints(-1), ints(1)),
    case("Slice", drawn(5, 6), ints(0, 1), ints(2**62, 5), None, ints(2, 3)),
    case("Slice", drawn(5, 6), ints(-1), ints(-(2**62)), ints(0), ints(-2)),
    case("Slice", drawn(5, 6), opset=9, starts=[1, 0], ends=[4, -2], axes=[1, 0]),
    case("Gather", X, np.array([[0, -1], [2, 1]]), axis=1),
    case("Gather", X, np.array(1)),
    case("Gather", ints(5, 6, 7), np.array(-1)),
    case("GatherElements", drawn(3, 4), np.array([[0, -1, 2, 1]]), axis=0),
    case("Expand", drawn(3, 1), ints(2, 1, 4)),
    case("Tile", drawn(2, 3), ints(2, 2)),
    case("Shape", X),
    case("Shape", X, opset=15, start=-2, end=3),
    case("Size", X),
    case("NonZero", np.array([[1.0, 0.0], [3.0, 4.0]])),
    case("Trilu", drawn(4, 4)),
    case("Trilu", drawn(2, 4, 5), np.array(-1), upper=0),
    case("DepthToSpace", drawn(1, 8, 2, 3), blocksize=2),
    case("DepthToSpace", drawn(1, 8, 2, 3), blocksize=2, mode="CRD"),
    case("SpaceToDepth", drawn(1, 2, 4, 6), blocksize=2),
    case("Range", np.array(2), np.array(11), np.array(3)),
    case("Range", np.array(1.0), np.array(-1.0), np.array(-0.5)),
    case("Constant", value=numpy_helper.from_array(drawn(2, 2).astype(np.float32))),
    case("Constant", value=numpy_helper.from_array(ints(3))),
    case("Constant", value_float=0.1),
    case("Constant", value_floats=[0.1, 0.2]),
    case("Constant", value_int=3),
    case("Constant", value_ints=[3, 4]),
    case("ConstantOfShape", ints(2, 3)),
    case("ConstantOfShape", ints(2), value=numpy_helper.from_array(ints(7))),
    case("Pad", IMAGE, ints(0, 0, 1, 2, 0, 0, 3, 0)),
    case("Pad", IMAGE, ints(0, 0, 1, 2, 0, 0, 3, 0), np.array(0.5)),
    case("Pad", IMAGE, ints(1, 2, 3, 0), None, ints(2, -1)),
    case("Pad", IMAGE, ints(1, 1, 1, 2, 0, 2, 3, 0), mode="reflect"),
    case("Pad", IMAGE, ints(0, 0, 1, 2, 0, 0, 3, 0), mode="edge"),
    case("Pad", IMAGE, ints(0, 0, 1, 2, 0, 0, 3, 0), opset=19, mode="wrap"),
    case("Pad", IMAGE, opset=2, pads=[0, 0, 1, 2, 0, 0, 3, 0], value=0.5),
]

CONVOLVED = [
    case("Conv", IMAGE, drawn(6, 4, 3, 3), drawn(6)),
    case("Conv", IMAGE, drawn(6, 4, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2]),
    case("Conv", IMAGE, drawn(6, 4, 3, 3), pads=[0, 1, 2, 1], strides=[2, 1]),
    case("Conv", IMAGE, drawn(6, 2, 3, 3), drawn(6), group=2, pads=[1, 1, 1, 1]),
    case("Conv", IMAGE, drawn(8, 1, 3, 3), group=4, dilations=[2, 2], pads=[2, 2, 2, 2]),
    case("Conv", IMAGE, drawn(6, 4, 3, 2), auto_pad="SAME_UPPER", strides=[2, 2]),
    case("Conv", IMAGE, drawn(6, 4, 2, 2), auto_pad="SAME_LOWER"),
    case("Conv", IMAGE, drawn(6, 4, 3, 3), auto_pad="VALID", strides=[2, 2]),
    case("Conv", WAVE, drawn(3, 4, 4), drawn(3), pads=[1, 2]),
    case("Conv", VOLUME, drawn(3, 2, 2, 3, 2), pads=[0, 1, 0, 1, 1, 1], strides=[1, 2, 1]),
    case("ConvTranspose", IMAGE, drawn(4, 3, 3, 3), drawn(3)),
    case("ConvTranspose", IMAGE, drawn(4, 3, 3, 3), strides=[2, 2], pads=[1, 0, 2, 1]),
    case("ConvTranspose", IMAGE, drawn(4, 3, 3, 3), strides=[2, 2], output_padding=[1, 1]),
    case(
        "ConvTranspose", IMAGE, drawn(4, 3, 3, 3), drawn(3), strides=[2, 2],
        pads=[1, 1, 1, 1], output_padding=[1, 1], dilations=[2, 1],
    ),
    case("ConvTranspose", IMAGE, drawn(4, 3, 4, 4), strides=[2, 2], auto_pad="SAME_UPPER"),
    case("ConvTranspose", IMAGE, drawn(4, 3, 3, 3), strides=[2, 2], auto_pad="SAME_LOWER"),
    case("ConvTranspose", WAVE, drawn(4, 3, 3), strides=[3]),
]  # fmt: skip

POOLED = [
    case(op, image, kernel_shape=[3] * rank, strides=[stride] * rank, pads=[pad] * 2 * rank)
    for op in ("MaxPool", "AveragePool")
    for image, rank in ((IMAGE, 2), (WAVE, 1), (VOLUME, 3))
    for stride, pad in ((1, 0), (2, 0), (2, 1))
]
POOLED += [
    case(op, IMAGE, kernel_shape=[3, 2], **kw)
    for op in ("MaxPool", "AveragePool")
    for kw in [
        {"strides": [2, 2], "pads": [1, 0, 2, 1]},
        {"strides": [2, 2], "ceil_mode": 1},
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"strides": [2, 1], "auto_pad": "VALID"},
    ]
]
POOLED += [
    case("AveragePool", IMAGE, kernel_shape=[3, 3], count_include_pad=1, **kw)
    for kw in [{"pads": [1, 1, 1, 1]}, {"pads": [1, 0, 2, 1], "strides": [2, 2]}]
]
POOLED += [
    case("MaxPool", -positive(1, 1, 5, 5), kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    case("MaxPool", IMAGE, kernel_shape=[2, 3], dilations=[2, 2]),
    case("GlobalAveragePool", IMAGE),
    case("AveragePool", IMAGE, kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
    case("GlobalMaxPool", IMAGE),
]

NORMAL = (drawn(4), drawn(4, seed=1))
NORMALISED = [
    case(
        "BatchNormalization",
        IMAGE,
        *NORMAL,
        drawn(4, seed=2),
        positive(4),
        opset=15,
        epsilon=2**-17,
    ),
    case("BatchNormalization", IMAGE, *NORMAL, drawn(4), positive(4), opset=14, epsilon=0.0078125),
    case(
        "BatchNormalization", drawn(5, 4), *NORMAL, drawn(4), positive(4), opset=15, epsilon=2**-17
    ),
    case("InstanceNormalization", IMAGE, *NORMAL, epsilon=0.0078125),
    case("LayerNormalization", X, drawn(4), drawn(4, seed=1), opset=17, outputs=3, epsilon=2**-17),
    case("LayerNormalization", X, drawn(3, 4), opset=17, axis=1, epsilon=0.0078125),
    case("LpNormalization", X),
]

RESIZED = [
    case("Resize", drawn(1, 2, 4, 5), np.zeros(0), np.array([1, 1, *scales]), mode=mode,
         coordinate_transformation_mode=transformation, opset=opset)
    for mode, scales in [
        ("nearest", [2.0, 2.0]), ("nearest", [0.5, 0.75]),
        ("linear", [2.0, 2.0]), ("linear", [0.5, 0.75]), ("cubic", [2.0, 2.0]),
    ]
    for opset, transformation in [
        (11, "half_pixel"), (13, "asymmetric"), (13, "pytorch_half_pixel"),
        (19, "half_pixel_symmetric"),
    ]
]  # fmt: skip
RESIZED += [
    case("Resize", drawn(1, 2, 4, 5), None, np.array([1, 1, 1.5, 2.0]), nearest_mode=nearest)
    for nearest in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
]
RESIZED += [
    case("Resize", drawn(1, 2, 4, 5), None, np.array([1.0, 1, 2, 2]), mode=mode,
         coordinate_transformation_mode="align_corners")
    for mode in ("nearest", "linear")
]  # fmt: skip
RESIZED += [
    case("Resize", drawn(1, 2, 4, 5), None, None, ints(1, 2, 7, 3), mode="linear"),
    case("Resize", drawn(1, 2, 4, 5), None, None, ints(7, 3), mode="linear", axes=[2, 3]),
    case("Upsample", drawn(1, 1, 3, 4), np.array([1.0, 1, 2, 3]), opset=9),
]

# Where the reference evaluator itself departs from the specification (or leaves float64), ONNX
# Runtime is asked, in float32.
BY_RUNTIME = [
    case("Erf", X),  # the reference computes it in float32
    case("Softmax", X, opset=11),  # it does not cut the tensor into a matrix
    case("LogSoftmax", X, opset=11, axis=0),
    case("Unsqueeze", X, opset=11, axes=[3, 0]),  # it takes the axes in the order given
    case("Pad", IMAGE, ints(0, 0, -1, 2, 0, 0, 3, -2)),  # it has no negative pads
    case("MaxPool", IMAGE, kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
    case("GlobalMaxPool", VOLUME),  # it takes every image for a plane
    case("BatchNormalization", IMAGE, *NORMAL, drawn(4, seed=2), positive(4), opset=9),
    case("LpNormalization", X, axis=1, p=1),  # it sums without absolute values
    case("ConvTranspose", IMAGE, drawn(4, 3, 3, 3), drawn(6), strides=[2, 2], group=2),
    case("ConvTranspose", IMAGE, drawn(4, 3, 3, 3), strides=[2, 2], output_shape=[14, 18]),
    case("ConvTranspose", IMAGE, drawn(4, 3, 3, 3), strides=[2, 2], output_shape=[16, 20],
         auto_pad="SAME_LOWER"),
    case("Resize", drawn(1, 1, 4, 4), np.array([1.0, 1, 2, 2]), opset=10),
    case("Resize", drawn(1, 1, 4, 4), np.array([1.0, 1, 2, 2]), opset=10, mode="linear"),
    # float32(5/3) * 3 is 5 in float32, and a little less in float64.
    case("Resize", drawn(1, 1, 3, 2), None, np.array([1, 1, np.float32(5 / 3), 1])),
    *[
        case("Resize", drawn(1, 2, 4, 5), np.zeros(0), np.array([1, 1, 0.5, 0.75]), mode=mode,
             coordinate_transformation_mode=transformation, opset=opset)
        for opset, mode, transformation in [
            (11, "nearest", "align_corners"), (11, "linear", "align_corners"),
            (11, "cubic", "align_corners"), (13, "cubic", "half_pixel"),
            (13, "cubic", "asymmetric"), (19, "cubic", "half_pixel_symmetric"),
            (11, "nearest", "tf_half_pixel_for_nn"),
        ]
    ],
    case("Resize", drawn(1, 1, 4, 4), None, np.array([1, 1, 0.8, 0.8]), mode="cubic",
         exclude_outside=1),
]  # fmt: skip

CASES = [
    *UNARY, *BINARY, *PRODUCTS, *REDUCED, *MOVED, *CONVOLVED, *POOLED, *NORMALISED, *RESIZED,
]  # fmt: skip

# What the reference evaluator takes from float32 constants is checked against formulas below.
BY_FORMULA = {"HardSwish", "Gelu", "GroupNormalization", "RMSNormalization"}


def model_of(
    nodes: list[Any], feeds: dict[str, Array], outputs: list[str], opset: int
) -> ModelProto:
    """A graph whose inputs are declared in the dtypes of the feeds."""
    inputs = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for k, a in feeds.items()
    ]
    values = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph(nodes, "graph", inputs, values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def single(of: Case, dtype: str) -> tuple[ModelProto, dict[str, Array]]:
    feeds, names = {}, []
    for i, value in enumerate(of.inputs):
        names.append("" if value is None else f"in{i}")
        if value is not None:
            array = np.asarray(value)
            feeds[f"in{i}"] = array.astype(dtype) if array.dtype.kind == "f" else array
    outputs = [f"out{i}" for i in range(of.outputs)]
    node = helper.make_node(of.op, names, outputs, "node", domain=of.domain, **of.attributes)
    model = model_of([node], feeds, outputs, of.opset)
    if of.domain:
        model.opset_import.append(helper.make_opsetid(of.domain, 1))
    return model, feeds


def assert_same(actual: Array, expected: Any, dtype: str) -> None:
    expected = np.asarray(expected)
    if expected.dtype.kind == "f":
        assert actual.dtype == dtype
        np.testing.assert_allclose(actual, expected, rtol=LIMIT[dtype], atol=LIMIT[dtype])
        assert actual.shape == expected.shape
    else:
        np.testing.assert_array_equal(actual, expected, strict=True)
