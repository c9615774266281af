"""Faults below float32's rounding, and changes without any effect, each with its reason."""

from __future__ import annotations

from dataclasses import replace

from tests.studies.mutants.plan import CODE, CONV, code, fault

ONE_ULP = {"float32": 1.0 + 2.0**-23, "float64": 1.0 + 2.0**-52}
"""The least factor above 1 of a precision; in float32 the second is 1."""

NO_CAUSE = ""


def declare_undetectable(plan, reason, **more):
    """Return the plan with mutations declared undetectable, for this reason."""

    def declare(place):
        mutation = plan(place)
        return None if mutation is None else replace(mutation, undetectable=reason, **more)

    return declare


def _add_to_epsilon(amount):
    def plan(place):
        epsilon = place.hyper.get("epsilon", 1e-5)
        mutation = code("epsilon", value=epsilon + amount)(place)
        return replace(mutation, changes_description=place.subject == "keras")

    return plan


def _repeat_relu(place):
    return replace(code("relu-after")(place), depth="layer")


def _pad_with_zeros_behind_relu(place):
    padding = place.hyper["padding"]
    if place.preceding.kind != "relu" or not any(map(any, padding)):
        return None
    return code("padding", padding=padding, value=0.0)(place)


def _compute_in_place(place):
    """The activation after a layer computes in place, and overwrites the layer's own tensor."""
    following = place.following
    if following is None or following.kind not in ("relu", "leaky_relu"):
        return None
    return replace(
        code("in-place", value=True)(place.at(following)), rows=(place.row.name,), depth="layer"
    )


SMALL_FAULTS = (
    fault(
        "too small: epsilon by 1e-12",
        "batch_norm",
        "batch-norm-epsilon",
        _add_to_epsilon(1e-12),
        CODE,
        faint=True,
    ),
    fault(
        "too small: scaled by one ulp of float32",
        (*CONV, "batch_norm", "dense"),
        NO_CAUSE,
        code("scaled-after", value=ONE_ULP["float32"]),
        CODE,
        faint=True,
    ),
    fault(
        "hidden: scaled by one ulp of float64",
        (*CONV, "batch_norm", "dense"),
        NO_CAUSE,
        declare_undetectable(
            code("scaled-after", value=ONE_ULP["float64"]),
            "one ulp of float64 is below the float64 floor",
        ),
        CODE,
    ),
    fault(
        "hidden: epsilon by 1e-20",
        "batch_norm",
        "batch-norm-epsilon",
        declare_undetectable(
            _add_to_epsilon(1e-20), "added to a variance it is lost in float64, too"
        ),
        CODE,
    ),
    fault(
        "hidden: ReLU of a ReLU",
        "relu",
        "activation-extra",
        declare_undetectable(_repeat_relu, "a ReLU of what a ReLU gave changes no bit"),
        CODE,
    ),
    fault(
        "hidden: max-pool padded with 0 behind a ReLU",
        "max_pool",
        "pool-padded-with-zeros",
        declare_undetectable(
            _pad_with_zeros_behind_relu, "no value is below the 0 that it is padded with"
        ),
        ("torch",),
    ),
    fault(
        "hidden: ReLU computes in place",
        (*CONV, "batch_norm", "add", "dense"),
        "changed-in-place",
        declare_undetectable(
            _compute_in_place, "a tensor is read inside the hook, before it is overwritten"
        ),
        ("torch",),
    ),
)
