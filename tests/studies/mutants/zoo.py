"""The weights of the small models that hold what no residual network has."""

from __future__ import annotations

import numpy as np

CLASSES = 10

SLOPE = 0.01
"""Of the leaky ReLU: no float32, which TensorFlow's own operation rounds it to in float64, too."""

SHAPES = {
    "entry.weight": (8, 3, 3, 3),
    "norm.weight": (8,),
    "norm.bias": (8,),
    "norm.running_mean": (8,),
    "norm.running_var": (8,),
    "depth.weight": (8, 1, 3, 3),
    "depth.bias": (8,),
    "wide.weight": (16, 1, 3, 3),
    "grouped.weight": (16, 4, 3, 3),
    "hidden.weight": (64, 1024),
    "hidden.bias": (64,),
    "square.weight": (64, 64),
    "square.bias": (64,),
    "head.weight": (CLASSES, 64),
    "head.bias": (CLASSES,),
}


def weights() -> dict[str, np.ndarray]:
    """By their names in PyTorch, in its layouts, large enough to show every mistake."""
    values = {}
    for index, (name, shape) in enumerate(SHAPES.items()):
        normal = np.random.default_rng(index).standard_normal(shape)
        scale = np.sqrt(2.0 / np.prod(shape[1:])) if len(shape) > 1 else 0.3
        values[name] = (normal * scale).astype(np.float32)
    # Positive, so that it can be swapped with the variance without making NaN.
    values["norm.running_mean"] = np.abs(values["norm.running_mean"]) + np.float32(0.05)
    values["norm.weight"] += np.float32(1.0)
    values["norm.running_var"] = np.abs(values["norm.running_var"]) + np.float32(0.05)
    return values


def score_weights() -> dict[str, np.ndarray]:
    """Those of the model that gives one number an item."""
    shapes = {
        "entry.weight": (6, 3, 3, 3),
        "entry.bias": (6,),
        "head.weight": (1, 6),
        "head.bias": (1,),
    }
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
