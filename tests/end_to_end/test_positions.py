"""Faults of positions, of masks and of the parts that are read, named in any framework."""

from __future__ import annotations

import pytest

import parity
from parity.explain import region_search
from parity.explain.graph_layers import FAILED

pytestmark = pytest.mark.framework

ROTARY = """
import torch
import torch.nn.functional as F
from torch import nn


class Rotary(nn.Module):
    def __init__(self, width, base, scale, pairs):
        super().__init__()
        self.register_buffer("inverse", base ** (-torch.arange(0, width, 2) / width) * scale, False)
        self.pairs = pairs

    def forward(self, x):
        angles = torch.arange(x.shape[-2])[:, None].float() * self.inverse
        if self.pairs:
            angles = angles.repeat_interleave(2, -1)
            turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
        else:
            angles = torch.cat([angles, angles], -1)
            first, second = x.chunk(2, -1)
            turned = torch.cat([-second, first], -1)
        return x * angles.cos() + turned * angles.sin()


class Net(nn.Module):
    def __init__(self, base, scale, pairs, masked):
        super().__init__()
        self.embedding = nn.Embedding(30, 16)
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.rotary = Rotary(8, base, scale, pairs)
        self.head = nn.Linear(16, 5)
        self.masked = masked

    def forward(self, ids):
        x = self.embedding(ids)
        if self.masked:
            x = x * (ids != 0).unsqueeze(-1)
        q, k, v = (f(x).unflatten(-1, (2, 8)).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(self.rotary(q), self.rotary(k), v)
        return self.head(x + y.transpose(1, 2).flatten(2))


def net(base=10000.0, scale=1.0, pairs=False, masked=False):
    torch.manual_seed(3)
    return Net(base, scale, pairs, masked), torch.arange(24).reshape(2, 12) % 9
"""

PARTIAL = """
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self, width, base, complex_numbers):
        super().__init__()
        self.embedding = nn.Embedding(30, 16)
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.head = nn.Linear(16, 5)
        self.width, self.base, self.complex_numbers = width, base, complex_numbers

    def turn(self, x):
        x, rest = x[..., : self.width], x[..., self.width :]
        powers = self.base ** (-torch.arange(0, self.width, 2) / self.width)
        angles = torch.arange(x.shape[-2])[:, None].to(x.dtype) * powers.to(x.dtype)
        if self.complex_numbers:
            turns = torch.polar(torch.ones_like(angles), angles)
            pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
            return torch.view_as_real(pairs * turns).flatten(-2)
        a, b = x.chunk(2, -1)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], -1)

    def forward(self, ids):
        x = self.embedding(ids)
        q, k, v = (f(x).unflatten(-1, (2, 8)).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(self.turn(q), self.turn(k), v)
        return self.head(x + y.transpose(1, 2).flatten(2))


def net(width=8, base=10000.0, complex_numbers=False):
    torch.manual_seed(3)
    return Net(width, base, complex_numbers), torch.arange(24).reshape(2, 12) % 9
"""

SLOPES = """
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self, slope, factor, written_out, extra):
        super().__init__()
        self.embedding = nn.Embedding(30, 16)
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.head = nn.Linear(16, 5)
        self.slope, self.factor, self.written_out = slope, factor, written_out
        self.extra = extra

    def forward(self, ids):
        x = self.embedding(ids)
        q, k, v = (f(x).unflatten(-1, (2, 8)).transpose(1, 2) for f in (self.q, self.k, self.v))
        places = torch.arange(ids.shape[1])
        slopes = torch.tensor([2.0**-self.slope, 2.0 ** (-2 * self.slope)])
        bias = -(places[:, None] - places).abs().float() * slopes[:, None, None]
        if self.written_out:
            scores = q @ k.transpose(-1, -2) / 8**0.5 * self.factor
            scores = (scores * 1.00002 if self.extra else scores) + bias
            y = torch.softmax(scores, -1) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.head(x + y.transpose(1, 2).flatten(2))


def net(slope=2, factor=1.5, written_out=True, extra=False):
    torch.manual_seed(3)
    return Net(slope, factor, written_out, extra), torch.arange(24).reshape(2, 12) % 9
"""

LEARNED = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, offset):
        super().__init__()
        self.embedding, self.position = nn.Embedding(30, 16), nn.Embedding(40, 16)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)
        self.offset = offset

    def forward(self, ids):
        x = self.embedding(ids) + self.position(torch.arange(ids.shape[1]) + self.offset)
        return self.head(self.norm(x))


def net(offset=0, seed=3):
    torch.manual_seed(3)
    model = Net(offset)
    torch.manual_seed(seed)
    model.position.reset_parameters()
    return model, torch.arange(24).reshape(2, 12) % 9
"""

KERAS_ROTARY = """
import keras
import numpy as np
from keras import ops


def net(style="neighbours", base=10000.0):
    keras.utils.set_random_seed(1)
    angles = np.arange(12)[:, None] * base ** (-np.arange(0, 8, 2) / 8)
    cos, sin = (f(angles)[None, :, None].astype("float32") for f in (np.cos, np.sin))

    def turn(x):
        if style == "none":
            return x
        if style == "halves":
            a, b = ops.split(x, 2, -1)
            return ops.concatenate([a * cos - b * sin, a * sin + b * cos], -1)
        a, b = x[..., ::2], x[..., 1::2]
        return ops.reshape(ops.stack([a * cos - b * sin, a * sin + b * cos], -1), (-1, 12, 2, 8))

    ids = keras.Input((12,), dtype="int32")
    x = keras.layers.Embedding(30, 16)(ids)
    q, k, v = (ops.reshape(keras.layers.Dense(16)(x), (-1, 12, 2, 8)) for _ in range(3))
    y = ops.reshape(ops.dot_product_attention(turn(q), turn(k), v), (-1, 12, 16))
    return keras.Model(ids, keras.layers.Dense(5)(x + y))
"""

KERAS = """
import keras
import numpy as np
from keras import ops


def net(offset=0, base=10000.0, learned=True):
    keras.utils.set_random_seed(1)
    ids = keras.Input((12,), dtype="int32")
    x = keras.layers.Embedding(30, 16)(ids)
    if learned:
        x = x + keras.layers.Embedding(40, 16)(ops.arange(12) + offset)
    else:
        angles = np.arange(12)[:, None] * base ** (-np.arange(0, 16, 2) / 16)
        x = x + np.concatenate([np.sin(angles), np.cos(angles)], -1).astype("float32")
    return keras.Model(ids, keras.layers.Dense(5)(keras.layers.LayerNormalization()(x)))
"""


def causes(report, subject):
    assert report.verdict == "divergence"
    found = [cause for cause in report.causes if cause.subject == subject]
    assert all(cause.evidence.get("x_floor_after", 99.0) <= 4.0 for cause in found), found
    return {cause.cause: cause.message for cause in found}


@pytest.fixture(scope="module")
def rotary(tmp_path_factory):
    file = tmp_path_factory.mktemp("rotary") / "net.py"
    file.write_text(ROTARY)
    faults = {
        "base": "base=5e5",
        "scale": "scale=0.25",
        "pairs": "pairs=True",
        "pad": "masked=True",
    }
    others = [f"{name}={file}:net,{fault}" for name, fault in faults.items()]
    return parity.compare(f"right={file}:net", *others, export=False)


def test_another_base_of_rotary_positions(rotary):
    (message,) = causes(rotary, "base").values()
    assert "position-frequencies (and rotary.mul#2, rotary.mul#3, rotary.mul#4)" in message
    assert "The frequencies of its positions are 500000^(-i/4), not 10000^(-i/4)" in message


def test_rotary_positions_that_are_scaled(rotary):
    found = causes(rotary, "scale")
    assert set(found) == {"position-frequencies"}
    assert "are 0.25·10000^(-i/4), not 10000^(-i/4)" in found["position-frequencies"]


def test_neighbours_are_turned_where_halves_are(rotary):
    found = causes(rotary, "pairs")
    assert set(found) == {"input-part", "constant-order", "constant-order+input-part"}
    assert "another order: equal ones side by side, not equal ones" in found["constant-order"]
    assert "every 2nd of 1 to 7 and so on of axis 2 of" in found["input-part"]
    assert "where the reference has 4 to 7 and so on" in found["input-part"]


def test_rotary_positions_of_a_part_of_the_width(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(PARTIAL)
    report = parity.compare(
        f"right={file}:net", f"part={file}:net,width=4", f"base={file}:net,base=5e5", export=False
    )
    found = causes(report, "part")
    assert set(found) == {"rotary-positions"}
    assert "turns the features 0 to 3 of 8 by their positions, not 0 to 7" in found.popitem()[1]
    (message,) = causes(report, "base").values()
    assert "The frequencies of its positions are 500000^(-i/4), not 10000^(-i/4)" in message


def test_rotary_positions_by_complex_numbers(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(PARTIAL)
    right = f"{file}:net,complex_numbers=True"
    report = parity.compare(f"right={right}", f"wrong={right},base=500.0", export=False)
    (message,) = causes(report, "wrong").values()
    assert "rotary-positions (and net.py" in message
    assert "are 500^(-i/4), not 10000^(-i/4)" in message


@pytest.mark.slow
def test_rotary_positions_across_frameworks(tmp_path):
    torch_file, keras_file = tmp_path / "net.py", tmp_path / "keras_net.py"
    torch_file.write_text(PARTIAL)
    keras_file.write_text(KERAS_ROTARY)
    right = f"{torch_file}:net,complex_numbers=True"
    report = parity.compare(
        f"torch={right}",
        f"same={keras_file}:net",
        f"halves={keras_file}:net,style=halves",
        f"none={keras_file}:net,style=none",
        f"base={keras_file}:net,base=100.0",
        weights=right,
        export=False,
    )
    assert not [cause for cause in report.causes if cause.subject == "same"]
    assert (
        "turns pairs of halves, not of neighbours" in causes(report, "halves")["rotary-positions"]
    )
    assert "is not turned by positions" in causes(report, "none")["rotary-positions"]
    assert "100^(-i/4), not 10000^(-i/4)" in causes(report, "base")["rotary-positions"]


def test_constants_within_attention(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(SLOPES)
    report = parity.compare(
        f"right={file}:net",
        f"slope={file}:net,slope=3",
        f"factor={file}:net,factor=1.25",
        f"both={file}:net,slope=3,factor=1.25",
        f"extra={file}:net,slope=3,extra=True",
        export=False,
    )
    (message,) = causes(report, "slope").values()
    assert (
        "In its add `add (net.py:24)`, the entries of one axis of its constant are 0.5, 0.25 times"
        in message
    )
    (message,) = causes(report, "factor").values()
    assert "In its mul `mul (net.py:23)`, its constant is 1.25, not 1.5" in message
    assert set(causes(report, "both")) == {"constant", "constant-factor"}
    (message,) = causes(report, "extra").values()
    assert "The bias that is added to its scores is 0.5, 0.25 times the reference's" in message
    assert "are multiplied by 0.53034" in message, "by one operation too many"
    assert not [note for note in report.notes if "was not explained" in note]


def test_a_constant_mask_of_attention(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(SLOPES)
    right = f"{file}:net,written_out=False"
    report = parity.compare(f"right={right}", f"wrong={right},slope=3", export=False)
    (message,) = causes(report, "wrong").values()
    assert "The bias that is added to its scores is 0.5, 0.25 times the reference's" in message


def test_a_mask_of_padding_that_one_side_has(rotary):
    found = causes(rotary, "pad")
    assert set(found) == {"input-masked"}
    assert "a mask, which is 0 at 3 of 24" in found["input-masked"]


def test_positions_that_are_counted_from_one(tmp_path):
    file, exported = tmp_path / "net.py", tmp_path / "net.onnx"
    file.write_text(LEARNED)
    parity.export(f"{file}:net,offset=1", exported)
    report = parity.compare(
        f"right={file}:net",
        f"wrong={file}:net,offset=2",
        f"other={file}:net,seed=4",
        f"file={exported}",
        export=False,
    )
    assert "weights `position.weight` is another" in causes(report, "other")["other-weights"]
    assert "what the reference has 2 after it" in causes(report, "wrong")["constant-offset"]
    assert "what the reference has 1 after it" in causes(report, "file")["constant-offset"]


@pytest.mark.slow
def test_positions_of_keras_models(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(KERAS)
    report = parity.compare(f"right={file}:net", f"wrong={file}:net,offset=1", export=False)
    assert "what the reference has 1 after it" in causes(report, "wrong")["constant-offset"]
    sines = f"{file}:net,learned=False"
    report = parity.compare(f"right={sines}", f"wrong={sines},base=1000.0", export=False)
    assert "1000^(-i/8), not 10000^(-i/8)" in causes(report, "wrong")["position-frequencies"]


def test_what_fails_in_explaining_is_a_note(tmp_path, monkeypatch):
    from parity.explain import diagnosis

    def fail(*arguments, **options):
        raise IndexError("no such thing\nmore")

    monkeypatch.setattr(diagnosis, "explain_layer", fail)
    monkeypatch.setattr(region_search, "MAX_ROWS", 0)
    file = tmp_path / "net.py"
    file.write_text(LEARNED)
    report = parity.compare(f"right={file}:net", f"wrong={file}:net,offset=1", export=False)
    assert report.verdict == "divergence"
    (cause,) = report.causes
    assert cause.cause == "not-explained"
    # The text of an error in the code says nothing to who compares models.
    assert f"{cause.layer} of wrong was not explained: {FAILED}" in report.notes


def test_a_row_whose_explanation_fails_leaves_the_others(tmp_path, monkeypatch):
    from parity.explain import diagnosis

    explain = diagnosis.explain_layer

    def fail_for_one(layer, **options):
        if layer.subject == "first":
            raise IndexError("no such thing")
        return explain(layer, **options)

    monkeypatch.setattr(diagnosis, "explain_layer", fail_for_one)
    monkeypatch.setattr(region_search, "MAX_ROWS", 0)
    file = tmp_path / "net.py"
    file.write_text(LEARNED)
    others = [f"{name}={file}:net,offset=1" for name in ("first", "second")]
    report = parity.compare(f"right={file}:net", *others, export=False)
    assert {each.subject: each.cause for each in report.causes} == {
        "first": "not-explained",
        "second": "constant-offset",
    }
