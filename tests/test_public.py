"""The public functions: complete signatures, docstrings that can be relied on, no framework."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import parity as api
from parity.commands import capture as capturing
from parity.commands import compare as comparing
from parity.commands import values
from parity.commands.cli import command, request_options
from parity.comparison.request import Request
from parity.errors import InterpreterError, UsageError
from parity.testing import assert_parity
from parity.version import __version__

ROOT = Path(__file__).resolve().parent.parent

FUNCTIONS = [
    "bisect", "capture", "check", "compare", "convert", "diff", "evaluate", "export", "history",
    "predict", "sweep", "train", "warm",
]  # fmt: skip
OF_ANY_MODELS = {"models", "inputs", "shapes", "export", "trust", "custom_objects"}
"""What a comparison of any models takes beside."""
JUDGING = {
    *("limit", "judge_as", "isolate", "explain", "semantics", "repeat", "seeds", "stress"),
    *("save_captures", "labels"),
}


def parameters(name):
    return inspect.signature(getattr(api, name)).parameters


def fields():
    """What a comparison can be asked for, and what it is by default."""
    found = {}
    for field in dataclasses.fields(Request):
        if field.init:
            default = field.default
            if default is dataclasses.MISSING:
                default = field.default_factory()
            found[field.name] = default
    # What is not judged is what `capture` is for.
    found.pop("judge")
    return found


# Names, types and words


def test_all_are_listed_and_found():
    assert set(FUNCTIONS) < set(api.__all__) <= set(dir(api))
    assert all(getattr(api, name) is not None for name in api.__all__)
    with pytest.raises(AttributeError, match="module 'parity' has no attribute 'compair'"):
        _ = api.compair


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_typed_and_explained(name):
    function = getattr(api, name)
    found = parameters(name)
    text = inspect.getdoc(function)
    kinds = {
        each.kind
        for each in found.values()
        if each.name not in ("models", "images", "lock_files", "runtimes")
    }
    assert kinds <= {
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    }
    assert all(each.annotation is not inspect.Parameter.empty for each in found.values())
    assert inspect.signature(function).return_annotation is not inspect.Signature.empty
    assert "Raises" in text
    described = text
    if name == "capture":
        assert "The other parameters are those of `parity.compare`." in text
        described += inspect.getdoc(api.compare)
    for parameter in found:
        assert re.search(rf"\b{parameter}\b", described), parameter


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_example_calls_what_there_is(name):
    """Each call of its example has a function's parameters; attributes are the result's."""
    text = inspect.getdoc(getattr(api, name))
    code = "\n".join(re.findall(r"^ *>>> (.*)$", text.partition("Example:")[2], re.MULTILINE))
    called = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("parity."):
            function = getattr(api, ast.unparse(node.func).removeprefix("parity."))
            keywords = {word.arg: ast.literal_eval(word.value) for word in node.keywords}
            inspect.signature(function).bind(*map(ast.literal_eval, node.args), **keywords)
            called.add(function.__name__)
    assert name in called


@pytest.mark.parametrize("name", FUNCTIONS)
def test_help_shows_it(name):
    code = f"import parity; help(parity.{name}); help(parity)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.count(f"{name}(") >= 2, done.stderr
    assert "options" not in parameters(name)


@pytest.mark.slow
def test_a_type_checker_sees_the_types(tmp_path):
    file = tmp_path / "user.py"
    file.write_text(
        "import parity\n"
        "report: parity.Report = parity.compare('resnet18', image_size=(32, 48))\n"
        "size: int = parity.export('resnet18', 'r.onnx', side='keras').bytes\n"
        "parity.compare('resnet18', bach=3)\n"
        "parity.check().ok.upper()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", file],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    found = re.findall(r"user\.py:(\d+): error: (.*)", done.stdout)
    assert [line for line, _ in found] == ["4", "5"], done.stdout + done.stderr
    assert 'Unexpected keyword argument "bach"' in found[0][1]
    assert '"bool" has no attribute "upper"' in found[1][1]


# What can be asked for, in Python and on the command line


def test_compare_takes_what_a_request_has():
    found = {name: each.default for name, each in parameters("compare").items()}
    assert found.pop("progress") is None
    # These two defaults are made anew for each request.
    assert (found["python"], found["subjects"]) == (None, None)
    found = {name: each for name, each in found.items() if name not in OF_ANY_MODELS}
    assert {
        **found,
        **dict.fromkeys(("model", "keras", "torch", "onnx_keras", "onnx_torch")),
        "python": {},
        "subjects": values.parse_subjects(None),
    } == fields()


def test_capture_takes_what_compare_does_but_for_judging():
    found, compared = parameters("capture"), parameters("compare")
    assert set(compared) - set(found) == JUDGING
    own = set(found) - set(compared)
    assert own == {"out", "polygraphy"}
    same = found.keys() - own
    assert all(compared[name] == found[name] for name in same)


def options(name):
    """A command's parameters, without its reports."""
    (call,) = (
        c.call for c in command.find_commands() if getattr(c.call, "__name__", c.name) == name
    )
    found = {each for each in inspect.signature(call).parameters if "report_" not in each}
    if name in ("compare", "capture"):
        # `--input NAME=FILE` is `inputs`, `--shape` is `shapes`, and the arguments are `models`.
        found = found - {"references", "shape"} | {"models", "inputs", "shapes"}
    return found


@pytest.mark.parametrize("name", ["compare", "capture", "diff"])
def test_the_command_line_takes_the_same(name):
    assert options(name) == set(parameters(name)) - {"progress"}


def test_the_command_line_has_the_same_defaults():
    shared = inspect.signature(request_options._shared_options).parameters
    given = {name: each.default for name, each in shared.items()}
    request = request_options.build_request(given, ("resnet18",))
    assert request == Request(model="resnet18", python=request.python)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("train", ["train"]),
        ("evaluate", ["evaluate", "predict"]),
        ("compare", ["compare", "diff"]),
    ],
)
def test_each_option_has_the_default_of_its_parameter(module, names):
    commands = importlib.import_module(f"parity.commands.cli.{module}")
    for name in names:
        own = inspect.signature(getattr(commands, name)).parameters
        for option, parameter in parameters(name).items():
            # The function takes objects for these.
            if option not in own or option in ("schedule", "early_stopping"):
                continue
            defaults = own[option].default, parameter.default
            if inspect.Parameter.empty in defaults:
                continue
            # An option that is not given is None or "", a parameter may be ().
            expected, found = (None if each in ("", ()) else each for each in defaults)
            assert found == expected, f"{name}: {option}"


@pytest.fixture
def asked(monkeypatch):
    """The requests that `compare` and `capture` make, which are not run."""
    found = []

    def record(request, *, progress):
        found.append(request)

    monkeypatch.setattr(comparing, "compare_request", record)
    monkeypatch.setattr(capturing, "capture_request", record)
    return found


def test_compare_and_capture_ask_for_what_they_are_given(asked, tmp_path):
    array = np.zeros((2, 3, 32, 48), np.float32)
    shared = {
        "table": "t.csv",
        "classes": 7,
        "image_size": (32, 48),
        "channels": 1,
        "weights": "w.pth",
        "input": array,
        "batch": 2,
        "preprocess": "scale",
        "seed": 3,
        "subjects": "keras, torch@old",
        "reference": "keras",
        "depth": "layer",
        "opset": 18,
        "timeout": 7.0,
        "cache": False,
        "device": "cpu",
        "precision": "bfloat16",
        "python": {"old": sys.executable},
        "keras_backend": "jax",
        "xla": True,
        "serial": True,
    }
    judged = {
        "limit": 2.0,
        "semantics": True,
        "explain": False,
        "repeat": 2,
        "seeds": 4,
        "stress": True,
        "judge_as": "float16",
        "labels": "names.txt",
        "save_captures": "kept",
    }
    models = ("resnet18", "keras=a:b", "torch=c:d", "onnx-keras=k.onnx", "onnx-torch=t.onnx")
    api.compare(*models, **shared, **judged)
    api.capture(*models, **shared, out="kept")
    compared, captured = asked
    expected = {
        **shared,
        "table": Path("t.csv"),
        "keras": "a:b",
        "torch": "c:d",
        "onnx_keras": Path("k.onnx"),
        "onnx_torch": Path("t.onnx"),
        "subjects": ("keras", "torch@old"),
        "model": "resnet18",
        "labels": Path("names.txt"),
        "save_captures": Path("kept"),
    }
    for request, more in ((compared, judged), (captured, {"judge": False, "labels": None})):
        values_expected = {**judged, **expected} if more is judged else {**expected, **more}
        for name, value in values_expected.items():
            found = getattr(request, name)
            assert found is value if name == "input" else found == value, name
    # Every field was given another value than its default, but for the one that --xla forbids.
    same = {name for name, value in fields().items() if getattr(compared, name) is value}
    assert same == {"isolate"}
    with pytest.raises(UsageError, match="--isolate cannot feed"):
        api.compare("resnet18", xla=True, isolate=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (32, (32, 32)),
        ("32", (32, 32)),
        ("32x48", (32, 48)),
        ("32X48", (32, 48)),
        ((32, 48), (32, 48)),
        ([32, 48], (32, 48)),
        (np.array([32, 48]).tolist(), (32, 48)),
    ],
)
def test_an_image_size(value, expected):
    assert values.parse_image_size(value) == expected


@pytest.mark.parametrize("value", ["", "x", "1x2x3", (1, 2, 3), (), 1.5, True, "-1", -1, (1, -1)])
@pytest.mark.parametrize("name", ["compare", "capture"])
def test_an_image_size_that_is_none(name, value, asked):
    with pytest.raises(UsageError, match="image-size: expected N or HxW") as caught:
        getattr(api, name)(
            "resnet18", image_size=value, **({"out": "x"} if name == "capture" else {})
        )
    assert str(value)[:3] in str(caught.value)
    assert not asked


def test_an_image_size_is_checked_everywhere(tmp_path):
    source = tmp_path / "a.pth"
    source.touch()
    with pytest.raises(UsageError, match="expected N or HxW"):
        api.convert("resnet18", source, tmp_path / "b.pth", image_size="x")
    with pytest.raises(UsageError, match="expected N or HxW"):
        api.export("resnet18", tmp_path / "b.onnx", side="torch", image_size="x")
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    "subjects", ["keras,torch", " keras , torch,", ("keras", "torch"), ["keras", "torch"]]
)
def test_subjects(subjects, asked):
    api.compare("resnet18", subjects=subjects)
    assert asked[0].subjects == ("keras", "torch")


def test_interpreters_are_found_as_on_the_command_line(asked, tmp_path, monkeypatch):
    """The folder of an environment will do, and parity.toml in the working folder is read."""
    (tmp_path / "env" / "bin").mkdir(parents=True)
    python = tmp_path / "env" / "bin" / "python"
    python.touch()
    (tmp_path / "parity.toml").write_text('[environments]\nold = "env"\ntorch = "env"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARITY_ENVIRONMENTS", str(tmp_path / "none"))
    api.compare("resnet18", python={"torch": sys.executable, "keras": tmp_path / "env"})
    assert asked[0].python == {"old": str(python), "torch": sys.executable, "keras": str(python)}
    with pytest.raises(InterpreterError, match="no such interpreter"):
        api.compare("resnet18", python={"keras": "no/such/python"})


def test_diff_refuses_a_limit_that_is_none(tmp_path):
    for limit in (0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="--limit must be above 0"):
            api.diff(tmp_path, tmp_path, limit=limit)


# The version


def test_the_version_has_one_home():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    dynamic = project["tool"]["setuptools"]["dynamic"]
    assert dynamic == {"version": {"attr": "parity.version.__version__"}}
    assert api.__version__ == __version__
    texts = {
        str(path.relative_to(ROOT)): path.read_text()
        for package in ("parity", "exporters")
        for path in (ROOT / package).rglob("*.py")
    }
    written = [name for name, text in texts.items() if re.search(r"(?m)^__version__ *=", text)]
    assert written == ["parity/version.py"]
    # The public face is imported for the public functions alone.
    face = r"\bparity\.__version__|from parity import .*__version__"
    assert [name for name, text in texts.items() if re.search(face, text)] == []


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"table": "t.csv"}, "there is a model already: 'resnet18'"),
        ({"xla": True}, "--xla belongs to one registered architecture"),
        ({"serial": True}, "--serial belongs to one registered architecture"),
        ({"classes": 7}, "--classes: several models are compared"),
        ({"channels": 1}, "--channels: several models are compared"),
    ],
)
def test_no_option_of_several_models_is_ignored(option, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        api.compare("resnet18", "resnet34", **option)
    with pytest.raises(UsageError, match=message):
        api.capture("resnet18", "resnet34", out=tmp_path, **option)


@pytest.mark.parametrize("models", [(3,), (object(), object()), ("resnet18", object())])
def test_a_live_model_is_no_reference(models):
    with pytest.raises(
        UsageError, match=r"found a \w+; live models are compared by .*assert_parity"
    ):
        api.compare(*models)
    with pytest.raises(UsageError, match=r"found a \w+; live models"):
        assert_parity(*models)


def test_a_path_is_a_reference(tmp_path):
    with pytest.raises(UsageError, match="no such file or folder"):
        api.compare(tmp_path / "a.onnx", tmp_path / "b.onnx")
