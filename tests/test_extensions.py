"""An extension is one file or folder that is dropped in: found without a list, used as any other.

The toys are put into a copy of the source, so that child processes see them too. Layer kinds are
tested in network/kinds, runtimes in processes.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from parity.commands.cli import command
from parity.errors import UsageError
from parity.explain import causes, diagnosis
from parity.explain.proof.layer import evaluate
from parity.network import architectures
from parity.network.table import LayerTable
from parity.report import formats
from tests import toys
from tests.explain import samples
from tests.report.samples import divergence, parity

NAME = r"[a-z0-9]+(-[a-z0-9]+)+"

ROOT = Path(__file__).resolve().parent.parent

MUTATED = """
import keras
from keras import layers, ops

from parity.network import architectures
from parity.network.models.toy import keras as twin


class Shifted(layers.ReLU):
    def call(self, inputs):
        return ops.roll(super().call(inputs), 1, axis=2)


def build():
    def clone(layer):
        made = Shifted if isinstance(layer, layers.ReLU) else type(layer)
        return made.from_config(layer.get_config())

    return keras.models.clone_model(twin.build(architectures.get("toy")), clone_function=clone)
"""


class Tree:
    """A copy of the source with every toy in it, and Python in a process that imports it."""

    def __init__(self, folder):
        self.folder = folder
        for package in ("parity", "exporters"):
            shutil.copytree(
                ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        for name, place in toys.DROPPED.items():
            toy, target = toys.FOLDER / name, folder / place
            assert not target.exists()
            if toy.is_dir():
                shutil.copytree(toy, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(toy, target)
        (folder / "mutated.py").write_text(MUTATED)

    def python(self, *arguments):
        """Run Python; return its exit code, standard output and standard error."""
        env = {
            **os.environ,
            "PYTHONPATH": str(self.folder),
            "PARITY_CACHE": str(self.folder / "cache"),
        }
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True, text=True, env=env, cwd=self.folder, timeout=300,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def command(self, *arguments):
        """Run `parity`; it must end well. Return its standard output."""
        code, out, err = self.python("-m", "parity.commands.cli.main", *arguments)
        assert code == 0, err
        return out


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return Tree(tmp_path_factory.mktemp("tree"))


def dropped_into(package, toy, name, folder, monkeypatch):
    """Put a toy into a folder that the package's modules are looked for in, too."""
    shutil.copy(toys.FOLDER / toy, folder / f"{name}.py")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    # What is imported from there must be gone with the folder.
    monkeypatch.setitem(sys.modules, f"{package.__name__}.{name}", None)
    del sys.modules[f"{package.__name__}.{name}"]


def test_every_toy_is_one_file_or_one_folder():
    held = {path.name for path in toys.FOLDER.iterdir()} - {"__init__.py", "__pycache__"}
    assert held == set(toys.DROPPED)


# An architecture


def test_an_architecture_is_listed_and_has_its_table(tree):
    assert "toy" in {row["name"] for row in json.loads(tree.command("models", "--json"))}
    assert "toy" not in architectures.names()
    table = tree.command("table", "toy", "--format", "csv").splitlines()
    assert [line.partition(",")[0] for line in table[1:]] == [
        "conv",
        "bn",
        "relu",
        "pool",
        "logits",
    ]


@pytest.mark.framework
def test_an_architecture_and_a_format_serve_a_comparison(tree):
    """All four subjects of the toy agree, and the toy format writes that down."""
    path = tree.folder / "report.toy"
    out = tree.command("compare", "toy", "--input", "random", "--depth", "layer", "--toy", path)
    assert "parity: keras, torch, onnx-keras and onnx-torch agree" in out
    assert path.read_text() == "parity\n"


@pytest.mark.framework
def test_a_cause_is_proved_on_a_mutated_twin_through_the_public_functions(tree):
    code = (
        "import parity, json; report = parity.compare('toy', 'keras=mutated:build', "
        "input='random', subjects='keras,torch', depth='layer'); "
        "print(json.dumps([report.verdict, "
        "[[cause.layer, cause.subject, cause.cause] for cause in report.causes]]))"
    )
    done, out, err = tree.python("-c", code)
    assert done == 0, err
    assert json.loads(out) == ["divergence", [["relu", "keras", "toy-shift"]]]


# A cause


def shifted_layer():
    layer = samples.pointwise("relu")
    return samples.failing_layer(layer, np.roll(evaluate(layer), 1, axis=-1))


def test_a_cause_is_found_and_proved(tmp_path, monkeypatch):
    assert diagnosis.explain_layer(shifted_layer()).proof is None
    dropped_into(causes, "cause.py", "toy_cause", tmp_path, monkeypatch)
    causes.modules.cache_clear()
    try:
        explained = diagnosis.explain_layer(shifted_layer())
    finally:
        causes.modules.cache_clear()
    assert [candidate.cause for candidate in explained.proof.candidates] == ["toy-shift"]
    assert explained.proof.x_floor_after <= 4.0 < explained.x_floor_before


def test_a_cause_of_training_is_found_and_proved(tmp_path, monkeypatch):
    """A weight that grows by a thousandth after its update."""
    from parity.explain.training import causes as training_causes
    from parity.explain.training import explain_step

    failing = grown_step()
    assert explain_step(failing) == ()
    dropped_into(training_causes, "training_cause.py", "toy_cause", tmp_path, monkeypatch)
    training_causes.modules.cache_clear()
    try:
        (cause,) = explain_step(failing)
    finally:
        training_causes.modules.cache_clear()
    assert cause.name == "toy-growth"
    assert cause.error <= 1e-10 < cause.rel_l2


def grown_step():
    from parity.training.optimizers import Optimizer
    from parity.training.steps import StepRecord, StepTerms, compare_step
    from parity.training.verification import FailingStep, StepInput

    logits, labels = np.array([[1.0, 0.0], [0.5, 0.25]]), np.array([0, 1])
    before = {"weight/a": np.array([1.0, -2.0, 3.0])}
    gradient = np.array([0.5, 0.25, -1.0])

    def record(weight):
        values = {"loss": np.array(0.5), "logits": logits, "gradient/a": gradient}
        return StepRecord({**values, "weight/a": weight}, 1, {})

    after = before["weight/a"] - 0.1 * gradient
    expected, actual = record(after), record(after + 1e-3 * before["weight/a"] ** 2)
    terms = StepTerms(
        1, Optimizer("sgd", 0.1), 0.1, np.zeros((2, 1)), labels, frozenset(), "cross-entropy", 0.0,
        ("a",), {"a": "a"}, 4.0,
    )  # fmt: skip
    comparison = compare_step(terms, "torch", before=before, expected=expected, actual=actual)
    given = StepInput(1, 0.1, terms.images, labels, Path("none"))
    return FailingStep(
        terms, "torch", given, before, expected, actual, comparison, {"a": "kernel"},
        LayerTable(()), lambda **how: expected,
    )  # fmt: skip


# A report format


def test_a_format_is_known_by_its_name_and_its_suffix(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="unknown report format 'toy'"):
        formats.require_known("toy")
    with pytest.raises(UsageError, match=r"found '\.toy'"):
        formats.write_report(parity(), tmp_path / "report.toy")
    dropped_into(formats, "format.py", "toy", tmp_path, monkeypatch)
    formats.require_known("toy")
    formats.write_report(divergence(), tmp_path / "report.toy")
    assert (tmp_path / "report.toy").read_text().startswith("divergence")
    assert not formats.holds_several("toy")
    with pytest.raises(UsageError, match="toy holds one case, found 2; give a folder"):
        formats.combine({"a": parity(), "b": parity()}, "toy")


@pytest.mark.parametrize("name", ["compare", "diff", "check"])
def test_a_format_is_an_option_of_every_command_that_reports(tree, name):
    assert "--toy FILE" in tree.command(name, "--help")


# A command


def test_a_command_is_listed_at_its_place_and_runs(tree):
    lines = tree.command("--help").partition("Commands:\n")[2].splitlines()
    names = [line.split()[0] for line in lines if line]
    assert names[:4] == ["models", "table", "count", "compare"]
    assert "Example:\n  parity count resnet18\n" in tree.command("count", "--help")
    assert tree.command("count", "toy") == "5\n"


def test_the_order_of_the_commands():
    assert [each.name or each.call.__name__ for each in command.find_commands()] == [
        *("models", "table", "compare", "fix", "reduce", "align", "convert", "export", "train"),
        *("evaluate", "predict", "capture", "diff", "doctor", "warm", "check", "sweep", "history"),
        *("bisect", "data", "env"),
    ]
    places = [each.place for each in command.find_commands()]
    assert len(set(places)) == len(places)


# No list of them elsewhere


def families():
    folder = ROOT / "parity/network/models"
    return {path.name for path in folder.iterdir() if (path / "spec.py").exists()}


def cause_names():
    """The names that the causes state; those such as "bias" are names of weights as well."""
    stated = [value for module in causes.modules() for value in vars(module).values()]
    return {value for value in stated if isinstance(value, str) and re.fullmatch(NAME, value)}


def command_names():
    return {each.name or each.call.__name__ for each in command.find_commands()}


def strings(node):
    """The strings that a piece of source holds, each by itself."""
    return {
        each.value
        for each in ast.walk(node)
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    }


def literals(tree):
    """The lists, tuples, sets and dictionaries of a file."""
    kinds = (ast.List, ast.Tuple, ast.Set, ast.Dict)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


@functools.cache
def read_strings():
    """The strings of each file of the source, and those of each of its literals."""
    found = {}
    for package in ("parity", "exporters"):
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text())
            found[path] = strings(tree), [strings(literal) for literal in literals(tree)]
    return found


def mentioning(names, home):
    """The files outside `home` that mention one of the names, and those that list two or more."""
    mention, listing = set(), set()
    for path, (mentioned, listed) in read_strings().items():
        if ROOT / home in path.parents:
            continue
        if mentioned & names:
            mention.add(str(path.relative_to(ROOT)))
        if any(len(each & names) > 1 for each in listed):
            listing.add(str(path.relative_to(ROOT)))
    return mention, listing


@pytest.mark.parametrize(
    ("names", "home"),
    [
        (cause_names(), "parity/explain/causes"),
        ({module.__name__ for module in causes.modules()}, "parity/explain/causes"),
        (families(), "parity/network/models"),
        (set(architectures.all_names()), "parity/network/models"),
    ],
    ids=["causes", "modules of causes", "families", "architectures"],
)
def test_none_is_mentioned_outside_their_folder(names, home):
    assert names
    assert mentioning(names, home)[0] == set()


@pytest.mark.parametrize(
    ("names", "home", "allowed"),
    [
        # A sweep has documents of its own, of which two are called as these.
        (set(formats.list_formats()), "parity/report/formats", {"parity/commands/cli/sweep.py"}),
        # The public functions are called as their commands are.
        (command_names(), "parity/commands/cli", {"parity/__init__.py"}),
    ],
    ids=["formats", "commands"],
)
def test_they_are_not_listed_outside_their_folder(names, home, allowed):
    """A single one may be meant: the JSON report is read again, and a cache is of exports."""
    assert names
    assert mentioning(names, home)[1] == allowed


def test_a_mention_and_a_list_are_found():
    mention, listing = mentioning({"compare", "convert", "worst"}, "parity/report")
    assert listing == {"parity/__init__.py"}
    assert "parity/commands/cli/check.py" in mention
