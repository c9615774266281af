"""Two faults at once: in one layer, or in two layers of one model."""

from __future__ import annotations

import numpy as np

from tests.studies.mutants.plan import CODE, EVERYWHERE, Mutation, code, fault
from tests.studies.mutants.weight_faults import flip_kernel, set_constant


def _dilate_and_pad(place):
    """Dilation 2 with the padding that keeps the shape: two settings at once."""
    if place.hyper.get("padding") != [[1, 1], [1, 1]]:
        return None
    if place.hyper.get("kernel") != [3, 3] or (place.subject == "keras" and place.row.pad is None):
        return None
    first = {"layer": place.layer, "change": "dilation", "value": [2, 2]}
    if place.subject == "keras":
        second = {"layer": place.layer, "change": "padding", "padding": [[2, 2], [2, 2]],
                  "pad": place.row.pad}  # fmt: skip
    else:
        second = {"layer": place.layer, "change": "padding-setting", "value": [2, 2]}
    return Mutation((place.row.name,), changes=(first, second))


def add_bias(place):
    """A bias where the layer has none."""
    values = (0.2 * place.rng.standard_normal(place.row.shape[0])).tolist()
    return code("bias", values=values)(place)


def _flip_kernel_and_add_bias(place):
    kernel = place.values[place.weight("kernel")]
    if kernel.ndim != 4 or kernel.shape[2:] == (1, 1):
        return None
    flipped_kernel = np.ascontiguousarray(kernel[:, :, ::-1, ::-1])
    return Mutation(
        (place.row.name,), {place.weight("kernel"): flipped_kernel}, add_bias(place).changes
    )


def _plan_two(plan, cause, *, kinds, other, other_cause, far=False):
    """One fault at the place, and another at a seeded row of `kinds`, which has its own cause.

    Both in one block, or `far`: in two.
    """

    def plan_both(place):
        first = plan(place)
        rows = [row for row in place.rows.values()
                if row.kind in kinds and row.name != place.row.name
                and (row.block != place.row.block) == far]  # fmt: skip
        if first is None:
            return None
        for index in place.rng.permutation(len(rows)):
            second = other(place.at(rows[index]))
            if second is not None:
                break
        else:
            return None
        names = (place.row.name, rows[index].name)
        return Mutation(
            names,
            {**first.weights, **second.weights},
            (*first.changes, *second.changes),
            expected=dict(zip(names, (frozenset({cause}), frozenset({other_cause})), strict=True)),
        )

    return plan_both


def _flip_kernel_and_reset_gamma(far):
    return _plan_two(
        flip_kernel,
        "kernel-flipped",
        kinds=("batch_norm",),
        other=set_constant("gamma", 1.0),
        other_cause="norm-weight-missing",
        far=far,
    )


def _change_epsilon_and_add_bias(far):
    return _plan_two(
        code("epsilon", value=1e-3),
        "batch-norm-epsilon",
        kinds=("conv",),
        other=add_bias,
        other_cause="bias",
        far=far,
    )


_REMOVE_BIAS_AND_ACTIVATION = _plan_two(
    set_constant("bias", 0.0),
    "bias",
    kinds=("relu",),
    other=code("identity"),
    other_cause="activation-missing",
    far=True,
)


def _move_relu_before(place):
    """The ReLU after a batch-norm is before it."""
    following = place.following
    if following is None or following.kind != "relu":
        return None
    names = (place.row.name, following.name)
    changes = (*code("relu-before")(place).changes, *code("identity")(place.at(following)).changes)
    causes = (frozenset({"activation-extra"}), frozenset({"activation-missing"}))
    return Mutation(names, changes=changes, expected=dict(zip(names, causes, strict=True)))


PAIR_FAULTS = (
    fault(
        "19 ReLU before its batch-norm",
        "batch_norm",
        "activation-extra|activation-missing",
        _move_relu_before,
        CODE,
    ),
    fault(
        "pair: dilation and padding",
        "conv",
        "dilation+padding|padding+dilation",
        _dilate_and_pad,
        CODE,
    ),
    fault(
        "pair: flipped kernel and a bias",
        "conv",
        "kernel-flipped+bias|bias+kernel-flipped",
        _flip_kernel_and_add_bias,
        CODE,
    ),
    fault(
        "two places of a block: flipped kernel, gamma",
        "conv",
        "kernel-flipped|norm-weight-missing",
        _flip_kernel_and_reset_gamma(far=False),
        EVERYWHERE,
    ),
    fault(
        "two places: flipped kernel, gamma",
        "conv",
        "kernel-flipped|norm-weight-missing",
        _flip_kernel_and_reset_gamma(far=True),
        EVERYWHERE,
    ),
    fault(
        "two places of a block: epsilon, bias",
        "batch_norm",
        "batch-norm-epsilon|bias",
        _change_epsilon_and_add_bias(far=False),
        CODE,
    ),
    fault(
        "two places: epsilon, bias",
        "batch_norm",
        "batch-norm-epsilon|bias",
        _change_epsilon_and_add_bias(far=True),
        CODE,
    ),
    fault(
        "two places: no bias, no activation",
        "dense",
        "bias|activation-missing",
        _REMOVE_BIAS_AND_ACTIVATION,
        CODE,
    ),
)
