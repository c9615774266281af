"""Readers of normalisations."""

from __future__ import annotations

import torch

from parity.runtimes.torch.operations.reading import (
    Arguments,
    Operation,
    channels_first,
    channels_last,
    list_axes,
    read_layer,
    register_reader,
)

_AFFINE = "weight=gamma bias=beta"


@register_reader("batch_norm")
def _batch_norm(name: str, given: Arguments) -> Operation | None:
    if given.get("running_mean") is None:
        # It normalises by the batch: in inference, too.
        return None
    roles = f"{_AFFINE} running_mean=mean running_var=variance"
    axes = channels_first(given["input"].tensor.ndim)
    return read_layer(name, {"epsilon": float(given.get("eps", 1e-5))}, given, roles, axes)


@register_reader("instance_norm")
def _instance_norm(name: str, given: Arguments) -> Operation | None:
    if given.get("use_input_stats") is False:
        return _batch_norm("batch_norm", given)
    axes = channels_first(given["input"].tensor.ndim)
    return read_layer(name, {"epsilon": float(given.get("eps", 1e-5))}, given, _AFFINE, axes)


@register_reader("layer_norm rms_norm")
def _layer_or_rms_norm(name: str, given: Arguments) -> Operation:
    rank, count = given["input"].tensor.ndim, len(given["normalized_shape"])
    epsilon = given.get("eps", 1e-5 if name.startswith("layer") else None)
    if epsilon is None:
        # PyTorch's own default of an RMS-norm is the epsilon of the data's type.
        epsilon = torch.finfo(given["input"].tensor.dtype).eps
    hyper = {"epsilon": float(epsilon), "axes": list(range(rank - count, rank))}
    axes = channels_last(rank) if count == 1 else given["_axes"]
    return read_layer(name, hyper, given, _AFFINE, axes, input_axes=axes)


@register_reader("group_norm")
def _group_norm(name: str, given: Arguments) -> Operation:
    hyper = {"epsilon": float(given.get("eps", 1e-5)), "groups": int(given["num_groups"])}
    axes = channels_first(given["input"].tensor.ndim)
    return read_layer(name, hyper, given, _AFFINE, axes)


@register_reader("normalize")
def _normalize(name: str, given: Arguments) -> Operation | None:
    if given.get("p", 2.0) != 2:
        return None
    axes = list_axes(given.get("dim", 1), given["input"].tensor.ndim)
    hyper = {"axes": axes, "epsilon": float(given.get("eps", 1e-12))}
    return Operation("l2_normalize", hyper, [given["input"]], keeps_axes=True)
