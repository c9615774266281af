"""Model references are parsed, refused and named, and nothing that they name is run."""

from __future__ import annotations

import io
import string
import zipfile
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.errors import ArchitectureError, UsageError
from parity.network import architectures
from parity.processes.references import (
    ModelReference,
    format_reference,
    name_subjects,
    parse_reference,
    registered_spec,
    split_name,
)
from parity.processes.script_imports import guess_script_runtime

HDF5 = b"\x89HDF\r\n\x1a\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test works in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def archive(*members):
    """The bytes of a zip file with empty members of these names."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as out:
        for member in members:
            out.writestr(member, b"")
    return stream.getvalue()


TORCHSCRIPT = archive("m/data.pkl", "m/code/__torch__.py", "m/constants.pkl", "m/version")
EXPORTED = archive("m/archive_format", "m/models/model.json")
STATE_DICT = archive("m/data.pkl", "m/data/0", "m/version")
KERAS = archive("metadata.json", "config.json", "model.weights.h5")


# Forms


def test_a_registered_name_with_sizes():
    reference = parse_reference("resnet50,classes=10,image_size=(32,64)")
    assert (reference.form, reference.target, reference.runtime) == ("registered", "resnet50", None)
    spec = registered_spec(reference)
    assert (spec.classes, spec.image_size) == (10, (32, 64))
    assert registered_spec(parse_reference("resnet50,image_size=48")).image_size == (48, 48)


@pytest.mark.parametrize("name", [*architectures.names(), *architectures.variants()])
def test_every_registered_name_is_a_reference(name):
    reference = parse_reference(name)
    assert (reference.form, reference.target) == ("registered", name)


def test_code(folder):
    (folder / "nets").mkdir()
    (folder / "nets/a.py").touch()
    script = parse_reference("nets/a.py:Net,3,num_classes=10,name=it's")
    assert (script.form, script.target, script.attribute) == ("script", "nets/a.py", "Net")
    assert script.arguments == (3,)
    assert script.options == {"num_classes": 10, "name": "it's"}
    module = parse_reference("pkg.net:Factory.build")
    assert (module.form, module.target, module.attribute) == ("module", "pkg.net", "Factory.build")
    assert script.runtime is module.runtime is None


@pytest.mark.parametrize(
    ("name", "content", "runtime"),
    [
        ("a.onnx", b"\x08", "onnx"),
        ("a.keras", KERAS, "keras"),
        ("a.h5", HDF5, "keras"),
        ("a.pt", TORCHSCRIPT, "torch"),
        ("a.pt2", EXPORTED, "torch"),
        ("a.pth", EXPORTED, "torch"),
        ("with,comma=1:x.onnx", b"\x08", "onnx"),
    ],
)
def test_a_file(folder, name, content, runtime):
    (folder / name).write_bytes(content)
    reference = parse_reference(name)
    assert (reference.form, reference.target, reference.runtime) == ("file", name, runtime)
    assert split_name(name) == (None, name)


def test_a_saved_model_folder(folder):
    (folder / "exported").mkdir()
    (folder / "exported/saved_model.pb").touch()
    assert parse_reference("exported").runtime == "keras"


def test_a_zoo(folder):
    (folder / "bert").mkdir()
    (folder / "bert/config.json").touch()
    (folder / "w.h5").touch()
    model = parse_reference("keras:ResNet50,weights=w.h5")
    assert (model.form, model.zoo, model.target) == ("zoo", "keras", "ResNet50")
    assert model.runtime == "keras"
    assert model.options == {"weights": "w.h5"}
    assert parse_reference("timm:resnet50.a1_in1k").target == "resnet50.a1_in1k"
    assert parse_reference("hf:bert").stem == "bert"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10), ("1e-5", 1e-5), ("True", True), ("None", None), ("relu", "relu"),
        ("'a,b'", "a,b"), ("(3, 224)", (3, 224)), ("[1,[2,3]]", [1, [2, 3]]),
        ("{'a':1,'b':2}", {"a": 1, "b": 2}), ("3x224x224", "3x224x224"), ("(copy).h5", "(copy).h5"),
        ("-1", -1), ("a=b", "a=b"), ("1e999", "1e999"),
    ],
)  # fmt: skip
def test_the_value_of_an_option(text, value):
    assert parse_reference(f"m:f,x={text},last=1").options == {"x": value, "last": 1}


# What is refused, in one line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty model reference"),
        ("  ", "an empty model reference"),
        ("a\0b.onnx", "not a model reference"),
        ("x" * 5000, "not a model reference"),
        ("resnet5O", "unknown model 'resnet5O'; did you mean 'resnet50'"),
        ("kera", "did you mean 'keras:NAME'"),
        ("zzzzzz", "unknown model 'zzzzzz'; give a name that `parity models` lists, module:NAME"),
        ("resnet50,clases=3", "unknown option 'clases'; did you mean 'classes'?"),
        ("resnet50,3", "an option of a registered model is NAME=VALUE"),
        ("resnet50,image_size=big", "expected whole numbers"),
        ("resnet50,image_size=(1,2,3)", r"expected whole numbers, and image_size=N or \(H, W\)"),
        ("nope.onnx", "nope.onnx: no such file or folder"),
        ("no/such", "no/such: no such file or folder"),
        ("nope.py:f", "nope.py: no such file"),
        ("net:", "'net:': expected the name of a model after the colon, found none"),
        ("a.b:1x", "expected the name of a model after the colon, found '1x'"),
        ("a.py", "name the model in it: a.py:NAME"),
        ("a.py:", "expected the name of a model after the colon, found none; define one of Net, f"),
        ("a.py:3", "found '3'"),
        (
            "a-b:f",
            "'a-b' is no module and no zoo; expected module:NAME, file.py:NAME or one of hf:",
        ),
        ("a.txt:f", "'a.txt' is not a Python file; expected module:NAME"),
        ("a.txt", r"expected a model file \(\.keras .* found the suffix '.txt'"),
        ("./a.txt", r"expected a model file \(\.keras .* found the suffix '.txt'"),
        ("empty.onnx", "empty.onnx: is empty"),
        ("text.keras", "not a Keras model: neither an HDF5 file nor a Keras archive"),
        ("text.h5", "not a Keras model"),
        ("zip.keras", "not a Keras model"),
        ("text.pt", "not a PyTorch file: no zip file and no pickle"),
        ("zip.pt", "not a PyTorch file: a zip file without a model"),
        ("cut.pt", "is damaged: a zip file without its end"),
        ("state.pt", "holds weights and no model; give file.py:NAME,weights=state.pt"),
        ("old.pth", "holds weights and no model"),
        ("w.safetensors", "holds weights and no model"),
        ("w.weights.h5", "holds weights and no model"),
        ("plain", "plain: is a folder without saved_model.pb, so not a SavedModel"),
        ("hub", "hub: is a transformers folder; write hf:hub"),
        ("good.onnx,a=1", "a model file takes no options"),
        ("keras:", "expected keras:NAME, found no name"),
        ("hf:", "expected hf:FOLDER, found no folder"),
        ("hf:nowhere", "no folder 'nowhere'; nothing is downloaded"),
        (f"hf:{'b' * 300}", "no folder 'bbb"),
        ("hf:plain", "the folder has no config.json"),
        ("keras:ResNet50,3", "an option of a zoo's model is NAME=VALUE"),
        ("keras:ResNet50,weights=imagenet", "no such file 'imagenet'; nothing is downloaded"),
        ("keras:ResNet50,weights=3", "expected weights=FILE, found 3"),
        ("m:f,", "an option without a value"),
        ("m:f,a=", "an option without a value"),
        ("m:f,a=1,2", "the positional option 2 follows one with a name"),
        ("m:f,a=1,a=2", "the option 'a' is given twice"),
        ("m:f,a-b=1", "'a-b' cannot be the name of an option"),
    ],
)
def test_a_reference_that_names_nothing(folder, text, message):
    (folder / "a.py").write_text("class Net: ...\ndef f(): ...\n")
    for name in ("text.keras", "text.h5", "text.pt", "a.txt"):
        (folder / name).write_text("some text")
    for name in ("zip.keras", "zip.pt"):
        (folder / name).write_bytes(archive("other"))
    for name in ("w.safetensors", "w.weights.h5", "empty.onnx"):
        (folder / name).touch()
    (folder / "good.onnx").write_bytes(b"\x08")
    (folder / "cut.pt").write_bytes(TORCHSCRIPT[:-30])
    (folder / "state.pt").write_bytes(STATE_DICT)
    (folder / "old.pth").write_bytes(b"\x80\x02")
    for name in ("plain", "hub"):
        (folder / name).mkdir()
    (folder / "hub/config.json").touch()
    with pytest.raises(UsageError, match=message) as caught:
        parse_reference(text)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_impossible_sizes_are_the_architecture_s_error():
    with pytest.raises(ArchitectureError):
        parse_reference("resnet50,classes=0")


def test_nothing_is_run_or_unpickled(folder):
    (folder / "a.py").write_text("raise SystemExit(3)")
    (folder / "b.pt").write_bytes(b"\x80\x04cos\n_exit\n(K\x07tR.")
    assert parse_reference("a.py:f").form == "script"
    assert guess_script_runtime(parse_reference("a.py:f")) is None
    with pytest.raises(UsageError, match="holds weights"):
        parse_reference("b.pt")


# Text and JSON

WORDS = st.text(string.ascii_letters + string.digits + "_.-/'(", min_size=1, max_size=8)
SCALARS = st.one_of(
    st.integers(), st.booleans(), st.none(), WORDS, st.text(max_size=8),
    st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(WORDS, inner, max_size=3),
    ),
    max_leaves=6,
)
NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
DOTTED = st.lists(NAMES, min_size=1, max_size=3).map(".".join)
MODULES = DOTTED.filter(lambda name: name not in ("hf", "keras", "timm", "torchvision"))


@given(
    MODULES.filter(lambda name: not name.endswith(".py")),
    DOTTED,
    st.lists(VALUES, max_size=3),
    st.dictionaries(NAMES, VALUES, max_size=3),
)
def test_a_formatted_reference_is_parsed_to_the_same(module, attribute, arguments, options):
    reference = ModelReference(
        "", "module", module, attribute, arguments=tuple(arguments), options=options
    )
    text = format_reference(reference)
    parsed = parse_reference(text)
    assert parsed == replace(reference, text=text)
    # A bool is not an integer, nor a float.
    assert repr(parsed.options) == repr(options)
    assert ModelReference.from_json(parsed.to_json()) == parsed


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused(text):
    message = ""
    try:
        parse_reference(text)
        name, reference = split_name(text)
        assert text.endswith(reference)
        assert name is None or text.startswith(name)
    except (UsageError, ArchitectureError) as error:
        message = str(error)
    assert "\n" not in message


# Names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("new=net.py:f", ("new", "net.py:f")),
        ("a-b_2=resnet50", ("a-b_2", "resnet50")),
        ("net.py:f,num_classes=10", (None, "net.py:f,num_classes=10")),
        ("keras:ResNet50,weights=F", (None, "keras:ResNet50,weights=F")),
        ("resnet50,classes=10", (None, "resnet50,classes=10")),
        ("new=net.py:f,n=3", ("new", "net.py:f,n=3")),
        ("runs/lr=3/model.onnx", (None, "runs/lr=3/model.onnx")),
        ("resnet50", (None, "resnet50")),
    ],
)
def test_a_name_is_split_off(text, expected):
    assert split_name(text) == expected


@pytest.mark.parametrize("text", ["=net", "a.b=net", "ä=net", "a b=net", "a@gpu=net", "a="])
def test_a_name_of_other_characters_is_refused(text):
    with pytest.raises(UsageError, match="expected"):
        split_name(text)


def names(*texts, runtimes):
    pairs = [split_name(text) for text in texts]
    return name_subjects(
        [(name, parse_reference(reference)) for name, reference in pairs], runtimes
    )


def test_the_default_names_of_subjects(folder):
    for name in ("a.onnx", "b.onnx", "odd name.onnx"):
        (folder / name).write_bytes(b"\x08")
    (folder / "sub").mkdir()
    (folder / "sub/a.onnx").write_bytes(b"\x08")
    assert names("keras:VGG16", "m:f", "a.onnx", runtimes=["keras", "torch", "onnx"]) == (
        "keras", "torch", "onnx",
    )  # fmt: skip
    assert names("resnet50", "resnet50", runtimes=["keras", "torch"]) == ("keras", "torch")
    assert names("m:f", "p.q:A.build", runtimes=["torch"] * 2) == ("f", "build")
    assert names("a.onnx", "sub/a.onnx", "b.onnx", runtimes=["onnx"] * 3) == ("a", "a-2", "b")
    assert names("odd name.onnx", "a.onnx", runtimes=["onnx"] * 2) == ("odd-name", "a")
    assert names("a=m:f", "m:a", "m:g", runtimes=["torch"] * 3) == ("a", "a-2", "g")
    assert names("new=m:f", runtimes=["torch"]) == ("new",)


def test_no_default_name_is_that_of_an_export(folder):
    for name in ("onnx-torch.onnx", "b.onnx"):
        (folder / name).write_bytes(b"\x08")
    found = names("m:f", "onnx-torch.onnx", "b.onnx", runtimes=["torch", "onnx", "onnx"])
    assert found == ("torch", "onnx-torch-2", "b")


def test_one_name_for_two_subjects_is_refused():
    with pytest.raises(UsageError, match="two subjects are called 'a'"):
        names("a=m:f", "a=m:g", runtimes=["torch", "keras"])


# The framework of a script


@pytest.mark.parametrize(
    ("source", "runtime"),
    [
        ("import torch\ndef f(): ...", "torch"),
        ("from torch import nn\nclass f(nn.Module): ...", "torch"),
        ("import keras\nf = keras.Sequential()", "keras"),
        ("import tensorflow as tf\ndef f(): ...", "keras"),
        ("from torchvision.models import resnet18 as f", "torch"),
        ("import torch, keras\ndef f(): return keras.Model()", "keras"),
        (
            "import torch\nimport keras\ndef g(): return torch.nn.ReLU()\ndef f(): return g()",
            "torch",
        ),
        ("def f():\n    import torch\ndef g():\n    import keras", "torch"),
        ("import torch, keras\ndef f(): ...", None),
        ("import numpy\ndef f(): ...", None),
        ("from blocks import f", "torch"),
        ("from .blocks import f", "torch"),
        ("import onnx\ndef f(): ...", None),
        ("def f(:", None),
        ("x = 1\0", None),
    ],
)
def test_the_runtime_of_a_script_is_read_from_its_imports(folder, source, runtime):
    (folder / "net.py").write_text(source)
    (folder / "blocks.py").write_text("import torch\ndef f(): ...\n")
    assert guess_script_runtime(parse_reference("net.py:f")) == runtime
    assert guess_script_runtime(parse_reference("net:f")) == runtime


def test_the_runtime_of_other_forms(folder):
    (folder / "latin.py").write_bytes(b'x = "\xe9"\nimport torch\n')
    assert guess_script_runtime(parse_reference("latin.py:f")) is None
    assert guess_script_runtime(parse_reference("torchvision.models:resnet18")) == "torch"
    assert guess_script_runtime(parse_reference("no_such_module:f")) is None
    assert guess_script_runtime(parse_reference("keras:ResNet50")) == "keras"
    assert guess_script_runtime(parse_reference("resnet50")) is None
