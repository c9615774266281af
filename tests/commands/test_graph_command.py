"""The command that repeats a comparison of any models: the command line reads it to the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from parity.commands import compare_graphs
from parity.commands.cli import main as cli
from parity.commands.graph_command import format_graph_command
from parity.comparison.graphs.request import GraphRequest
from parity.errors import UsageError


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("import torch\ndef build(): ...\ndef other(): ...\n")
    (tmp_path / "a b.onnx").write_bytes(b"\x08\x08")
    (tmp_path / "pairs.csv").write_text("reference,other\n")


@pytest.fixture
def read_back(monkeypatch):
    """Return the request that the command line makes of a command."""
    found = []

    def stop(request, **options):
        found.append(request)
        raise UsageError("enough")

    monkeypatch.setattr(compare_graphs, "compare_graphs", stop)

    def read(command):
        assert command[0] == "parity"
        assert cli.main(list(command[1:])) == 2
        return found.pop()

    return read


FIELDS = {
    "weights": "net.py:other",
    "input": "photo.jpg",
    "inputs": {"tokens": "tokens.npy", "mask": "m.npy"},
    "shapes": {"x": (1, 3, 8, 8), "y": (2,)},
    "batch": 3,
    "seed": 7,
    "subjects": ("one@cpu", "two"),
    "reference": "two",
    "depth": "layer",
    "limit": 2.5,
    "isolate": True,
    "semantics": True,
    "explain": False,
    "export": False,
    "repeat": 3,
    "seeds": 2,
    "stress": True,
    "trust": ("a.pt2", "saved"),
    "custom_objects": "custom.py",
    "table": Path("pairs.csv"),
    "image_size": (64, 96),
    "opset": 18,
    "timeout": 12.0,
    "device": "cpu",
    "precision": "bfloat16",
    "preprocess": "scale",
    "labels": Path("names.txt"),
    "judge_as": "float32",
    "cache": False,
}

MODELS = ("one=net.py:build,3,name='a,b'", "two=a b.onnx")


@pytest.mark.parametrize("name", FIELDS)
def test_every_option_is_in_the_command(read_back, name):
    request = GraphRequest(references=MODELS, **{name: FIELDS[name]})
    assert read_back(format_graph_command(request)) == request


def test_all_options_together(read_back):
    request = GraphRequest(references=MODELS, **FIELDS)
    assert read_back(format_graph_command(request)) == request


def test_every_field_is_tested():
    """An option that is added must be in the command too."""
    names = {field.name for field in dataclasses.fields(GraphRequest)}
    assert names - set(FIELDS) == {
        *("references", "python", "keras_backend", "judge", "save_captures"),
        # `parity bisect` alone sets it.
        "environments",
        # An architecture alone has these: the next test.
        *("classes", "channels"),
    }


def test_the_sizes_of_an_architecture_are_in_the_command(read_back):
    request = GraphRequest(references=("vit_tiny_patch16_224",), classes=5, channels=1)
    assert read_back(format_graph_command(request)) == request


def test_no_command_holds_an_array():
    array = np.zeros((1, 3), np.float32)
    assert format_graph_command(GraphRequest(references=MODELS, input=array)) == ()
    assert format_graph_command(GraphRequest(references=MODELS, inputs={"x": array})) == ()
    assert format_graph_command(GraphRequest(references=MODELS)) == ("parity", "compare", *MODELS)
