"""Faults of running, exporting or capturing a model, and not of the model itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.studies.mutants.plan import CODE, CONV, Mutation, code, fault

KINDS = ("conv", "max_pool", "add", "relu", "avg_pool", "dense", "batch_norm")
GRAPH_SUBJECTS = ("onnx-torch",)


def _stale_capture(later, place):
    change = {"change": "stale", "row": place.row.name, "later": later}
    return Mutation((place.row.name,), changes=(change,), depth="layer")


def _overwrite_by_activation(place):
    """The activation after a layer overwrites the tensor that a hook has stored.

    Put into the capture of the PyTorch subject: parity's own hooks read a tensor at once, so an
    activation in place cannot be seen by them ("hidden: ReLU computes in place"), and in Keras and
    in graphs no tensor changes in place.
    """
    following = place.following
    if following is None or "relu" not in following.kind or following.shape != place.row.shape:
        return None
    stale = _stale_capture(following.name, place)
    in_place = code("in-place", value=True)(place.at(following))
    # The description of that activation is the evidence.
    return replace(stale, changes=(*stale.changes, *in_place.changes), changes_description=True)


def _overwrite_by_last_call(place):
    """The last call of a module overwrites the tensor that a hook has stored of its first.

    Put into the capture, too: parity's own hooks count the calls.
    """
    last = place.same_module()[-1]
    if place.row.name == last.name or last.shape != place.row.shape:
        return None
    return _stale_capture(last.name, place)


def _round_to_tf32(place):
    """Both operands with 11 significant bits, as a GPU computes by default."""
    name = place.weight("kernel")
    bits = place.values[name].view(np.uint32)
    even = (bits >> np.uint32(13)) & np.uint32(1)
    kernel = ((bits + np.uint32(0xFFF) + even) & np.uint32(0xFFFFE000)).view(np.float32)
    return Mutation((place.row.name,), {name: kernel}, code("tf32-before")(place).changes)


def _change_whole_graph(change, *, count=None, **more):
    """A fault of the whole graph, without a place; it is reported at the first comparison point."""

    def plan(place):
        first = place.first
        if place.row.name != first:
            return None
        call = {"layer": place.layer, "change": change, "value": count}
        return Mutation((first,), changes=(call,), whole=True, **more)

    return plan


RUN_FAULTS = (
    fault("33 TF32 (emulated)", (*CONV, "dense"), "tf32", _round_to_tf32, CODE),
    fault(
        "35 optimiser adds a sigmoid",
        ("conv", "batch_norm"),
        "ort-optimiser",
        code("sigmoid-after", optimiser=True),
        GRAPH_SUBJECTS,
    ),
    fault(
        "35 optimiser adds a sine",
        ("conv", "batch_norm", "add"),
        "ort-optimiser",
        code("sine-after", optimiser=True),
        GRAPH_SUBJECTS,
    ),
    fault(
        "36 exporter writes another layer",
        ("conv", "batch_norm", "add", "relu"),
        "exported-graph",
        code("sine-after"),
        GRAPH_SUBJECTS,
    ),
    fault(
        "37 batch frozen at 2",
        KINDS,
        "batch-frozen",
        _change_whole_graph("frozen", count=2, fails=True),
        GRAPH_SUBJECTS,
    ),
    fault(
        "37 batch frozen at 3",
        KINDS,
        "batch-frozen",
        _change_whole_graph("frozen", count=3, fails=True),
        GRAPH_SUBJECTS,
    ),
    fault(
        "43 provider fell back",
        KINDS,
        "provider-fallback",
        _change_whole_graph("no-provider", fails=True, device="gpu"),
        GRAPH_SUBJECTS,
    ),
    fault(
        "44 changed in place (put into the capture)",
        (*CONV, "batch_norm", "add", "dense"),
        "changed-in-place",
        _overwrite_by_activation,
        ("torch",),
    ),
    fault(
        "45 called twice (put into the capture)",
        "relu",
        "called-twice",
        _overwrite_by_last_call,
        ("torch",),
    ),
)
