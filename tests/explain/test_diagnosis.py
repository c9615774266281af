"""Every cause is proved on a layer that has it, and nothing is named that is not proved."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from parity.explain import causes, diagnosis
from parity.explain.graph_evidence import are_calls_of_one_layer, find_main
from parity.explain.graph_layers import GraphFinding, leave_out_same
from parity.explain.proof import search
from parity.explain.proof.candidate import Candidate
from parity.explain.proof.layer import Layer, evaluate
from parity.network.graph import Graph, Node, Parameter
from tests.explain.samples import (
    batch_norm,
    conv,
    conv_transpose,
    dense,
    draw,
    failing_layer,
    group_norm,
    pointwise,
    pool,
)  # fmt: skip


def kernel_made(layer, change):
    kernel = np.ascontiguousarray(change(layer.weights["kernel"]))
    return evaluate(layer.with_weights(kernel=kernel))


def shifted(layer, amounts):
    """The layer on an input padded by hand, without padding of its own."""
    (top, bottom), (left, right) = amounts
    data = np.pad(layer.inputs[0], ((0, 0), (0, 0), (top, bottom), (left, right)))
    return evaluate(replace(layer.with_hyper(padding=[[0, 0], [0, 0]]), inputs=(data,)))


def bordered(layer, mode):
    """The layer on an input padded with its own values."""
    data = np.pad(layer.inputs[0], ((0, 0), (0, 0), (1, 1), (1, 1)), mode=mode)
    return evaluate(replace(layer.with_hyper(padding=[[0, 0], [0, 0]]), inputs=(data,)))


def zero_padded_pool(layer):
    data = np.pad(layer.inputs[0], ((0, 0), (0, 0), (1, 1), (1, 1)))
    return evaluate(replace(layer.with_hyper(padding=[[0, 0], [0, 0]]), inputs=(data,)))


def normalised(layer, *, epsilon=1e-5, gamma="gamma", beta="beta", mean=None, variance=None):
    held, data = layer.weights, layer.inputs[0]
    shape = (1, -1, 1, 1)
    mean = held["mean"] if mean is None else mean
    variance = held["variance"] if variance is None else variance
    scaled = (data - mean.reshape(shape)) / np.sqrt(variance.reshape(shape).astype(float) + epsilon)
    return scaled * held[gamma].reshape(shape) + held[beta].reshape(shape)


def of_the_batch(layer):
    data = layer.inputs[0]
    return normalised(layer, mean=data.mean((0, 2, 3)), variance=data.var((0, 2, 3)))


def group_slices(layer, index):
    """The convolution with every group's input replaced by that of group `index`."""
    groups = layer.hyper["groups"]
    parts = np.split(layer.inputs[0], groups, axis=1)
    return evaluate(replace(layer, inputs=(np.concatenate([parts[index]] * groups, axis=1),)))


def soft(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


def half(values):
    return values.astype(np.float16).astype(float)


SAME = conv(stride=2)
GROUPED = conv(8, 16, groups=4)
DEPTH = conv(8, 8, groups=8)
BIASED = conv(bias=True)
STEM = conv(3, 8, kernel=7, stride=2, size=16)
NORM = batch_norm()
FLAT = dense(image=True)

FAULTS = {
    "same-padding": (SAME, lambda c: shifted(c, ((0, 1), (0, 1)))),
    "padding": (SAME, lambda c: shifted(c, ((2, 0), (2, 0)))),
    "padding-mode/reflect": (conv(), lambda c: bordered(c, "reflect")),
    "padding-mode/edge": (conv(), lambda c: bordered(c, "edge")),
    "padding-mode/wrap": (DEPTH, lambda c: bordered(c, "wrap")),
    "pool-type/mean": (
        pool("max_pool"),
        lambda c: evaluate(replace(c, kind="avg_pool").with_hyper(count_padding=True)),
    ),
    "pool-type/maximum": (
        pointwise("global_avg_pool"), lambda c: evaluate(replace(c, kind="global_max_pool"))
    ),
    "scale": (pointwise("relu"), lambda c: 1.05 * evaluate(c)),
    "pool-padded-with-zeros": (pool("max_pool"), zero_padded_pool),
    "average-counts-padding": (
        pool("avg_pool", count_padding=True),
        lambda c: evaluate(c) * 9.0 / windows(c),
    ),
    "ceil-mode": (
        pool("max_pool", size=8, padding=0),
        lambda c: evaluate(
            replace(c, inputs=(np.pad(c.inputs[0], ((0, 0),) * 2 + ((0, 1),) * 2, mode="edge"),))
        ),
    ),
    "batch-norm-epsilon": (NORM, lambda c: normalised(c, epsilon=1e-3)),
    "batch-norm-epsilon/odd": (NORM, lambda c: normalised(c, epsilon=0.0123)),
    "norm-weights-swapped": (NORM, lambda c: normalised(c, gamma="beta", beta="gamma")),
    "norm-weight-missing": (NORM, lambda c: normalised(c.with_weights(beta=np.zeros(8)))),
    "training-mode": (NORM, of_the_batch),
    "dropout": (
        pointwise("identity"),
        lambda c: evaluate(c) * (draw(2, 8, 6, 6, seed=77) > 0) * 2.0,
    ),
    "kernel-layout/turned": (conv(), lambda c: kernel_made(c, lambda k: k.swapaxes(2, 3))),
    "kernel-layout/swapped": (conv(), lambda c: kernel_made(c, lambda k: k.swapaxes(0, 1))),
    "kernel-layout/reshaped": (
        STEM,
        lambda c: kernel_made(c, lambda k: k.transpose(2, 3, 1, 0).reshape(k.shape)),
    ),
    "kernel-flipped": (conv(), lambda c: kernel_made(c, lambda k: k[:, :, ::-1, ::-1])),
    "depthwise-layout": (
        DEPTH,
        lambda c: kernel_made(c, lambda k: k.transpose(2, 3, 0, 1).reshape(k.shape)),
    ),
    "group-order": (
        GROUPED,
        lambda c: (
            evaluate(c)[:, np.arange(16).reshape(4, 4).T.ravel()]
        ),
    ),
    "groups-read-one-slice": (GROUPED, lambda c: group_slices(c, 3)),
    "stride": (conv(stride=2), lambda c: evaluate(c.with_hyper(stride=[1, 1]))),
    "dilation": (conv(), lambda c: evaluate(c.with_hyper(dilation=[2, 2]))),
    "bias/missing": (BIASED, lambda c: evaluate(c) - c.weights["bias"].reshape(1, -1, 1, 1)),
    "bias/extra": (conv(), lambda c: evaluate(c) + draw(1, 8, 1, 1)),
    "activation-missing": (pointwise("relu"), lambda c: c.inputs[0]),
    "activation-extra": (conv(), lambda c: np.maximum(evaluate(c), 0)),
    "activation-extra/twice": (
        pointwise("gelu", approximate=False),
        lambda c: evaluate(replace(c, inputs=(evaluate(c),))),
    ),
    "activation-other": (pointwise("relu"), lambda c: np.tanh(c.inputs[0])),
    "softmax": (dense(), lambda c: soft(evaluate(c))),
    "gelu-form": (
        pointwise("gelu", approximate=False),
        lambda c: evaluate(c.with_hyper(approximate=True)),
    ),
    "leaky-relu-slope": (
        pointwise("leaky_relu", slope=0.01),
        lambda c: np.where(c.inputs[0] > 0, c.inputs[0], 0.3 * c.inputs[0]),
    ),
    "flatten-order": (
        FLAT,
        lambda c: evaluate(
            replace(c, inputs=(c.inputs[0].transpose(0, 2, 3, 1).reshape(3, -1),))
        ),
    ),
    "padding/transposed": (
        conv_transpose(), lambda c: evaluate(c.with_hyper(padding=[[0, 0], [0, 0]]))
    ),
    "stride/transposed": (conv_transpose(), lambda c: evaluate(c.with_hyper(stride=[1, 1]))),
    "same-padding/transposed": (
        conv_transpose(), lambda c: evaluate(c.with_hyper(padding=[[0, 1], [0, 1]]))
    ),
    "bias/transposed": (
        conv_transpose(), lambda c: evaluate(c) - c.weights["bias"].reshape(1, -1, 1, 1)
    ),
    "kernel-layout/transposed": (
        conv_transpose(),
        lambda c: kernel_made(c, lambda k: k.transpose(2, 3, 1, 0).reshape(k.shape)),
    ),
    "group-norm-epsilon": (group_norm(), lambda c: evaluate(c.with_hyper(epsilon=1e-3))),
    "norm-weight-missing/group": (
        group_norm(), lambda c: evaluate(c.with_weights(beta=np.zeros_like(c.weights["beta"])))
    ),
    "dense-transposed": (dense(), lambda c: kernel_made(c, np.transpose)),
    "channel-order": (
        STEM,
        lambda c: evaluate(replace(c, inputs=(c.inputs[0][:, [2, 1, 0]],))),
    ),
    "output-permuted/reversed": (dense(), lambda c: evaluate(c)[:, ::-1]),
    "output-permuted/turned": (conv(), lambda c: evaluate(c).transpose(0, 1, 3, 2)),
    "output-permuted/shuffled": (conv(), lambda c: evaluate(c)[:, [3, 1, 0, 2, 7, 6, 4, 5]]),
    "weights-rounded": (conv(), lambda c: kernel_made(c, half)),
    "tf32": (conv(), lambda c: evaluate(tensor_float(c))),
    "low-precision": (conv(), lambda c: half(evaluate(halved(c)))),
}  # fmt: skip


def windows(layer):
    """How many values that are no padding lie under each window of a 3x3 pool at stride 2."""
    inside = np.pad(np.ones((9, 9)), 1)
    return np.array([[inside[y : y + 3, x : x + 3].sum() for x in range(0, 9, 2)]
                     for y in range(0, 9, 2)])  # fmt: skip


def halved(layer):
    return replace(layer.with_weights(kernel=half(layer.weights["kernel"])),
                   inputs=(half(layer.inputs[0]),))  # fmt: skip


def tensor_float(layer):
    def cut(values):
        bits = np.asarray(values, np.float32).view(np.uint32)
        rounded = bits + np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1))
        return (rounded & np.uint32(0xFFFFE000)).view(np.float32).astype(float)

    return replace(layer.with_weights(kernel=cut(layer.weights["kernel"])),
                   inputs=(cut(layer.inputs[0]),))  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_and_proved(name):
    layer, broken = FAULTS[name]
    # A subject reads inputs in float32, and so does the layer that is re-run beside it.
    given = tuple(tensor.astype(np.float32).astype(float) for tensor in layer.inputs)
    layer = replace(layer, inputs=given)
    explained = diagnosis.explain_layer(failing_layer(layer, broken(layer)))
    assert explained.x_floor_before > 4.0
    assert explained.proof is not None, explained.closest
    assert explained.proof.x_floor_after <= 4.0
    (found,) = explained.proof.candidates
    assert found.cause == name.partition("/")[0]
    assert "Layer `row`" in found.remedy
    assert not found.text.endswith(".")


def test_weights_of_another_layer():
    layer, other = conv(seed=0), conv(seed=3)
    made = failing_layer(
        layer,
        evaluate(layer.with_weights(**other.weights)),
        reference_weights={"row": layer.weights, "next": other.weights},
    )
    found = diagnosis.explain_layer(made).proof
    assert found.candidates[0].cause == "weights-of-another-layer"
    assert "next" in found.candidates[0].text


def test_one_layer_for_two_of_the_reference_is_said_with_both_places():
    """The weights were mapped as they should be: the code calls one layer twice."""
    layer, other = conv(seed=1), conv(seed=2)
    made = failing_layer(
        layer,
        evaluate(layer.with_weights(**other.weights)),
        reference_weights={"row": layer.weights, "next": other.weights},
        shared_calls={"next": "net.py:3"},
        place="net.py:9",
    )
    (found,) = diagnosis.explain_layer(made).proof.candidates
    assert found.cause == "shared-layer"
    assert "called for row and for next, at net.py:9 and net.py:3" in found.text
    assert "map weights" not in found.remedy


def test_weights_that_two_layers_share_are_not_called_one_layer():
    layer, other = conv(seed=1), conv(seed=2)
    made = failing_layer(
        layer,
        evaluate(layer.with_weights(**other.weights)),
        reference_weights={"row": layer.weights, "next": other.weights},
        shared_weights={"next": "net.py:3"},
        place="net.py:9",
    )
    (found,) = diagnosis.explain_layer(made).proof.candidates
    assert found.cause == "shared-weights"
    assert "reads the same weights as next, at net.py:9 and net.py:3" in found.text
    assert found.remedy.endswith("give it weights of its own, as row has in the reference")


def linear(number, path, name, source):
    weight = Parameter(name, "kernel", (4, 4), "float32")
    return Node(str(number), "dense", "linear", (f"x{number}",), (f"y{number}",), (weight,),
                path=path, source=source)  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        (("fc", "fc.weight", "net.py:1"), ("fc", "fc.weight", "net.py:2"), True),
        (("fc", "fc.weight", "net.py:1"), ("fc", "fc.weight", "net.py:1"), True),
        # Tied: each layer has its own path, and one of them the name.
        (("fc", "fc.weight", "net.py:1"), ("other", "fc.weight", "net.py:2"), False),
        # Functions that a module without weights of its own calls.
        (("", "fc.weight", "net.py:1"), ("", "fc.weight", "net.py:2"), False),
        (("block", "fc.weight", "net.py:1"), ("block", "fc.weight", "net.py:2"), False),
    ],
    ids=["calls", "loop", "tied", "model", "module"],
)
def test_calls_of_one_layer(first, second, is_one):
    nodes = linear(0, *first), linear(1, *second)
    graph = Graph("torch", nodes, {}, (), ())
    assert are_calls_of_one_layer(graph, *nodes) is is_one


def test_two_lines_of_a_layer_may_be_one_call():
    nodes = (
        linear(0, "block", "block.weight", "net.py:1"),
        Node("1", "tanh", "tanh", ("y0",), ("x2",), path="block", source="net.py:2"),
        linear(2, "block", "block.weight", "net.py:3"),
    )
    assert not are_calls_of_one_layer(Graph("torch", nodes, {}, (), ()), nodes[0], nodes[2])
    # What a framework's layer computes is at the line of its call.
    nodes = (nodes[0], replace(nodes[1], source="net.py:1"), nodes[2])
    assert are_calls_of_one_layer(Graph("keras", nodes, {}, (), ()), nodes[0], nodes[2])


@pytest.mark.parametrize(
    ("framework", "padding", "remedy"),
    [
        ("torch", 1, "pad in the pool, with padding=1 and count_include_pad=False, and remove the "
         "padding before it"),
        ("torch", ((0, 2), (0, 2)), "divide by its average of ones that are padded with zeros, to "
         "average no padding"),
        ("keras", 1, "use padding='same', and remove the padding before it"),
        ("keras", ((0, 2), (0, 2)), "divide by its average of ones that are padded with zeros, to "
         "average no padding"),
        ("onnx", 1, "set its pads to [1, 1, 1, 1] and count_include_pad to 0, and remove the Pad "
         "before it"),
    ],
)  # fmt: skip
def test_a_pool_that_reads_padding_is_to_pad_itself(framework, padding, remedy):
    """What counts padding of its own is no setting of the pool where another operation pads."""
    layer = pool("avg_pool", count_padding=False)
    if padding != 1:
        layer = layer.with_hyper(padding=padding)
    made = failing_layer(layer, evaluate(layer.with_hyper(count_padding=True)), pads_before=True)
    made = replace(made, framework=framework)
    (found,) = diagnosis.explain_layer(made).proof.candidates
    assert found.cause == "average-counts-padding"
    assert found.remedy.endswith(remedy)
    made = replace(made, pads_before=False)
    (found,) = diagnosis.explain_layer(made).proof.candidates
    assert found.remedy.endswith("count_include_pad=False") is (framework == "torch")


def test_a_pool_is_the_main_operation_of_a_row_that_pads_for_it():
    padding = {"padding": [[1, 1], [1, 1]]}
    nodes = (
        Node("0", "pad", "pad", ("x",), ("y",), hyper=padding),
        Node("1", "avg_pool", "avg_pool2d", ("y",), ("z",),
             hyper={"kernel": [3, 3], "stride": [1, 1], "padding": [[0, 0], [0, 0]]}),
    )  # fmt: skip
    graph = Graph("torch", nodes, {}, (), ())
    own = find_main(graph, ["0", "1"])
    assert (own.operation, own.inputs) == ("avg_pool2d", ("x",))
    assert own.hyper["padding"] == [[1, 1], [1, 1]]
    assert find_main(graph, ["0"]).operation == "pad"
    # One that pads with other values is not a part of the pool.
    nodes = (replace(nodes[0], hyper={**padding, "value": 0.5}), nodes[1])
    assert find_main(Graph("torch", nodes, {}, (), ()), ["0", "1"]).operation == "pad"
    assert find_main(graph, []) is None


def test_rows_that_are_the_same_are_left_out_of_each_subject():
    """A subject with no other row keeps what is known of it, whatever another subject has."""
    findings = [
        GraphFinding(subject, SimpleNamespace(name=row), 9.0, None, None)
        for subject, row in (("one", "a"), ("one", "b"), ("other", "a"))
    ]
    left = leave_out_same(findings, {("one", "a"), ("other", "a")})
    assert [(each.subject, each.row.name) for each in left] == [("one", "b"), ("other", "a")]


def test_no_number_is_fitted_to_the_rounding_that_a_cause_leaves(monkeypatch):
    """A sum of more terms rounds more: what it leaves above the limit is no factor."""
    data = draw(3, 4, 5, 6, seed=7).astype(float)
    layer = Layer("l2_normalize", (data,), {"axes": [1], "epsilon": 1e-12})
    changed = evaluate(layer.with_hyper(axes=[2]))
    made = failing_layer(layer, changed * (1 + 3e-7), subject="keras")
    found = diagnosis.explain_layer(made)
    assert found.proof is None
    assert "setting" in {each.cause for each in found.closest[0].candidates}
    monkeypatch.setattr(search, "MAX_ROUNDING", 0.0)
    assert diagnosis.explain_layer(made).proof is not None


def test_other_axes_that_the_subject_states_nowhere():
    """It writes the operation as several: the axes are those of its own language."""
    data = draw(3, 4, 5, 6, seed=7).astype(float)
    layer = Layer("l2_normalize", (data,), {"axes": [1], "epsilon": 1e-12})
    made = failing_layer(
        layer, evaluate(layer.with_hyper(axes=[2])), own_axes=(0, 3, 1, 2), subject="keras"
    )
    (found,) = diagnosis.explain_layer(made).proof.candidates
    assert (found.cause, found.text) == ("setting", "axes is [1], not [3]")
    assert found.remedy.endswith("set axis=[3]")


def test_the_tensor_of_another_layer():
    layer = conv()
    other = draw(2, 8, 10, 10, seed=99).astype(float)
    found = diagnosis.explain_layer(
        failing_layer(layer, other, nearby_outputs={"later": other})
    ).proof
    assert found.candidates[0].cause == "another-tensor-captured"


def recovering(layer, actual, name, tensor, **more):
    """A case whose layers behind it are right, `name` among them."""
    return failing_layer(
        layer,
        actual,
        subject="torch",
        nearby_outputs={name: tensor},
        in_place_rows=(name,),
        recovers_downstream=True,
        **more,
    )


def test_a_tensor_that_was_changed_in_place():
    """A hook has kept a reference to it, and a ReLU behind it wrote into it."""
    layer = batch_norm()
    later = np.maximum(evaluate(layer), 0.0)
    (found,) = diagnosis.explain_layer(recovering(layer, later, "later", later)).proof.candidates
    assert found.cause == "changed-in-place"
    assert "later" in found.text
    assert "clone" in found.remedy


def test_one_layer_object_called_twice():
    layer = pointwise("relu")
    later = draw(2, 8, 6, 6, seed=98).astype(float)
    made = recovering(layer, later, "later", later, other_calls=("later", "last"))
    (found,) = diagnosis.explain_layer(made).proof.candidates
    assert found.cause == "called-twice"
    assert "called 3 times" in found.text


@pytest.mark.parametrize("calls", [(), ("later",)])
def test_what_goes_on_wrong_behind_a_layer_is_no_matter_of_capturing(calls):
    layer = batch_norm()
    later = np.maximum(evaluate(layer), 0.0)
    made = failing_layer(layer, later, nearby_outputs={"later": later}, other_calls=calls)
    (found,) = diagnosis.explain_layer(made).proof.candidates
    assert found.cause == "activation-extra"


def changed(count):
    """The case of a convolution that holds other values at `count` places, which it says itself."""
    layer = conv()
    kernel = layer.weights["kernel"].copy()
    kernel.flat[7 : 7 + 3 * count : 3] += 1.0
    made = failing_layer(layer, evaluate(layer.with_weights(kernel=kernel)), subject="onnx-torch")
    return made, lambda: replace(
        made, subject_weights={"kernel": kernel}, weight_names={"kernel": "onnx::Conv_1"}
    )


def test_weights_that_were_changed_are_told_with_tensor_place_and_values():
    made, add_weights = changed(1)
    (found,) = diagnosis.explain_layer(made, add_weights=add_weights).proof.candidates
    assert found.cause == "changed-weights"
    own = made.reference_layer.weights["kernel"][0, 0, 2, 1]
    assert f"`onnx::Conv_1`, its kernel, it has {own + 1:.9g} at (0, 0, 2, 1)" in found.text
    assert f"where the reference has {own:.9g}; no other differs" in found.text


def test_many_changed_weights_are_other_weights():
    made, add_weights = changed(100)
    (found,) = diagnosis.explain_layer(made, add_weights=add_weights).proof.candidates
    assert found.cause == "other-weights"
    assert "100 of 576 in its kernel" in found.text


def test_weights_of_another_layer_are_named():
    made, add_weights = changed(100)
    sources = {"kernel": ("first.weight", "last.weight")}
    explained = diagnosis.explain_layer(
        made, add_weights=lambda: replace(add_weights(), weight_sources=sources)
    )
    (found,) = explained.proof.candidates
    assert found.cause == "weights-of-another-layer"
    assert found.text == "Its kernel is `first.weight` of the reference, not `last.weight`"


@pytest.mark.parametrize("scaled", ["weights", "output"])
def test_weights_that_are_scaled_are_no_factor_behind_the_layer(scaled):
    layer = conv()
    own = {"kernel": 1.05 * layer.weights["kernel"]} if scaled == "weights" else layer.weights
    made = failing_layer(layer, 1.05 * evaluate(layer), subject="torch")
    assert diagnosis.explain_layer(made).proof is None
    explained = diagnosis.explain_layer(
        made, add_weights=lambda: replace(made, subject_weights=own, weight_names={"kernel": "w"})
    )
    (found,) = explained.proof.candidates
    assert found.cause == ("other-weights" if scaled == "weights" else "scale")
    assert scaled == "weights" or "multiplied by 1.05" in found.text


def test_held_weights_that_are_right_explain_nothing():
    made, _ = changed(1)
    explained = diagnosis.explain_layer(
        made, add_weights=lambda: replace(made, subject_weights=made.reference_layer.weights)
    )
    assert explained.proof is None


def test_a_graph_that_says_something_else_is_the_last_resort():
    layer = conv()
    exact = np.sin(evaluate(layer))
    made = failing_layer(layer, exact, subject="onnx-torch")
    assert diagnosis.explain_layer(made).proof is None
    assert diagnosis.explain_by_graph(made) is None
    (found,) = diagnosis.explain_by_graph(replace(made, graph_output=exact)).proof.candidates
    assert found.cause == "exported-graph"
    # ONNX Runtime gives something else than the graph says: then it is not the graph's doing.
    assert diagnosis.explain_by_graph(replace(made, graph_output=evaluate(layer))) is None


def test_two_settings_that_change_the_shape_and_together_do_not():
    """Without a word of the subject on its settings, as for a graph from a file."""
    layer = conv(8, 8, size=16)
    both = layer.with_hyper(dilation=[2, 2], padding=[[2, 2], [2, 2]])
    found = diagnosis.explain_layer(failing_layer(layer, evaluate(both))).proof
    assert {candidate.cause for candidate in found.candidates} == {"dilation", "padding"}


def test_two_differences_of_which_one_alone_leaves_nothing():
    """Dilated by 2, a 3x3 kernel has no place on 2x2 pixels until they are padded by 2."""
    layer = conv(size=2)
    both = layer.with_hyper(dilation=[2, 2], padding=[[2, 2], [2, 2]])
    with pytest.raises(ValueError, match=r"."):
        evaluate(layer.with_hyper(dilation=[2, 2]))
    found = diagnosis.explain_layer(
        failing_layer(layer, evaluate(both), subject_hyper=both.hyper)
    ).proof
    assert {candidate.cause for candidate in found.candidates} == {"dilation", "padding"}


def test_two_causes_at_once():
    layer = conv(stride=2)
    broken = shifted(layer, ((0, 1), (0, 1))) + draw(1, 8, 1, 1)
    found = diagnosis.explain_layer(
        failing_layer(layer, broken, subject_hyper={"padding": [[0, 1], [0, 1]]})
    ).proof
    assert {candidate.cause for candidate in found.candidates} == {"same-padding", "bias"}
    assert found.x_floor_after <= 4.0


def explain_with_weights(layer, made, **found):
    """Return the causes and the texts, where the weights of the subject are those of `made`."""
    case = failing_layer(layer, evaluate(made), **found)
    explanation = diagnosis.explain_layer(
        case, add_weights=lambda: replace(case, subject_weights=made.weights)
    )
    assert explanation.proof is not None, explanation.closest
    return {each.cause: each.text for each in explanation.proof.candidates}


FAULTS_OF_WEIGHTS = {
    "kernel-flipped": lambda w: {"kernel": w["kernel"][:, :, ::-1, ::-1]},
    "weight-not-loaded": lambda w: {"bias": 0.0 * w["bias"]},
    "other-weights": lambda w: {"kernel": draw(8, 8, 3, 3, seed=99), "bias": draw(8, seed=98)},
}


@pytest.mark.parametrize("cause", FAULTS_OF_WEIGHTS)
@pytest.mark.parametrize(
    "stated",
    [
        {"dilation": [2, 2], "padding": [[2, 2], [2, 2]]},
        {"stride": [2, 2], "padding": [[0, 1], [0, 1]]},
    ],
)
def test_settings_and_a_fault_of_the_weights(stated, cause):
    """Two settings are stated; neither alone, nor both, bring the output near."""
    layer = conv(8, 8, size=12, bias=True)
    made = layer.with_hyper(**stated).with_weights(**FAULTS_OF_WEIGHTS[cause](layer.weights))
    assert set(explain_with_weights(layer, made, subject_hyper=made.hyper)) == {*stated, cause}


def test_a_fault_of_the_weights_and_a_constant():
    """Pairs with all of the subject's weights are near, too; they are no halves of other pairs."""
    layer = conv(3, 6, size=16, bias=True)
    made = layer.with_weights(kernel=layer.weights["kernel"][:, :, ::-1, ::-1])
    offset = 0.2 * draw(6, seed=5).reshape(1, -1, 1, 1)
    made = made.with_output_transform(lambda output: output + offset)
    assert set(explain_with_weights(layer, made)) == {"kernel-flipped", "bias"}


def test_a_structural_fault_among_many_and_all_weights():
    """Alone neither is near, and many activations are nearer than the right one."""
    layer = dense(8, 8)
    made = layer.with_weights(bias=layer.weights["bias"] + draw(8, seed=77))
    made = made.with_output_transform(lambda output: np.maximum(output, 0.0))
    assert explain_with_weights(layer, made) == {
        "activation-extra": "relu is applied to the output",
        "other-weights": "Its weights are not the reference's: 8 of 8 in its bias differ",
    }


@pytest.mark.parametrize(
    "broken",
    [
        lambda out: out + 0.01 * np.sin(np.arange(out.size)).reshape(out.shape),
        lambda out: np.sign(out) * np.abs(out) ** 1.01,
        lambda out: np.roll(out, 1, axis=2),
        lambda out: np.where(np.arange(out.size).reshape(out.shape) == 77, out + 1.0, out),
    ],
)
@pytest.mark.parametrize("layer", [conv(), batch_norm(), pointwise("relu"), GROUPED])
def test_what_no_cause_covers_is_not_explained(layer, broken):
    explained = diagnosis.explain_layer(failing_layer(layer, broken(evaluate(layer))))
    assert explained.proof is None
    assert explained.x_floor_before > 4.0


def test_values_that_are_no_numbers_are_not_explained():
    layer = conv()
    broken = evaluate(layer)
    broken[0, 0, 0, 0] = np.nan
    made = failing_layer(layer, broken)
    assert diagnosis.explain_layer(made).proof is None
    assert made.pattern.text == "1 of 1600 values are NaN or Inf"


def test_a_fit_of_as_many_numbers_as_values_proves_nothing():
    """A constant in each class of one image fits whatever the logits are."""
    layer = dense(bias=False)
    layer = replace(layer, inputs=(layer.inputs[0][:1],))
    explained = diagnosis.explain_layer(failing_layer(layer, draw(1, 8, seed=55)))
    assert explained.proof is None


def test_a_difference_that_changes_nothing_explains_nothing():
    layer = Layer("conv", conv(kernel=1).inputs, conv(kernel=1).hyper, conv(kernel=1).weights)
    assert evaluate(layer).shape == (2, 8, 10, 10)
    explained = diagnosis.explain_layer(failing_layer(layer, evaluate(layer) * 1.5))
    assert explained.proof is None


def test_an_error_below_the_steps_of_a_narrow_format_is_not_taken_for_it():
    """bfloat16's steps are 2^-8: noise far below them must not make a floor of their size."""
    layer = conv()
    noise = 1e-5 * draw(2, 8, 10, 10, seed=31) * np.abs(evaluate(layer)).mean()
    assert diagnosis.explain_layer(failing_layer(layer, evaluate(layer) + noise)).proof is None


def test_a_softmax_may_make_rounding_larger():
    layer = dense(8, 8)
    layer = layer.with_weights(kernel=layer.weights["kernel"] * 20)
    rounded = evaluate(layer).astype(np.float32).astype(float)
    (found,) = diagnosis.explain_layer(
        failing_layer(layer, soft(rounded - rounded.max()))
    ).proof.candidates
    assert found.cause == "softmax"


def test_every_file_of_causes_is_found():
    names = {module.__name__.rpartition(".")[2] for module in causes.modules()}
    assert {"same_padding", "epsilon", "group_order", "swapped_weights", "ort_optimiser"} <= names
    for module in causes.modules():
        assert module.__doc__
        assert any(
            hasattr(module, name)
            for name in ("propose_candidates", "propose_reruns", "find_structural_causes")
        )


def test_the_other_half_of_a_pair_may_be_the_least_likely_of_many_candidates():
    """The half that takes away most of the error is tried with all others."""
    layer = conv(bias=True)
    flipped = layer.weights["kernel"][:, :, ::-1, ::-1]
    bias = layer.weights["bias"] + 0.02
    actual = evaluate(layer.with_weights(kernel=flipped, bias=bias))

    def mix(part):
        return lambda own: own.with_weights(
            kernel=(1 - part) * own.weights["kernel"]
            + part * own.weights["kernel"][:, :, ::-1, ::-1]
        )

    def propose(failing):
        for number in range(40):
            # Nearer than the bias alone, and likelier, but no part of the difference.
            yield Candidate(f"other-{number}", mix(0.05 + 0.005 * number), "", "", 0.9)
        yield Candidate(
            "bias", lambda own: own.with_weights(bias=own.weights["bias"] + 0.02), "", "", 0.01
        )
        yield Candidate(
            "kernel-flipped",
            lambda own: own.with_weights(kernel=own.weights["kernel"][:, :, ::-1, ::-1]),
            "",
            "",
            0.1,
        )

    found = search.explain_layer(failing_layer(layer, actual), propose)
    assert found.proof is not None
    assert {each.cause for each in found.proof.candidates} == {"kernel-flipped", "bias"}
