"""Causes of the layers that networks of any family have: each is named when it is there."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from parity.explain import diagnosis
from parity.explain.causes import attention as attention_causes
from parity.explain.proof.failing_layer import MisreadTensor
from parity.explain.proof.layer import Layer, evaluate
from parity.network import kinds
from tests.explain.samples import (
    batch_norm,
    conv,
    dense,
    draw,
    failing_layer,
    group_norm,
    pointwise,
    pool,
)


def name_cause(layer, actual, **more):
    found = diagnosis.explain_layer(failing_layer(layer, actual, **more)).proof
    assert found is not None
    return "+".join(candidate.cause for candidate in found.candidates)


ACTIVATIONS = (
    ("relu", {}), ("sigmoid", {}), ("tanh", {}), ("silu", {}), ("selu", {}), ("mish", {}),
    ("softsign", {}), ("softplus", {}), ("hard_swish", {}), ("elu", {}),
    ("gelu", {"approximate": False}), ("gelu", {"approximate": True}), ("hard_sigmoid", {}),
    ("hard_sigmoid", {"slope": 0.2}), ("leaky_relu", {"slope": 0.2}),
)  # fmt: skip


@pytest.mark.parametrize("wanted", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("found", ACTIVATIONS, ids=str)
def test_any_activation_is_named_for_any_other(wanted, found):
    layer = pointwise(wanted[0], **wanted[1])
    layer = replace(layer, inputs=(4.0 * layer.inputs[0],))
    other = replace(layer, kind=found[0], hyper=found[1])
    if wanted == found:
        return
    expected = {"activation-other"}
    if wanted[0] == found[0] == "gelu":
        expected = {"gelu-form"}
    if wanted[0] == "leaky_relu":
        # A ReLU is one with a slope of 0.
        expected.add("leaky-relu-slope")
    assert name_cause(layer, evaluate(other)) in expected


def test_a_quick_gelu():
    layer = pointwise("gelu")
    data = layer.inputs[0]
    assert name_cause(layer, data / (1.0 + np.exp(-1.702 * data))) == "activation-other"


def image(kind="conv"):
    return conv(bias=True) if kind == "conv" else pool("max_pool")


@pytest.mark.parametrize(
    "move",
    [
        lambda x: x.swapaxes(2, 3),
        lambda x: x[:, :, ::-1],
        lambda x: x[:, :, :, ::-1],
        lambda x: x[:, :, ::-1, ::-1],
        lambda x: np.rot90(x, 1, (2, 3)),
    ],
)
def test_an_image_at_other_places_is_not_a_fault_of_the_kernel(move):
    layer = image()
    assert name_cause(layer, evaluate(layer.with_input_transform(move))) == "input-moved"


def test_a_crop_that_is_off_by_one():
    layer = image()
    data = np.zeros_like(layer.inputs[0])
    data[:, :, 1:] = layer.inputs[0][:, :, :-1]
    assert name_cause(layer, evaluate(replace(layer, inputs=(data,)))) == "input-moved"


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap", "symmetric"])
def test_a_padding_mode(mode):
    layer = conv()
    data = np.pad(layer.inputs[0], ((0, 0), (0, 0), (1, 1), (1, 1)), mode=mode)
    plain = replace(layer, inputs=(data,)).with_hyper(padding=[[0, 0], [0, 0]])
    assert name_cause(layer, evaluate(plain)) == "padding-mode"


def test_a_kernel_that_is_masked_otherwise():
    layer = conv()
    kernel, mask = layer.weights["kernel"], np.ones((3, 3))
    mask[1, 2:], mask[2:] = 0, 0
    layer = layer.with_weights(kernel=kernel * mask)
    mask[1, 1] = 0
    own = {"kernel": kernel * mask}
    actual = evaluate(layer.with_weights(**own))
    failing = failing_layer(layer, actual, computed_weights=own)
    (candidate,) = diagnosis.explain_layer(failing).proof.candidates
    assert candidate.cause == "computed-weight"
    assert "64 of 576 values differ (of these are 0: 64 here), such as 0 at" in candidate.text
    # Where it is the same, nothing is said of it.
    failing = failing_layer(layer, 1.5 * evaluate(layer), computed_weights=dict(layer.weights))
    assert {c.cause for c in diagnosis.explain_layer(failing).proof.candidates} == {"scale"}


def test_factors_and_offsets():
    layer = dense()
    output, own = evaluate(layer), dict(layer.weights)
    assert name_cause(layer, 1.05 * output, subject_weights=own) == "scale"
    assert name_cause(layer, output + 0.25, subject_weights=own) == "offset"
    layer = conv(bias=True)
    own = dict(layer.weights)
    scaled = replace(layer, inputs=(0.3 * layer.inputs[0],))
    assert name_cause(layer, evaluate(scaled), subject_weights=own) == "input-scale"
    factors = np.linspace(0.5, 1.5, 8).reshape(1, 8, 1, 1)
    layer = Layer("add", tuple(draw(2, 8, 6, 6, seed=s).astype(float) for s in (31, 32)))
    assert name_cause(layer, evaluate(layer) * factors) == "layer-scale"


def test_one_number_is_not_fitted_to_three_values():
    layer = dense(outputs=3)
    layer = replace(layer, inputs=(layer.inputs[0][:1],))
    own = dict(layer.weights)
    made = failing_layer(layer, 1.05 * evaluate(layer), subject_weights=own)
    assert diagnosis.explain_layer(made).proof is None


@pytest.mark.parametrize("zeros", [1, 2])
def test_two_numbers_of_which_one_is_zero_prove_nothing(zeros):
    """A dropout gives them; so does a ReLU with an input of another range."""
    layer = dense(outputs=2)
    layer = replace(layer, inputs=(layer.inputs[0][:1],))
    shifted = evaluate(layer.with_input_transform(lambda x: (x + 1.0) / 2.0))
    layer = layer.with_weights(bias=layer.weights["bias"] - shifted[0] + [0.5, -0.5])
    if zeros == 2:
        layer = layer.with_weights(bias=layer.weights["bias"] - 1.0)
    moved = evaluate(layer.with_input_transform(lambda x: (x + 1.0) / 2.0))
    assert (moved <= 0).sum() == zeros
    own = dict(layer.weights)
    made = failing_layer(layer, np.maximum(moved, 0.0), subject_weights=own)
    assert diagnosis.explain_layer(made).proof is None


def test_the_factor_that_the_subject_states_needs_no_fit():
    layer = dense(outputs=3)
    layer = replace(layer, inputs=(layer.inputs[0][:1],))
    output = evaluate(layer)
    stated = Layer("multiply", (output, np.asarray(1.05)), constants=frozenset({1}))
    assert name_cause(layer, 1.05 * output, subject_layer=stated) == "scale"


def test_a_constant_of_the_code():
    data = draw(2, 8, seed=3).astype(float)
    layer = Layer("sub", (data, np.asarray(0.5)), constants=frozenset({1}))
    stated = replace(layer, inputs=(data, np.asarray(0.4)))
    assert name_cause(layer, evaluate(stated), subject_layer=stated) == "constant"


@pytest.mark.parametrize("kind", ["dense", "sub"])
def test_data_of_one_value_is_no_constant(kind):
    """One feature of one sample is one number, and that is none of the code."""
    data, read = draw(1, 1, seed=3).astype(float), draw(1, 1, seed=4).astype(float)
    weights = {"kernel": draw(6, 1, seed=5), "bias": draw(6, seed=6)}
    layer = (
        Layer(kind, (data,), {"bias": True, "activation": "linear"}, weights)
        if kind == "dense"
        else Layer(kind, (draw(4, 8).astype(float), data))
    )
    stated = replace(layer, inputs=(*layer.inputs[:-1], read))
    found = diagnosis.explain_layer(
        failing_layer(layer, evaluate(stated), subject_layer=stated)
    ).proof
    assert found is None or "constant" not in {each.cause for each in found.candidates}


@pytest.mark.parametrize("is_constant", [True, False])
@pytest.mark.parametrize("where", ["behind", "extra", "missing"])
def test_only_a_number_of_the_code_is_told_as_one(where, is_constant):
    """A gate of one value is data: `remove the number 0.37` would be no remedy."""
    data, gate = draw(1, 24, seed=7).astype(float), np.full((1, 1), 0.37)
    gated = Layer("multiply", (data, gate), constants=frozenset({1} if is_constant else ()))
    plain = Layer("relu", (data,))
    if where == "behind":
        layer, output = plain, evaluate(plain)
        found = {"subject_layer": replace(gated, inputs=(output, gate))}
        actual = output * 0.37
    elif where == "extra":
        layer, actual = plain, evaluate(replace(plain, inputs=(evaluate(gated),)))
        found = {"unpaired_input_layers": {0: gated}}
    else:
        layer, actual = replace(plain, inputs=(evaluate(gated),)), evaluate(plain)
        found = {"missing_input_layers": {0: gated}}
    proof = diagnosis.explain_layer(failing_layer(layer, actual, **found)).proof
    (named,) = proof.candidates
    is_told = "multiplied by 0.37" in named.text and not named.fitted_values
    assert is_told == is_constant


def test_another_operation():
    layer = pool("max_pool")
    stated = replace(layer, kind="avg_pool", hyper={**layer.hyper, "count_padding": True})
    assert name_cause(layer, evaluate(stated), subject_layer=stated) == "pool-type"
    layer = group_norm()
    stated = replace(layer, kind="instance_norm")
    assert name_cause(layer, evaluate(stated), subject_layer=stated) == "norm-type"
    layer = Layer("reduce_mean", (draw(2, 8, 5, 5).astype(float),), {"axes": [2, 3]})
    stated = replace(layer, kind="reduce_max")
    assert name_cause(layer, evaluate(stated), subject_layer=stated) == "pool-type"


@pytest.mark.parametrize("name", ["epsilon", "groups"])
def test_settings_of_a_norm(name):
    layer = group_norm()
    stated = {**layer.hyper, name: {"epsilon": 1e-3, "groups": 4}[name]}
    actual = evaluate(replace(layer, hyper=stated))
    expected = {"epsilon": "group-norm-epsilon", "groups": "setting"}[name]
    assert name_cause(layer, actual, subject_hyper=stated) == expected


def test_statistics_and_weights_that_were_not_loaded():
    layer = batch_norm()
    initial = {"mean": np.zeros(8, np.float32), "variance": np.ones(8, np.float32)}
    own = {**layer.weights, **initial}
    actual = evaluate(layer.with_weights(**own))
    assert name_cause(layer, actual, subject_weights=own) == "statistics-not-loaded"
    layer = conv(groups=8)
    own = {"kernel": np.ones_like(layer.weights["kernel"])}
    actual = evaluate(layer.with_weights(**own))
    assert name_cause(layer, actual, subject_weights=own) == "weight-not-loaded"


def test_rows_of_an_embedding():
    ids = np.array([[0, 3, 5, 1], [2, 2, 6, 0]], float)
    layer = Layer("embedding", (ids,), {}, {"embeddings": draw(9, 4)})
    assert name_cause(layer, layer.weights["embeddings"][ids.astype(int) + 1]) == "embedding-offset"
    table = layer.weights["embeddings"].copy()
    table[0] = 0.0
    assert name_cause(layer, table[ids.astype(int)]) == "embedding-padding"


def recurrent(kind):
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[kind]
    units, inputs = 5, 3
    weights = {
        "kernel": draw(gates * units, inputs, seed=41),
        "recurrent_kernel": draw(gates * units, units, seed=42),
        "bias": draw(gates * units, seed=43),
        "recurrent_bias": draw(gates * units, seed=44),
    }
    return Layer(kind, (draw(2, 6, inputs, seed=45).astype(float),), {}, weights)


def test_gates_in_another_order():
    for kind, order in (("lstm", [1, 0, 2, 3]), ("lstm", [0, 1, 3, 2]), ("gru", [1, 0, 2])):
        layer = recurrent(kind)
        moved = {
            name: np.concatenate([np.split(value, len(order))[index] for index in order])
            for name, value in layer.weights.items()
        }
        assert name_cause(layer, evaluate(layer.with_weights(**moved))) == "gate-order"


@pytest.mark.parametrize(
    ("kind", "hyper", "cause"),
    [
        ("gru", {"reset_after": False}, "reset-gate"),
        ("rnn", {"relu": True}, "recurrent-activation"),
        ("lstm", {"reverse": True}, "recurrent-direction"),
    ],
)
def test_settings_of_a_recurrent_layer(kind, hyper, cause):
    layer = recurrent(kind)
    assert name_cause(layer, evaluate(layer.with_hyper(**hyper))) == cause


def test_a_recurrent_bias_that_is_left_out():
    layer = recurrent("gru")
    zero = layer.with_weights(recurrent_bias=np.zeros(15, np.float32))
    assert name_cause(layer, evaluate(zero)) == "recurrent-bias"


def attention():
    inputs = tuple(draw(2, 2, 5, 4, seed=seed).astype(float) for seed in (51, 52, 53))
    return Layer("scaled_dot_product_attention", inputs)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda layer: layer.with_hyper(causal=True), "attention-mask"),
        (lambda layer: layer.with_hyper(scale=1.0), "attention-scale"),
        (lambda layer: layer.with_hyper(scale=0.25), "attention-scale"),
        (
            lambda layer: replace(layer, inputs=tuple(layer.inputs[i] for i in (1, 0, 2))),
            "attention-projections",
        ),
    ],
)
def test_attention(change, cause):
    layer = attention()
    assert name_cause(layer, evaluate(change(layer))) == cause


def multi_head():
    width = 8
    weights = {
        "packed_kernel": draw(3 * width, width, seed=61),
        "packed_bias": draw(3 * width, seed=62),
        "output_kernel": draw(width, width, seed=63),
        "output_bias": draw(width, seed=64),
    }
    data = draw(2, 5, width, seed=65).astype(float)
    return Layer("multi_head_attention", (data,), {"heads": 4}, weights)


def test_projections_heads_and_biases_of_attention():
    layer = multi_head()
    query, key, value = np.split(layer.weights["packed_kernel"], 3)
    one, two, three = np.split(layer.weights["packed_bias"], 3)
    swapped = layer.with_weights(
        packed_kernel=np.concatenate([key, query, value]),
        packed_bias=np.concatenate([two, one, three]),
    )
    assert name_cause(layer, evaluate(swapped)) == "attention-projections"
    assert name_cause(layer, evaluate(layer.with_hyper(heads=2))) == "attention-heads"
    bare = layer.with_weights(packed_bias=np.zeros(24, np.float32))
    assert name_cause(layer, evaluate(bare)) == "attention-bias"


def test_attention_that_the_reference_writes_out():
    """Its last product is the layer; the subject has one operation for all."""
    stated = attention().with_hyper(causal=True)
    query, key, value = stated.inputs
    scores = kinds.evaluate("softmax", (query @ key.swapaxes(2, 3) / 2.0,), {}, {"axis": -1})
    layer = Layer("matmul", (scores, value))
    assert name_cause(layer, evaluate(stated), subject_layer=stated) == "attention-mask"


def test_a_resize_whose_places_are_rounded():
    """Half a pixel further the reference's places are exact, the subject's are not."""
    settings = {"size": (32, 32), "mode": "bilinear", "align_corners": False}
    layer = Layer("upsample", (draw(1, 4, 16, 16, seed=81).astype(float),), settings)
    stated = {**settings, "align_corners": True}
    actual = torch.nn.functional.interpolate(
        torch.from_numpy(layer.data.astype(np.float32)), (32, 32), mode="bilinear",
        align_corners=True,
    )  # fmt: skip
    found = failing_layer(layer, actual.numpy(), subject="torch", subject_hyper=stated)
    explanation = diagnosis.explain_layer(found)
    assert [each.cause for each in explanation.proof.candidates] == ["setting"]
    exact = evaluate(layer.with_hyper(align_corners=True))
    assert np.abs(exact - found.actual).max() > found.limit * found.floor.max_abs


def explain(layer, actual, **found):
    proof = diagnosis.explain_layer(failing_layer(layer, actual, **found)).proof
    assert proof is not None
    return [(each.cause, each.text) for each in proof.candidates]


def test_two_settings_of_one_layer():
    settings = {"size": (32, 32), "mode": "bilinear", "align_corners": False}
    layer = Layer("upsample", (draw(1, 4, 16, 16, seed=81).astype(float),), settings)
    stated = {**settings, "align_corners": True, "mode": "bicubic"}
    actual = torch.nn.functional.interpolate(
        torch.from_numpy(layer.data), (32, 32), mode="bicubic", align_corners=True
    )
    found = explain(layer, actual.numpy(), subject_hyper=stated)
    assert sorted(found) == [
        ("setting", "align_corners is True, not False"),
        ("setting", "mode is bicubic, not bilinear"),
    ]


@pytest.mark.parametrize("count", [2, 3])
def test_several_inputs_of_one_layer_are_other_parts(count):
    layer = attention()
    read = {place: draw(2, 2, 5, 4, seed=90 + place).astype(float) for place in range(count)}
    inputs = tuple(read.get(place, own) for place, own in enumerate(layer.inputs))
    parts = {at: MisreadTensor(value, f"part {at}", f"read {at}") for at, value in read.items()}
    found = explain(layer, evaluate(replace(layer, inputs=inputs)), misread_inputs=parts)
    assert found == [("input-part", f"It reads part {place}") for place in range(count)]


def test_what_changes_nothing_is_not_told_with_what_does():
    """Its query is read of another tensor, which has the same values."""
    layer = attention()
    key, value = draw(2, 2, 5, 4, seed=91).astype(float), draw(2, 2, 5, 4, seed=92).astype(float)
    read = {1: key, 0: layer.inputs[0], 2: value}
    inputs = tuple(read[place] for place in range(3))
    parts = {at: MisreadTensor(value, f"part {at}", f"read {at}") for at, value in read.items()}
    found = explain(layer, evaluate(replace(layer, inputs=inputs)), misread_inputs=parts)
    assert found == [("input-part", "It reads part 1"), ("input-part", "It reads part 2")]


def split_into(heads: int) -> Layer:
    """Return attention of one width of 12 that is split into heads."""
    inputs = [
        draw(1, 5, 12, seed=71 + n).astype(float).reshape(1, 5, heads, 12 // heads).swapaxes(1, 2)
        for n in range(3)
    ]
    return Layer("scaled_dot_product_attention", tuple(inputs))


def test_heads_of_another_width_of_attention_that_the_reference_writes_out():
    wrong, right = split_into(6), split_into(2)
    query, key, value = right.inputs
    scores = query @ key.swapaxes(2, 3) / math.sqrt(query.shape[-1])
    scores = kinds.evaluate("softmax", (scores,), {}, {"axis": -1})
    layer = Layer("matmul", (scores, value))
    assert name_cause(layer, evaluate(wrong), subject_layer=wrong) == "attention-heads"


def test_heads_of_another_width():
    wrong, right = split_into(6), split_into(2)
    assert name_cause(right, evaluate(wrong), subject_layer=wrong) == "attention-heads"


def test_heads_of_another_width_and_other_values_are_not_explained_by_the_heads():
    wrong, right = split_into(6), split_into(2)
    actual = evaluate(wrong)[..., ::-1]
    assert diagnosis.explain_layer(failing_layer(right, actual, subject_layer=wrong)).proof is None


@pytest.mark.parametrize("kind", ["scaled_dot_product_attention", "matmul"])
def test_only_heads_that_the_reference_may_have_are_evaluated(kind, monkeypatch):
    """Long data in a head for each feature would need far more memory than the models do."""
    sizes = []

    def watch(layer):
        sizes.append(layer.inputs[0].shape[1])
        return evaluate(layer)

    wrong, right = split_into(6), split_into(2)
    if kind == "matmul":
        right = Layer(kind, (draw(1, 2, 5, 5, seed=82).astype(float), right.inputs[2]))
    monkeypatch.setattr(attention_causes, "evaluate", watch)
    failing = failing_layer(right, evaluate(wrong) + 1.0, subject_layer=wrong)
    list(attention_causes._propose_other_heads(failing, wrong))
    assert set(sizes) == ({2, 6} if kind != "matmul" else {1, 2})


def masked(hidden: slice, scale: float | None = None) -> Layer:
    """Return attention from whose queries keys are hidden."""
    mask = np.ones((1, 1, 1, 5))
    mask[..., hidden] = 0.0
    hyper = {"boolean_mask": True, "scale": scale}
    return replace(split_into(2), inputs=(*split_into(2).inputs, mask)).with_hyper(**hyper)


def test_as_many_other_keys_that_are_hidden():
    right, wrong = masked(slice(2)), masked(slice(3, 5))
    proof = diagnosis.explain_layer(
        failing_layer(right, evaluate(wrong), subject_layer=wrong)
    ).proof
    (found,) = proof.candidates
    assert found.cause == "attention-mask"
    assert found.text == (
        "It hides 2 of 5 keys from every query, where the reference hides as many others"
    )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("right", [split_into(2), masked(slice(4, 5))])
def test_the_subjects_mask_is_applied_in_whole(right, causal):
    wrong = masked(slice(3, 5)).with_hyper(causal=causal)
    assert name_cause(right, evaluate(wrong), subject_layer=wrong) == "attention-mask"


def test_heads_of_another_width_whose_scale_is_written_out():
    wrong, right = split_into(6).with_hyper(scale=2**-0.5), split_into(2)
    assert name_cause(right, evaluate(wrong), subject_layer=wrong) == "attention-heads"


def test_heads_of_another_width_behind_the_time():
    wrong, right = (
        replace(each, inputs=tuple(data.swapaxes(1, 2) for data in each.inputs)).with_hyper(
            time_before_heads=True
        )
        for each in map(split_into, (6, 2))
    )
    assert name_cause(right, evaluate(wrong), subject_layer=wrong) == "attention-heads"


def test_the_remedy_of_a_scale_is_the_references():
    right, wrong = masked(slice(2), scale=0.3), masked(slice(2))
    (found,) = diagnosis.explain_layer(failing_layer(right, evaluate(wrong))).proof.candidates
    assert (found.cause, found.remedy[-26:]) == ("attention-scale", "multiply the scores by 0.3")


def test_a_quantised_scale():
    layer = Layer(
        "quantize", (draw(2, 8, 4, 4).astype(float),), {"scale": 0.02, "zero_point": 3,
                                                        "dtype": "uint8"},
    )  # fmt: skip
    stated = {**layer.hyper, "scale": 0.03}
    assert name_cause(layer, evaluate(replace(layer, hyper=stated)), subject_hyper=stated) == (
        "setting"
    )
