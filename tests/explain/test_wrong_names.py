"""Names that were once given and are not true: what is proved must also be what is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from parity.explain import causes, diagnosis, messages
from parity.explain.proof import search
from parity.explain.proof.error_pattern import classify_error
from parity.explain.proof.layer import Layer, evaluate
from tests.explain.samples import batch_norm, conv, dense, draw, failing_layer, pointwise, pool


def named(layer, actual, **more):
    """The one candidate that explains this output."""
    found = diagnosis.explain_layer(failing_layer(layer, actual, **more)).proof
    assert found is not None
    (candidate,) = found.candidates
    return candidate


def unexplained(layer, actual, **more):
    explained = diagnosis.explain_layer(failing_layer(layer, actual, **more))
    found = explained.proof
    assert found is None, [(c.cause, c.text) for c in found.candidates]
    return explained


def add():
    left, right = (draw(2, 8, 6, 6, seed=seed).astype(float) for seed in (21, 22))
    given = tuple(tensor.astype(np.float32).astype(float) for tensor in (left, right))
    return Layer("add", given)


# A sum -------------------------------------------------------------------------------------------


def test_a_forgotten_shortcut_is_no_matter_of_the_table():
    layer = add()
    branch, shortcut = layer.inputs
    found = named(layer, branch, nearby_outputs={"bn2": branch, "entry": shortcut})
    assert found.cause == "branch-missing"
    assert found.text == ("The tensor of entry is missing: the result is the tensor of bn2 alone")
    assert "add both inputs" in found.remedy


def test_a_forgotten_shortcut_from_further_in_front():
    layer = add()
    found = named(layer, layer.inputs[1], nearby_outputs={"bn2": layer.inputs[1]})
    assert found.cause == "branch-missing"
    assert found.text == "Its first input is missing: the result is the tensor of bn2 alone"


@pytest.mark.parametrize(
    ("made", "cause", "told"),
    [
        (lambda a, b: a + b + b, "branch-twice", "The tensor of entry is added twice"),
        (lambda a, b: a * b, "merge-other", "It multiplies its inputs"),
        (lambda a, b: (a + b) / 2, "merge-other", "It averages its inputs"),
        (lambda a, b: a - b, "merge-other", "It subtracts its inputs"),
        (np.maximum, "merge-other", "It takes the larger of its inputs"),
    ],
)
def test_a_sum_that_is_something_else(made, cause, told):
    layer = add()
    one, other = layer.inputs
    found = named(layer, made(one, other), nearby_outputs={"bn2": one, "entry": other})
    assert (found.cause, found.text.partition(",")[0]) == (cause, told)


def test_a_sum_of_one_branch_with_itself():
    layer = add()
    one, other = layer.inputs
    found = named(layer, other + other, nearby_outputs={"bn2": one, "entry": other})
    assert found.cause == "branch-twice"
    assert found.text == "The tensor of entry is added twice, and the tensor of bn2 is missing"


def test_a_layer_that_gives_what_it_reads():
    layer = batch_norm()
    found = named(layer, layer.inputs[0], nearby_outputs={"conv": layer.inputs[0]})
    assert found.cause == "layer-left-out"
    assert "the tensor of conv" in found.text


def test_a_tensor_in_the_place_of_the_output_is_no_half_of_a_pair():
    """It would explain anything, whatever the other half is."""
    layer, later = pointwise("relu"), draw(2, 8, 6, 6, seed=98).astype(float)
    unexplained(layer, later * 1.3 + 0.1, nearby_outputs={"later": later})
    made = np.maximum(later, 0.0)
    unexplained(layer, made, nearby_outputs={"later": later})
    broken = failing_layer(layer, later * 1.3, nearby_outputs={"later": later})
    tried = list(search._try_singles(broken, causes.propose_candidates, None))
    assert any(attempt.candidates[0].replaces_output for attempt in tried)
    pairs = list(search._rank_pairs(broken, tried))
    assert pairs
    assert not any(candidate.replaces_output for pair in pairs for candidate in pair)


# Dropout -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    [
        lambda x: np.where(x > 1.0, x, 0.0),
        lambda x: np.where(x > 1.0, x * (1.0 + 6e-8), 0.0),
        lambda x: np.where(x > 1.0, x * 1.5, 0.0),
    ],
)
def test_a_threshold_is_no_dropout(broken):
    """What is left must be larger, and by as much as is taken away."""
    unexplained(pointwise("relu"), broken(pointwise("relu").inputs[0]))


@pytest.mark.parametrize("whole", [1, 2])
def test_dropout_of_whole_channels_and_items(whole):
    """Of few channels the share that is dropped is far from the rate, by chance alone."""
    data = draw(6, 16, 5, 5, seed=41).astype(np.float32).astype(float)
    layer = Layer("identity", (data,))
    kept = np.random.default_rng(5).random(data.shape[:whole]) >= 0.3
    kept = kept.reshape(kept.shape + (1,) * (4 - whole))
    assert named(layer, data * kept / 0.7).cause == "dropout"


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.8])
def test_dropout_of_any_rate(rate):
    layer = pointwise("relu")
    kept = np.random.default_rng(3).random(layer.inputs[0].shape) >= rate
    assert named(layer, evaluate(layer) * kept / (1.0 - rate)).cause == "dropout"


# Captures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_place", [False, True])
def test_an_activation_that_is_applied_twice_is_no_change_in_place(in_place):
    """The one behind it then changes nothing, so that all behind is right: its word decides."""
    layer = batch_norm()
    later = np.maximum(evaluate(layer), 0.0)
    found = named(
        layer,
        later,
        subject="torch",
        nearby_outputs={"relu": later},
        recovers_downstream=True,
        in_place_rows=("relu",) if in_place else (),
    )
    assert found.cause == ("changed-in-place" if in_place else "activation-extra")


# Settings that the subject states ----------------------------------------------------------------


def test_a_constant_is_not_undone_by_a_bias_that_is_off():
    layer = conv()
    found = named(layer, evaluate(layer) + draw(1, 8, 1, 1), subject_hyper={"bias": False})
    assert found.cause == "bias"
    assert "though the layer itself has no bias" in found.text
    assert "use_bias" not in found.remedy


def test_a_constant_beside_a_bias():
    """Only where the layer is known to hold the right bias: else its weights are other ones."""
    layer = conv(bias=True)
    actual = evaluate(layer) + draw(1, 8, 1, 1)
    unexplained(layer, actual)
    found = named(layer, actual, subject_weights=dict(layer.weights))
    assert found.cause == "bias"
    assert "in addition to its bias" in found.text


def test_an_epsilon_that_is_stated_right_is_not_to_blame():
    """A factor that is the same in every channel fits one, where all variances are the same."""
    layer = batch_norm()
    layer = layer.with_weights(variance=np.ones(8, np.float32), mean=np.zeros(8, np.float32))
    layer = layer.with_weights(beta=np.zeros(8, np.float32))
    actual = evaluate(layer) * 0.9
    unexplained(layer, actual, subject_hyper={"epsilon": 1e-5})
    own = dict(layer.weights)
    found = named(layer, actual, subject_hyper={"epsilon": 1e-5}, subject_weights=own)
    assert (found.cause, found.text) == ("scale", "Its output is multiplied by 0.9")


def test_a_fitted_epsilon_and_a_fitted_slope_are_told():
    layer = batch_norm()
    found = named(layer, evaluate(layer.with_hyper(epsilon=0.0123)))
    assert found.text == "Epsilon is not 1e-05; 0.0123 fits all channels"
    layer = pointwise("leaky_relu", slope=0.01)
    found = named(layer, evaluate(layer.with_hyper(slope=0.07)), subject="onnx-torch")
    assert found.text == "The slope for negative values is 0.07, not 0.01"
    assert found.remedy == "Layer `row`: set alpha=0.01"


@pytest.mark.parametrize(("batch", "told"), [(1, True), (2, False)])
def test_of_one_image_its_own_statistics_are_the_batchs(batch, told):
    layer = batch_norm()
    data = layer.inputs[0][:batch].astype(np.float32).astype(float)
    layer = replace(layer, inputs=(data,))
    own = layer.with_weights(mean=data.mean((0, 2, 3)), variance=data.var((0, 2, 3)))
    found = named(layer, evaluate(own))
    assert found.cause == "training-mode"
    assert ("InstanceNorm" in found.text) is told


def test_a_fitted_number_is_told_only_of_what_it_was_fitted_to():
    """Beside another difference the slope is fitted anew, to what that one leaves."""
    layer = pointwise("leaky_relu", slope=0.01)
    other = draw(2, 8, 6, 6, seed=61).astype(np.float32).astype(float)
    actual = evaluate(replace(layer.with_hyper(slope=0.3), inputs=(other,)))
    made = failing_layer(layer, actual, possible_inputs={"row0": layer.inputs[0], "row1": other})
    attempt = diagnosis.explain_layer(made).proof
    assert {c.cause for c in attempt.candidates} == {"reads-another-tensor", "leaky-relu-slope"}
    told = " ".join(messages.candidate_texts(attempt))
    assert "The slope for negative values is not 0.01" in told


def test_the_channels_of_a_sequence_are_its_last_axis():
    data = draw(2, 3, 8, seed=51).astype(np.float32).astype(float)
    layer = Layer("dense", (data,), {"bias": False}, {"kernel": draw(4, 8, seed=52)})
    assert named(layer, evaluate(layer) + draw(1, 1, 4, seed=53)).cause == "bias"


# Remedies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["max_pool", "avg_pool"])
@pytest.mark.parametrize("below", [True, False])
def test_no_zeros_are_put_beside_negative_values_of_a_max_pool(kind, below):
    layer = pool(kind, size=8, **({"count_padding": True} if kind == "avg_pool" else {}))
    data = layer.inputs[0].astype(np.float32).astype(float)
    layer = replace(layer, inputs=(data if below else np.abs(data),))
    found = named(layer, evaluate(layer.with_hyper(padding=[[0, 1], [0, 1]])))
    assert found.cause == "same-padding"
    assert ("inf" in found.remedy) is (kind == "max_pool" and below)
    assert ("ZeroPadding2D(1)" in found.remedy) is not (kind == "max_pool" and below)


@pytest.mark.parametrize(
    ("subject", "told"),
    [("torch", "set ceil_mode=False"), ("onnx-torch", "set ceil_mode to 0"), ("keras", "pad less")],
)
def test_keras_has_no_ceil_mode(subject, told):
    layer = pool("max_pool", size=8, padding=0)
    found = named(layer, evaluate(layer.with_hyper(ceil=True)), subject=subject)
    assert found.cause == "ceil-mode"
    assert told in found.remedy
    assert ("ceil_mode" in found.remedy) is (subject != "keras")


# Orders ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_either_order_of_flattening(back, flat):
    image = (4, 2, 3)
    data = draw(3, *image, seed=31).astype(np.float32).astype(float)
    layer = dense(inputs=24)
    layer = replace(layer, inputs=(data,))
    moved = data.transpose(0, 2, 3, 1).reshape(3, -1)
    if back:
        moved = data.reshape(3, 2, 3, 4).transpose(0, 3, 1, 2).reshape(3, -1)
    actual = evaluate(replace(layer, inputs=(moved,)))
    if flat:
        layer = replace(layer, inputs=(data.reshape(3, -1),))
    assert named(layer, actual, image_shape=image).cause == "flatten-order"


@pytest.mark.parametrize("axes", [(1, 0, 2, 3), (2, 3, 0, 1), (2, 3, 1, 0)])
@pytest.mark.parametrize("written", [False, True])
def test_depthwise_layouts_with_a_multiplier(axes, written):
    layer = conv(8, 16, groups=8)
    layer = replace(layer, kind="depthwise_conv")
    kernel = layer.weights["kernel"]
    shape = (8, 2, 3, 3)
    if written:
        made = kernel.reshape(shape).transpose(axes)
    else:
        made = kernel.reshape([shape[i] for i in axes]).transpose(np.argsort(axes))
    actual = evaluate(layer.with_weights(kernel=np.ascontiguousarray(made).reshape(kernel.shape)))
    assert named(layer, actual).cause == "depthwise-layout"


# What is told where nothing is proved ------------------------------------------------------------


def test_the_closest_are_ranked_by_one_floor():
    """A floor that was carried through rounding to 8 bits is 32 times larger, and no progress."""
    layer = conv()
    broken = evaluate(layer) + 0.3 * np.sin(np.arange(1600.0)).reshape(2, 8, 10, 10)
    explained = unexplained(layer, broken)
    ranked = [attempt.x_layer_floor for attempt in explained.closest]
    assert ranked == sorted(ranked)
    for attempt in explained.closest:
        assert attempt.x_layer_floor < explained.x_floor_before
        assert (
            attempt.candidates[0].cause != "low-precision"
            or attempt.x_layer_floor > 0.9 * explained.x_floor_before
        )


def test_one_group_that_differs_is_told():
    layer = conv(8, 16, groups=4)
    broken = evaluate(layer)
    broken[:, 8:12] += np.sin(np.arange(800.0)).reshape(2, 4, 10, 10)
    pattern = classify_error(broken, evaluate(layer), floor=1e-6, groups=4)
    assert pattern.group == (2, 4)
    assert "only group 2 of 4 differs, counted from 0" in pattern.text
    broken[:, 0] += 1.0
    pattern = classify_error(broken, evaluate(layer), floor=1e-6, groups=4)
    assert pattern.group is None
    assert "5 of 16 channels differ" in pattern.text


# Wires ------------------------------------------------------------------------------------------


def test_a_layer_that_reads_another_tensor():
    """Batch-norm behind the ReLU: each is right on what it reads."""
    layer = batch_norm()
    relu = np.maximum(evaluate(layer), 0.0).astype(np.float32).astype(float)
    actual = evaluate(replace(layer, inputs=(relu,)))
    found = named(layer, actual, possible_inputs={"conv": layer.inputs[0], "relu": relu})
    assert found.cause == "reads-another-tensor"
    assert found.text == "It reads the tensor of relu, where the reference reads that of conv"


def test_a_shortcut_that_is_taken_elsewhere():
    layer = add()
    branch, shortcut = layer.inputs
    late = np.maximum(shortcut, 0.0)
    held = {"bn2": branch, "entry": shortcut, "relu": late}
    found = named(layer, branch + late, possible_inputs=held)
    assert found.cause == "reads-another-tensor"
    assert "the tensor of relu, where the reference reads that of entry" in found.text


# Names and shapes that a case may have ---------------------------------------------------------


@pytest.mark.parametrize(
    "subject", ["keras@cpu", "torch@gpu", "keras[jax]", "torch@old", "onnx-keras@cpu"]
)
def test_a_subject_with_a_place_of_its_own_is_explained_like_any(subject):
    layer = batch_norm()
    found = named(layer, evaluate(layer.with_hyper(epsilon=1e-3)), subject=subject)
    assert found.cause == "batch-norm-epsilon"


KINDS = ("add", "multiply", "concat", "relu", "sigmoid", "gelu", "identity", "dense", "leaky_relu")
SHAPES = ((6,), (6, 1), (2, 3, 4))


@pytest.mark.parametrize(
    ("kind", "shape"),
    # What joins channels, or sums over them, needs an axis of them.
    [(k, s) for k in KINDS for s in SHAPES if len(s) > 1 or k not in ("dense", "concat")],
)
def test_every_cause_bears_every_shape(kind, shape):
    """One number an item, and sequences: whatever is tried, nothing may break."""
    data = draw(*shape, seed=71).astype(np.float32).astype(float)
    inputs = (data, data + 1.0) if kind in ("add", "multiply", "concat") else (data,)
    weights = {"kernel": draw(4, shape[-1], seed=72)} if kind == "dense" else {}
    layer = Layer(kind, inputs, {"slope": 0.01, "approximate": False}, weights)
    expected = evaluate(layer)
    broken = expected + 0.01 * np.sin(np.arange(expected.size)).reshape(expected.shape)
    for subject in ("keras", "torch", "onnx-torch"):
        diagnosis.explain_layer(
            failing_layer(layer, broken, subject=subject, possible_inputs={"other": data + 2.0})
        )
