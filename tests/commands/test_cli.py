"""The command line without frameworks: help, tables, and every way to ask for what cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import typer

from parity.commands.cli import application, command
from parity.commands.cli import main as cli
from parity.network import architectures
from parity.network.table import LayerTable
from parity.version import __version__


def ran(capsys, *arguments):
    """Exit code, standard output and standard error of one command."""
    code = cli.main(arguments)
    done = capsys.readouterr()
    return code, done.out, done.err


def refused(capsys, *arguments):
    """The one line that a command which cannot be done ends with; it must exit 2."""
    code, out, err = ran(capsys, *arguments)
    assert code == 2, (out, err)
    assert not out
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def test_version(capsys):
    assert ran(capsys, "--version") == (0, f"parity {__version__}\n", "")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_names_every_command(capsys, arguments):
    code, out, err = ran(capsys, *arguments)
    assert (code, err) == (0, "")
    for name in ("models", "table", "compare", "convert", "export"):
        assert f"\n  {name} " in out
    assert "Exit codes: 0 parity, 1 divergence, 2 bad input or usage, 3 could not tell." in out
    assert all(len(line) <= 80 for line in out.splitlines())


@pytest.mark.parametrize("command", ["models", "table", "compare", "convert", "export"])
def test_every_command_has_help_with_an_example(capsys, command):
    code, out, _ = ran(capsys, command, "--help")
    assert code == 0
    assert "Example" in out
    assert f"parity {command} " in out


def test_models(capsys):
    code, out, _ = ran(capsys, "models")
    assert code == 0
    assert len(out.splitlines()) == 1 + len(architectures.all_names())
    assert "resnext50_32x4d" in out
    lines = {line.split()[0]: line.split()[1:3] for line in out.splitlines()}
    assert lines["resnext50_32x4d"] == ["25,028,904", "25,097,128"]
    assert lines["resnext50_32x4d@keras-lambda-groups"] == ["25,028,968", "25,097,192"]
    assert lines["resnext50_32x4d@keras-dense-groups"] == ["68,883,240", "68,951,464"]


def test_models_as_json(capsys):
    _, out, _ = ran(capsys, "models", "--json")
    rows = json.loads(out)
    assert [row["name"] for row in rows] == architectures.all_names()
    sizes = {row["name"]: (row["parameters"], row["with_statistics"]) for row in rows}
    assert sizes["resnet18"] == (11_689_512, 11_699_112)
    # Twelve projections too many.
    assert sizes["resnext50_32x4d@torch-project-every-block"] == (39_600_424, 39_691_176)


@pytest.mark.parametrize("kind", ["json", "csv", "toml"])
def test_a_table_can_be_read_again(capsys, tmp_path, kind):
    code, out, _ = ran(capsys, "table", "resnet18", "--format", kind, "--image-size", "96x128")
    assert code == 0
    path = tmp_path / f"table.{kind}"
    path.write_text(out)
    assert LayerTable.load(path) == architectures.get("resnet18", image_size=(96, 128)).table()


def test_a_table_as_text_has_both_layouts(capsys):
    _, out, _ = ran(capsys, "table", "resnet18", "--channels", "1", "--classes", "7")
    line = next(line for line in out.splitlines() if line.startswith("stem.conv "))
    assert "conv1_conv" in line
    assert "64×1×7×7" in line or "64x1x7x7" in line
    assert "7×7×1×64" in line or "7x7x1x64" in line
    assert not any(line.endswith(" ") for line in out.splitlines())


def test_a_pipe_that_closes_early_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m parity.commands.cli.main table resnet152 --format csv | head -1",
        shell=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.startswith("name,stage")
    assert done.stderr == ""


def test_no_colour_codes_where_there_is_no_terminal(capsys):
    _, out, err = ran(capsys, "compare", "resnet51")
    assert "\x1b" not in out + err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("resnet51",), "unknown model 'resnet51'; did you mean 'resnet50"),
        (("zzzz",), "unknown model 'zzzz'"),
        ((), "nothing to compare: give one or more models"),
        (("resnet18", "--classes", "0"), "classes must be a whole number above 0, found 0"),
        (("resnet18", "--channels", "-1"), "channels must be a whole number above 0"),
        (("resnet18", "--image-size", "x"), "expected N or HxW, such as 224 or 96x128, found 'x'"),
        (("resnet18", "--image-size", "1x2x3"), "found '1x2x3'"),
        (("resnet18", "--image-size", "0"), "image"),
        (("resnet18", "--batch", "0"), "--batch must be at least 1, found 0"),
        (("resnet18", "--batch", "two"), "--batch"),
        (("resnet18", "--limit", "0"), "--limit must be above 0, found 0.0"),
        (("resnet18", "--limit", "nan"), "--limit must be above 0, found nan"),
        (("resnet18", "--timeout", "0"), "--timeout must be a number of seconds, found 0.0"),
        (("resnet18", "--timeout", "-1"), "--timeout must be a number of seconds, found -1.0"),
        (("resnet18", "--timeout", "inf"), "--timeout must be a number of seconds, found inf"),
        (("resnet18", "--subjects", ""), "--subjects is empty"),
        (("resnet18", "--subjects", "kears"), "unknown subject 'kears'; did you mean 'keras'?"),
        (("resnet18", "--subjects", "torch,torch"), "a subject is given twice"),
        (("resnet18", "--depth", "bloc"), "'bloc' is not one of 'stage', 'block', 'layer'"),
        (
            ("resnet18", "--reference", "jax"),
            "expected one of torch, keras, found 'jax'",
        ),
        (("resnet18", "--json", "no/such/folder/r.json"), "there is no folder no/such/folder"),
        (("resnet18", "--json", "."), "is a folder; give a file name"),
        (("resnet18", "--no-such-option"), "--no-such-option"),
        (("resnet18", "resnet34", "--table", "t.csv"), "there is a model already: 'resnet18'"),
        (("resnet18", "resnet34", "--xla"), "--xla belongs to one registered architecture"),
        (
            ("resnet18", "resnet34", "--classes", "7"),
            "--classes: several models are compared; give it to the model that takes it, "
            "resnet50,classes=7 or net.py:build,ARGUMENT=7",
        ),
        (("resnet18", "resnet34", "--channels", "1"), "--channels: several models are compared"),
        (
            ("torchvision:resnet18", "--classes", "7"),
            "--classes: the model is none of `parity models`; give it to the model that takes it",
        ),
        (("keras=a:b", "--table", "t.csv"), "subject 'torch' needs a model: torch=REF"),
        (("keras=a:b", "keras=c:d", "--table", "t.csv"), "there is a keras already: 'a:b'"),
        (("resnet18", "keras=a:b", "--keras", "a:b"), "No such option: --keras"),
        (
            ("keras=a:b", "torch=c:d", "--table", "t.csv"),
            "t.csv: cannot be read",
        ),
        (
            ("keras=a:b", "torch=c:d", "--table", "t.xls"),
            "a .csv, .toml or .json",
        ),
    ],
)
def test_a_comparison_that_cannot_be(capsys, arguments, told):
    assert told in refused(capsys, "compare", *arguments)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nonsense",), "No such command 'nonsense'; see 'parity --help'"),
        (("table",), "Missing argument 'MODEL|REF'; see 'parity table --help'"),
        (("table", "resnet18", "--format", "yaml"), "'yaml' is not one of 'text', 'json', 'csv'"),
        (
            ("convert", "resnet18", "out.pth"),
            "a registered model has no weights: give --weights FILE",
        ),
        (("convert", "resnet18", "out.pth", "--weights", "no.pth"), "no.pth: no such file"),
        (
            ("convert", "resnet18", "out.pth", "--weights", "a.bin"),
            "expected a name that ends in one of .safeten",
        ),
        (
            ("convert", "resnet18", "out.h5", "--weights", "a.pth"),
            "out.h5: unknown checkpoint format",
        ),
        (("export", "resnet18", "--from", "keras"), "Missing option '--onnx'"),
        (("export", "resnet18", "--from", "jax", "--onnx", "o.onnx"), "'jax' is not one of"),
        (("export", "resnet18", "--from", "torch", "--onnx", "no/o.onnx"), "there is no folder no"),
        (("export", "resnet51", "--from", "torch", "--onnx", "o.onnx"), "did you mean 'resnet50"),
    ],
)
def test_other_commands_that_cannot_be(capsys, arguments, told):
    assert told in refused(capsys, *arguments)


def test_a_message_is_never_more_than_one_line(capsys):
    """Even where the name that the user gave has line breaks, or markup."""
    assert "[bold]" in refused(capsys, "compare", "a\n[bold]b")


def test_debug_shows_where_it_came_from(capsys):
    code, _, err = ran(capsys, "--debug", "compare", "resnet51")
    assert code == 2
    assert err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("error: unknown model")


def test_a_fault_of_our_own_is_said_to_be_one(capsys, monkeypatch):
    monkeypatch.setattr(architectures, "names", lambda: 1 / 0)
    code, out, err = ran(capsys, "models")
    assert (code, out) == (3, "")
    assert err == "error: internal error of parity: ZeroDivisionError: division by zero\n"


def test_ctrl_c(capsys, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(architectures, "names", interrupted)
    code, _, err = ran(capsys, "models")
    assert code == 3
    assert err == "error: interrupted; there is no result, and no incomplete file was left\n"


@pytest.mark.parametrize("sign", [130, typer.Abort, KeyboardInterrupt])
def test_ctrl_c_while_the_command_line_is_read(capsys, monkeypatch, sign):
    """Typers of different ages tell of it in different ways."""

    def read(*given, **named):
        if sign == 130:
            return sign
        raise sign

    monkeypatch.setattr(application, "build_app", lambda: read)
    code, out, err = ran(capsys, "models")
    assert (code, out) == (3, "")
    assert err == "error: interrupted; there is no result, and no incomplete file was left\n"


def test_the_help_reads_no_parameters_of_commands(capsys, monkeypatch):
    """Only the command that is called has its parameters read: that takes Typer a while."""

    def wrong(size: no_such_type):  # noqa: F821
        """Do something."""

    found = [*command.find_commands(), command.Command(wrong, place=0)]
    monkeypatch.setattr(command, "find_commands", lambda: found)
    code, out, _ = ran(capsys, "--help")
    assert code == 0
    assert ["wrong", "Do", "something."] in map(str.split, out.splitlines())
    with pytest.raises(NameError, match="no_such_type"):
        ran(capsys, "wrong")


def test_an_unknown_command_names_the_most_similar(capsys):
    code, _, err = ran(capsys, "compar")
    assert code == 2
    assert "Did you mean 'compare'?" in err


def test_the_installed_script_is_the_module():
    """`python -m parity.commands.cli.main` and `parity` exit alike."""
    done = subprocess.run(
        [sys.executable, "-m", "parity.commands.cli.main", "compare", "resnet51"],
        capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown model")


def test_the_package_is_a_command_too():
    done = subprocess.run(
        [sys.executable, "-m", "parity", "compare", "no-such-model"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "no-such-model" in done.stderr


def test_children_are_started_before_numpy_is_imported():
    """They import their frameworks while the command imports NumPy and the rest of parity."""
    code = """
import sys
from parity.commands.cli.main import main
from parity.processes.children import Children

def start(self, names):
    print(list(names), [name for name in ("numpy", "PIL") if name in sys.modules], flush=True)
    raise SystemExit

Children.start = start
main(["compare", "resnet18", "--subjects", "torch,onnx-torch"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "['torch', 'onnx'] []\n"
