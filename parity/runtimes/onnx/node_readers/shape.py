"""Readers of operators that move, join or repeat values."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto

from parity.network.graph import OPAQUE
from parity.runtimes.onnx.node_readers.reading import NodeReading, NodeView, register_reader

# Convolutions and products ------------------------------------------------------------------------


@register_reader("Gather")
def _read_gather(view: NodeView) -> NodeReading:
    """Rows of a weight are an embedding; one place of an axis is a slice."""
    axis, shape = int(view.get("axis", 0)), view.shape(0)
    weight = view.static(0)
    if weight is not None and axis == 0 and weight.ndim == 2 and weight.dtype.kind in "fVi":
        hyperparameters = {"in": weight.shape[0], "out": weight.shape[1]}
        return NodeReading("embedding", hyperparameters, {0: "embeddings"})
    index = view.static(1)
    axis = axis % len(shape) if shape else axis
    if index is not None and index.ndim == 0 and shape:
        place = int(index) % shape[axis]
        hyperparameters = {
            "axes": [axis], "starts": [place], "ends": [place + 1], "steps": [1], "squeeze": [axis],
        }  # fmt: skip
        return NodeReading("slice", hyperparameters, setting_inputs=frozenset({1}))
    return NodeReading("gather", {"axis": axis})


@register_reader("Concat")
def _read_concat(view: NodeView) -> NodeReading:
    return NodeReading(
        "concat", {"axis": int(view.get("axis", 1)) % max(len(view.output_shape), 1)}
    )


@register_reader("Reshape")
def _read_reshape(view: NodeView) -> NodeReading:
    shape = list(view.output_shape)
    hyperparameters: dict[str, Any] = {"shape": shape}
    if shape and view.shape(0)[:1] == tuple(shape[:1]):
        hyperparameters["target"] = shape[1:]
    return NodeReading("reshape", hyperparameters, setting_inputs=frozenset({1}))


@register_reader("Transpose")
def _read_transpose(view: NodeView) -> NodeReading:
    rank = len(view.shape(0))
    return NodeReading("transpose", {"perm": list(view.get("perm", reversed(range(rank))))})


@register_reader("Squeeze", "Unsqueeze")
def _read_unit_axes(view: NodeView) -> NodeReading:
    squeezes = view.operation == "Squeeze"
    shape = view.shape(0) if squeezes else view.output_shape
    axes = view.integers(1, "axes")
    if axes is None:
        axes = [axis for axis, length in enumerate(shape) if length == 1]
    every = sorted(axis % max(len(shape), 1) for axis in axes)
    kind = "squeeze" if squeezes else "unsqueeze"
    return NodeReading(kind, {"axes": every}, setting_inputs=frozenset({1}))


@register_reader("Expand")
def _read_expand(view: NodeView) -> NodeReading:
    return NodeReading("expand", {"shape": list(view.output_shape)}, setting_inputs=frozenset({1}))


@register_reader("Tile")
def _read_tile(view: NodeView) -> NodeReading:
    repeats = view.integers(1, "repeats")
    if repeats is None:
        return NodeReading(OPAQUE)
    return NodeReading("tile", {"repeats": repeats}, setting_inputs=frozenset({1}))


@register_reader("Slice")
def _read_slice(view: NodeView) -> NodeReading:
    """Starts and ends are counted from 0, within the axis."""
    shape = view.shape(0)
    starts, ends = view.integers(1, "starts"), view.integers(2, "ends")
    if starts is None or ends is None:
        return NodeReading(OPAQUE)
    axes = view.integers(3, "axes")
    axes = [axis % len(shape) for axis in (range(len(starts)) if axes is None else axes)]
    steps = view.integers(4, "steps") or [1] * len(starts)
    found = [
        slice(start, end, step).indices(shape[axis])
        for start, end, step, axis in zip(starts, ends, steps, axes, strict=True)
    ]
    # Python cannot state an end before the first element by a number.
    if any(end < 0 for _, end, _ in found):
        full = all(f == (n - 1, -1, -1) for f, n in zip(found, (shape[a] for a in axes),
                                                        strict=True))  # fmt: skip
        return NodeReading(
            "flip" if full else OPAQUE, {"axes": axes}, setting_inputs=frozenset({1, 2, 3, 4})
        )
    hyperparameters = {
        "axes": axes,
        "starts": [start for start, _, _ in found],
        "ends": [end for _, end, _ in found],
        "steps": [step for _, _, step in found],
        "squeeze": [],
    }
    return NodeReading("slice", hyperparameters, setting_inputs=frozenset({1, 2, 3, 4}))


@register_reader("Split")
def _read_split(view: NodeView) -> NodeReading:
    rank = len(view.shape(0))
    axis = int(view.get("axis", 0)) % max(rank, 1)
    sizes = [view.shapes[name][axis] if name in view.shapes else 0 for name in view.outputs if name]
    return NodeReading("split", {"axis": axis, "sizes": sizes}, setting_inputs=frozenset({1}))


@register_reader("Cast")
def _read_cast(view: NodeView) -> NodeReading:
    name = TensorProto.DataType.Name(view.get("to", 0)).lower()
    return NodeReading("cast", {"dtype": {"float": "float32", "double": "float64"}.get(name, name)})


_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@register_reader("Pad")
def _read_pad(view: NodeView) -> NodeReading:
    """A pair for each of the last axes that are padded; at least one for each spatial axis."""
    rank, amounts = len(view.shape(0)), view.integers(1, "pads")
    if amounts is None:
        return NodeReading(OPAQUE)
    axes = [axis % rank for axis in view.integers(3, "axes") or range(rank)]
    pairs = [[0, 0] for _ in range(rank)]
    for axis, begin, end in zip(axes, amounts[: len(axes)], amounts[len(axes) :], strict=True):
        pairs[axis] = [begin, end]
    first = next((axis for axis, pair in enumerate(pairs) if any(pair)), rank)
    value = view.static(2)
    number = view.number("value", 0.0) if value is None else float(value.reshape(()))
    hyperparameters = {
        "padding": pairs[min(first, 2 if rank > 2 else rank - 1) :],
        "value": number,
        "mode": _PAD_MODES.get(view.get("mode", "constant"), view.get("mode")),
    }
    return NodeReading("pad", hyperparameters, setting_inputs=frozenset({1, 2, 3}))


@register_reader("Resize", "Upsample")
def _read_resize(view: NodeView) -> NodeReading:
    """PyTorch's modes; another combination of coordinates and rounding is a mode of its own."""
    before, after = view.shape(0), view.output_shape
    setting_inputs = frozenset({1, 2, 3})
    if len(before) < 3 or before[:2] != after[:2]:
        return NodeReading(OPAQUE, {"size": list(after)}, setting_inputs=setting_inputs)
    old = view.operation == "Upsample" or view.opset < 11
    mode = view.get("mode", "nearest")
    places = view.get("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    rounding = view.get("nearest_mode", "floor" if old else "round_prefer_floor")
    name = {"linear": {3: "linear", 4: "bilinear", 5: "trilinear"}.get(len(before), "linear"),
            "cubic": "bicubic"}.get(mode, mode)  # fmt: skip
    if mode == "nearest" and (places, rounding) != ("asymmetric", "floor"):
        exact = places == "half_pixel" and rounding in ("round_prefer_floor", "round_prefer_ceil")
        name = "nearest_exact" if exact else f"nearest {places} {rounding}"
    if mode != "nearest" and places not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        name = f"{name} {places}"
    if view.get("antialias", 0):
        name = f"{name} antialias"
    scales = view.static(1 if old else 2)
    hyperparameters: dict[str, Any] = {"mode": name, "align_corners": places == "align_corners"}
    if view.has(3) or scales is None or not scales.size:
        hyperparameters["size"] = list(after[2:])
    else:
        hyperparameters["scale"] = [float(each) for each in scales.reshape(-1)[2:]]
    return NodeReading("upsample", hyperparameters, setting_inputs=setting_inputs)


@register_reader("DepthToSpace", "SpaceToDepth")
def _read_blocks(view: NodeView) -> NodeReading:
    """PyTorch's order of channels is CRD; the other one is TensorFlow's."""
    hyperparameters: dict[str, Any] = {"block": int(view.get("blocksize"))}
    if view.operation == "SpaceToDepth":
        return NodeReading("space_to_depth", hyperparameters | {"order": "DCR"})
    if view.get("mode", "DCR") == "DCR":
        hyperparameters["order"] = "DCR"
    return NodeReading("depth_to_space", hyperparameters)
