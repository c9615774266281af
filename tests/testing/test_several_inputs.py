"""`assert_parity` on live models with several inputs and outputs, and with integers."""

from __future__ import annotations

import numpy as np
import pytest

from parity.errors import InputError, UsageError
from parity.runtimes.outputs import flatten_outputs
from parity.testing import assert_parity

pytestmark = [pytest.mark.framework, pytest.mark.usefixtures("shared_children")]

TOKENS = np.array([[1, 5, 3, 9], [10, 0, 2, 2]])
MASK = np.random.default_rng(0).random((2, 4)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).standard_normal((11, 6)).astype(np.float32)
KERNEL = np.random.default_rng(2).standard_normal((6, 3)).astype(np.float32)


def torch_model(scale: float = 1.0, kind: type = tuple):
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(11, 6)
            self.fc = nn.Linear(6, 3, bias=False)

        def forward(self, tokens, mask):
            hidden = self.embedding(tokens) * mask[..., None]
            logits = self.fc(hidden) * scale
            return {"logits": logits, "hidden": hidden} if kind is dict else (logits, hidden)

    model = Net()
    with torch.no_grad():
        model.embedding.weight.copy_(torch.from_numpy(WEIGHTS))
        model.fc.weight.copy_(torch.from_numpy(KERNEL.T))
    return model


def keras_model(kind: type = tuple):
    import keras

    tokens = keras.Input((None,), dtype="int64", name="tokens")
    mask = keras.Input((None,), name="mask")
    hidden = keras.layers.Embedding(11, 6)(tokens) * keras.ops.expand_dims(mask, -1)
    logits = keras.layers.Dense(3, use_bias=False)(hidden)
    outputs = {"hidden": hidden, "logits": logits} if kind is dict else (logits, hidden)
    # Keras sorts the inputs of a dict by name, and keeps those of a list.
    model = keras.Model([mask, tokens], outputs)
    model.set_weights([WEIGHTS, KERNEL])
    return model


INPUTS = {"tokens": TOKENS, "mask": MASK}


@pytest.mark.parametrize("kind", [tuple, dict])
def test_several_inputs_and_outputs(kind, tmp_path):
    """Inputs are given by name, whatever their order; outputs of a dict are paired by name."""
    assert_parity(torch=torch_model(kind=kind), keras=keras_model(kind), inputs=INPUTS)
    np.save(tmp_path / "mask.npy", MASK)
    files = {"tokens": TOKENS, "mask": tmp_path / "mask.npy"}
    assert_parity(torch=torch_model(kind=kind), keras=keras_model(kind), inputs=files)


def test_the_output_that_differs_is_named():
    with pytest.raises(AssertionError) as raised:
        assert_parity(torch=torch_model(1.05, dict), keras=keras_model(dict), inputs=INPUTS)
    message = str(raised.value)
    assert "keras, first at output[logits], shape (2, 4, 3)" in message


def test_tokens_are_never_moved():
    """Ids that were moved by an ulp and cast would make the floor as large as the output."""
    import torch
    from torch import nn

    def build(scale: float) -> nn.Module:
        torch.manual_seed(0)
        embedding = nn.Embedding(11, 4)
        embedding.weight.data *= scale
        return nn.Sequential(embedding, nn.Linear(4, 2))

    import keras

    right, wrong = build(1.0), build(1.05)
    twin = keras.Sequential([keras.Input((None,), dtype="int64"), keras.layers.Embedding(11, 4),
                             keras.layers.Dense(2)])  # fmt: skip
    twin.set_weights([right[0].weight.detach().numpy(), right[1].weight.detach().numpy().T,
                      right[1].bias.detach().numpy()])  # fmt: skip
    assert_parity(torch=right, keras=twin, input=TOKENS)
    with pytest.raises(AssertionError, match="more than 4× the rounding floor"):
        assert_parity(torch=wrong, keras=twin, input=TOKENS)


def test_an_onnx_file_with_several_inputs(tmp_path):
    import torch

    path = tmp_path / "net.onnx"
    arguments = (torch.from_numpy(TOKENS), torch.from_numpy(MASK))
    torch.onnx.export(
        torch_model().eval(), arguments, path, dynamo=False, input_names=["tokens", "mask"],
        output_names=["logits", "hidden"],
    )  # fmt: skip
    assert_parity(torch=torch_model(), onnx=path, inputs=INPUTS)
    assert_parity(torch=torch_model(), onnx=path, inputs=dict(reversed(INPUTS.items())))
    with pytest.raises(AssertionError, match=r"output\[0\]"):
        assert_parity(torch=torch_model(1.01), onnx=path, inputs=INPUTS)
    with pytest.raises(UsageError, match="takes 2 inputs, found 1"):
        assert_parity(torch=torch.nn.Embedding(11, 3), onnx=path, input=TOKENS)


def test_what_does_not_fit():
    import torch

    with pytest.raises(UsageError, match="keras gives 2 outputs, torch 1: output"):
        assert_parity(torch=torch.nn.Bilinear(4, 4, 3), keras=keras_model(), inputs={
            "a": MASK, "b": MASK,
        })  # fmt: skip
    with pytest.raises(UsageError, match="give input="):
        assert_parity(torch=torch_model(), keras=keras_model(), input=TOKENS, inputs=INPUTS)
    with pytest.raises(InputError, match="mask: expected finite numbers"):
        assert_parity(
            torch=torch_model(), keras=keras_model(), inputs={**INPUTS, "mask": MASK * np.nan}
        )


def test_outputs_of_every_form():
    from collections import namedtuple
    from dataclasses import dataclass

    @dataclass
    class Out:
        logits: int
        hidden: object

    found = dict(flatten_outputs({"a": (1, None, [2]), "b": Out(3, namedtuple("P", "x y")(4, 5))}))
    assert found == {
        "output[a][0]": 1,
        "output[a][2][0]": 2,
        "output[b][logits]": 3,
        "output[b][hidden][x]": 4,
        "output[b][hidden][y]": 5,
    }
    assert list(flatten_outputs(7)) == [("output", 7)]
