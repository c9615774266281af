"""Inputs and outputs of any structure: each keeps its own tensor, name, order and type."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytestmark = pytest.mark.framework

pytest.importorskip("exporters.keras_onnx")

import keras
import tensorflow as tf
from keras import layers, ops

from exporters.errors import ExportError
from exporters.keras import structures
from exporters.keras.arguments import read_arguments


def rows(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((3, *shape)).astype(np.float32)


def by_key() -> keras.Model:
    """Inputs and outputs whose keys are not in alphabetical order."""
    zeta, alpha = keras.Input((4,), name="zeta_in"), keras.Input((4,), name="alpha_in")
    outputs = {"zeta": zeta * 2.0, "alpha": zeta - alpha}
    return keras.Model({"zeta_in": zeta, "alpha_in": alpha}, outputs)


@pytest.mark.parametrize(
    "names", [(), ("zeta", "alpha"), ("alpha", "zeta")], ids=["default", "written", "sorted"]
)
def test_outputs_are_called_by_their_keys_in_the_order_given(exported, names):
    zeta, alpha = rows(4), rows(4, seed=1)
    file = exported(by_key(), outputs=names)
    assert tuple(file.outputs) == (names or ("zeta", "alpha"))
    found = file(zeta_in=zeta, alpha_in=alpha)
    np.testing.assert_array_equal(found["zeta"], zeta * 2)
    np.testing.assert_array_equal(found["alpha"], zeta - alpha)


def test_inputs_are_called_by_their_keys_in_the_order_given(exported):
    assert exported(by_key()).inputs == ["zeta_in", "alpha_in"]
    file = exported(by_key(), inputs=["alpha_in", "zeta_in"], outputs=["zeta", "alpha"])
    assert file.inputs == ["alpha_in", "zeta_in"]
    found = file(zeta_in=rows(4), alpha_in=rows(4, seed=1))
    np.testing.assert_array_equal(found["zeta"], rows(4) * 2)


def test_other_names_are_given_in_the_order_that_the_model_was_written_in(exported):
    file = exported(by_key(), inputs=["first", "second"], outputs=["double", "difference"])
    found = file(first=rows(4), second=rows(4, seed=1))
    np.testing.assert_array_equal(found["double"], rows(4) * 2)


def test_a_name_of_another_output_is_refused(exported):
    with pytest.raises(ExportError, match="'alpha' is another output's name"):
        exported(by_key(), outputs=["alpha", "other"])


def test_nested_outputs_are_called_by_their_path(exported):
    x = keras.Input((4,))
    model = keras.Model(x, {"b": [x * 2.0, x * 3.0], "a": x * 4.0})
    found = exported(model)(input=rows(4))
    assert list(found) == ["b_0", "b_1", "a"]
    np.testing.assert_array_equal(found["b_1"], rows(4) * 3)


class Pair(keras.Model):
    """One argument that is a list."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, pair):
        return {"sum": self.dense(pair[0]) + pair[1], "first": pair[0]}


class Features(keras.Model):
    """One argument that is a dictionary, of other types."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = layers.Embedding(20, 4)

    def call(self, features):
        return features["number"] + ops.mean(self.embedding(features["ids"]), axis=1)


class Two(keras.Model):
    """Two arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(4)

    def call(self, left, right, training=False):
        return self.dense(left) - right, right


class Tokens(keras.Model):
    """Integers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = layers.Embedding(20, 4)

    def call(self, ids):
        return self.embedding(ids)


class Masked(Tokens):
    def call(self, ids):
        known = ops.cast(ops.not_equal(ids, 0), "float32")
        return self.embedding(ids) * known[..., None]


IDS = np.random.default_rng(0).integers(0, 20, (3, 5)).astype(np.int32)


def call_once(model: keras.Model, *arguments: object) -> keras.Model:
    model(*arguments)
    return model


def test_a_list_is_one_argument(exported):
    model = call_once(Pair(), [rows(3), rows(3)])
    file = exported(model)
    assert file.inputs == ["pair_0", "pair_1"]
    found = file(pair_0=rows(3), pair_1=rows(3, seed=1))
    expected = model([rows(3), rows(3, seed=1)])
    np.testing.assert_allclose(found["sum"], expected["sum"], rtol=1e-5)
    assert list(found) == ["sum", "first"]


def test_a_dictionary_is_one_argument_and_integers_stay_integers(exported):
    model = call_once(Features(), {"number": rows(4), "ids": IDS})
    file = exported(model)
    types = {value.name: value.type for value in file.session.get_inputs()}
    assert types == {"number": "tensor(float)", "ids": "tensor(int32)"}
    found = file(number=rows(4), ids=IDS)["output"]
    np.testing.assert_allclose(found, model({"number": rows(4), "ids": IDS}), rtol=1e-5)


def test_tokens_that_are_compared_too_are_integers(exported):
    model = call_once(Masked(), IDS)
    assert exported(model).session.get_inputs()[0].type == "tensor(int32)"


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_tokens_of_a_subclassed_model_stay_integers(exported, dtype):
    model = call_once(Tokens(), IDS)
    file = exported(model, sample=IDS.astype(dtype))
    assert file.session.get_inputs()[0].type == f"tensor({dtype})"
    assert exported(model).session.get_inputs()[0].type == "tensor(int32)"


@pytest.mark.parametrize(
    "options",
    [
        {"sample": (rows(3), rows(4))},
        {"sample": {"right": rows(4), "left": rows(3)}},
        {"signature": (keras.InputSpec(shape=(None, 3)), tf.TensorSpec((None, 4)))},
    ],
    ids=["tuple", "by name", "signature"],
)
def test_several_arguments(exported, options):
    model = call_once(Two(), rows(3), rows(4))
    file = exported(model, **options)
    assert set(file.inputs) == {"left", "right"}
    found = file(left=rows(3), right=rows(4))
    np.testing.assert_allclose(found["output_0"], model(rows(3), rows(4))[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["output_1"], rows(4))


def test_several_arguments_without_an_example_are_refused_with_what_to_do(exported):
    with pytest.raises(ExportError, match=r"takes left, right, .* give signature=, or an example"):
        exported(call_once(Two(), rows(3), rows(4)))


def test_a_fixed_batch_is_kept_and_verified_at_that_size(exported):
    x = keras.Input(batch_shape=(4, 8))
    model = keras.Model(x, layers.Dense(3)(ops.reshape(x, (2, 2, 8))))
    file = exported(model)
    assert file.session.get_inputs()[0].shape == [4, 8]
    assert file.session.get_outputs()[0].shape == [2, 2, 3]


def test_sizes_that_vary_are_verified_at_several(exported):
    model = keras.Sequential(
        [keras.Input((None, None, 3)), layers.Conv2D(4, 3, 2, "same"), layers.ReLU()]
    )
    file = exported(model)
    assert file.session.get_inputs()[0].shape == ["batch", "input_1", "input_2", 3]
    assert {"input_1=64", "input_2=48"} <= {check.inputs for check in file.done.other_checks}
    image = np.random.default_rng(0).standard_normal((2, 21, 34, 3)).astype(np.float32)
    (found,) = file(input=image).values()
    np.testing.assert_allclose(found, model(image), atol=1e-5)


@dataclasses.dataclass
class Point:
    x: object
    y: object


def test_structures_keep_the_order_in_which_they_were_written():
    value = {"z": [1, (2, None)], "a": Point(3, {"k": 4})}
    assert structures.flatten(value) == [1, 2, 3, 4]
    names = [structures.join(keys) for keys, _ in structures.named_leaves(value)]
    assert names == ["z_0", "z_1_0", "a_x", "a_y_k"]
    doubled = structures.map_leaves(lambda leaf: 2 * leaf, value)
    assert doubled == {"z": [2, (4, None)], "a": Point(6, {"k": 8})}
    assert structures.same_structure({"a": [1, 2], "b": 3}, {"b": 0, "a": [0, 0]})
    assert not structures.same_structure({"a": [1, 2]}, {"a": [1]})


def test_a_sample_may_have_any_structure_of_the_call():
    model = by_key()
    arguments = read_arguments(model)
    zeta, alpha = rows(4), rows(4, seed=1)
    for sample in ([zeta, alpha], (zeta, alpha), {"alpha_in": alpha, "zeta_in": zeta}):
        found = arguments.arrays_of(sample)
        np.testing.assert_array_equal(found[0], zeta)
        np.testing.assert_array_equal(found[1], alpha)
    for wrong in ([zeta], {"alpha_in": alpha}, "x", [zeta, "x"], [[zeta], [alpha]]):
        with pytest.raises(ExportError, match=r"^sample: "):
            arguments.arrays_of(wrong)


def test_extreme_inputs_where_rounding_explains_everything_are_a_note(exported):
    """The usual inputs prove the file; so far out the model's own outputs are rounding."""
    x = keras.Input((64,))
    # Powers of other libraries differ in the last place, which the sine of a large one shows.
    y = ops.power(ops.abs(layers.Dense(8)(x)), 4.1)
    chaotic = keras.Model(x, ops.sin(y))
    done = exported(chaotic).done
    assert any(note.startswith("extreme inputs prove nothing of") for note in done.notes)
    # What is less extreme is verified instead.
    assert [check.passed for check in done.other_checks if check.inputs == "extreme"] == [True]
    with pytest.raises(ExportError, match="so much rounding proves nothing"):
        exported(keras.Model(x, ops.sin(1e6 * y)))
