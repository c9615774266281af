"""The help of each command, the options that all share, and what a shell completes."""

from __future__ import annotations

import io
import re
import sys
import time

import pytest
import typer
from rich.console import Console

from parity.commands import cases
from parity.commands.cli import arguments, console, panels, progress
from parity.commands.cli import main as cli
from parity.commands.cli.application import build_app
from parity.network import architectures


def commands():
    """Every command that runs, by its words."""
    root = typer.main.get_command(build_app())
    context = root.make_context("parity", [], resilient_parsing=True)
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        if hasattr(command, "list_commands"):
            for inner in command.list_commands(context):
                yield f"{name} {inner}", command.get_command(context, inner)
        else:
            yield name, command


COMMANDS = dict(commands())
OWN_HELP = {name: each for name, each in COMMANDS.items() if " " not in name}


def ran(capsys, *words):
    code = cli.main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_in_a_group(name):
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "option":
            assert parameter.rich_help_panel in panels.ORDER, parameter.opts


@pytest.mark.parametrize("name", OWN_HELP)
def test_the_groups_come_in_their_order(capsys, name):
    code, out, _ = ran(capsys, name, "--help")
    assert code == 0
    titles = re.findall(r"^(\S.*):$", out, re.MULTILINE)
    groups = [title for title in titles if title in panels.ORDER]
    assert groups == [title for title in panels.ORDER if title in groups]
    assert "Outputs" in groups


MODEL_COMMANDS = (
    "compare", "fix", "reduce", "align", "convert", "export", "capture", "bisect", "table",
    "train", "evaluate", "predict",
)  # fmt: skip
"""The commands that take models."""

OTHER_MEANINGS = {
    "--case": {"bisect"},
    # What is chosen is that of every runtime, or of a subject.
    "--device": {"train", "evaluate", "predict"},
    "--subjects": {"evaluate", "predict"},
    # What is written differs.
    "--format": {"table", "train"},
    "--out": {"fix", "reduce", "align", "train", "evaluate", "capture"},
    "--json": {"train", "bisect"},
    "--html": {"train", "evaluate"},
    # Those of the file that is written, or of a training run.
    "--precision": {"export", "train"},
    "--preprocess": {"export"},
    "--labels": {"export"},
    "--batch": {"train", "evaluate"},
    "--skip-unreadable": {"train", "evaluate"},
    # Arrays alone, and checkpoints alone.
    "--input": {"export"},
    "--weights": {"convert", "export", "evaluate", "predict"},
}
"""Options of one name that are another thing in these commands."""


def test_an_option_is_spelled_and_explained_alike_in_all_commands_that_take_models():
    found = {}
    for name in MODEL_COMMANDS:
        for option in COMMANDS[name].params:
            if option.param_type_name == "option" and name not in OTHER_MEANINGS.get(
                option.opts[0], ()
            ):
                entry = option.opts, option.metavar, option.help, option.rich_help_panel
                found.setdefault(option.opts[0], {})[name] = entry
    differing = {
        option: each for option, each in found.items() if len(set(map(str, each.values()))) > 1
    }
    assert differing == {}


@pytest.mark.parametrize("option", ["--weights", "--batch"])
def test_checkpoints_and_batches_are_explained_alike_too(option):
    others = OTHER_MEANINGS[option]
    texts = {
        (each.metavar, each.help)
        for name in others
        for each in COMMANDS[name].params
        if option in each.opts
    }
    assert len(texts) == 1


def test_whoever_is_told_to_give_an_input_can_give_it():
    """`nothing states the shape of the input 'x': give --shape x=…, or … --input x=FILE.npy`."""
    lacking = [
        name
        for name in set(MODEL_COMMANDS) - {"train", "evaluate", "predict"}
        if not {"--shape", "--input"} <= {o for each in COMMANDS[name].params for o in each.opts}
    ]
    assert lacking == []


def test_no_summary_is_cut(capsys):
    _, out, _ = ran(capsys, "--help")
    listed = out.partition("Commands:")[2]
    assert "..." not in listed
    assert "…" not in listed
    text = " ".join(listed.split())
    for name, command in OWN_HELP.items():
        first = " ".join(command.help.partition("\n\n")[0].split()).partition(". ")[0]
        assert f"{name} {first}" in text


def test_examples_are_one_a_line(capsys):
    _, out, _ = ran(capsys, "compare", "--help")
    (examples,) = re.findall(r"Examples:\n((?:  .*\n)+)", out)
    assert len(examples.splitlines()) == 4
    assert all(line.startswith("  parity compare ") for line in examples.splitlines())


@pytest.mark.parametrize(
    "words",
    [
        ["export", "--onnx", "OUT.onnx", "resnet18", "--from", "torch"],
        ["convert", "resnet18", "--weights", "F.pth", "OUT.keras"],
        ["convert", "a.py:net", "--into", "b.py:net", "OUT.keras"],
        ["capture", "resnet18", "--out", "DIR"],
        ["align", "a.py:net", "b.py:net", "--out", "F.csv"],
        ["fix", "a.py:net", "b.py:net", "--out", "DIR"],
    ],
)
def test_the_arguments_have_their_fixed_order(words):
    COMMANDS[words[0]].make_context(words[0], list(words[1:]))


def test_quiet_and_verbose_contradict_each_other(capsys):
    code, _, err = ran(capsys, "models", "--quiet", "--verbose")
    assert code == 2
    assert "contradict" in err


def test_a_quiet_command_prints_no_note(capsys):
    assert ran(capsys, "models", "--quiet")[0] == 0
    console.print_note("seen by nobody")
    with progress.show_progress() as update:
        update("torch", "exporting")
    assert capsys.readouterr().err == ""
    assert ran(capsys, "models")[0] == 0
    console.print_note("seen")
    assert "note: seen" in capsys.readouterr().err


def test_a_verbose_command_prints_each_step(capsys):
    assert ran(capsys, "models", "--verbose")[0] == 0
    with progress.show_progress() as update:
        update("torch", "exporting")
        time.sleep(0.01)
        update("keras", "running")
    err = capsys.readouterr().err
    console.verbosity = ""
    assert re.fullmatch(r" *\d\.\d s: torch: exporting\n *\d\.\d s: keras: running\n", err)


def test_a_terminal_always_shows_what_goes_on(monkeypatch):
    """Also before any step is named; and nothing is left of it afterwards."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    written = Terminal()
    terminal = Console(file=written, force_terminal=True, width=80)
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setattr(progress, "stderr_console", lambda: terminal)
    monkeypatch.setattr(console, "verbosity", "")
    with progress.show_progress() as update:
        time.sleep(0.3)
        update("torch", "batch 3 of 12, 0:10 left")
        time.sleep(0.3)
    text = written.getvalue()
    assert re.search(r"0\.\d s  ·  working", text)
    assert re.search(r"0\.\d s  ·  torch: batch 3 of 12, 0:10 left", text)
    assert text.endswith("\x1b[2K")


def test_a_pipe_gets_no_progress(monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(progress, "stderr_console", lambda: Console(file=written))
    monkeypatch.setattr(console, "verbosity", "")
    with progress.show_progress() as update:
        update("torch", "exporting")
        time.sleep(0.3)
    assert written.getvalue() == ""


def test_the_shell_completes_models_and_files(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet.py").write_text("")
    (tmp_path / "folder").mkdir()
    assert arguments.complete_model("resnext101") == [
        name for name in architectures.all_names() if name.startswith("resnext101")
    ]
    found = arguments.complete_reference("resne")
    assert "resnet18" in found
    assert "resnet.py" in found
    assert arguments.complete_reference("new=fol") == ["new=folder/"]


@pytest.mark.parametrize(
    ("references", "models"),
    [
        (["resnet18"], 'model = "resnet18"'),
        (["gru_tagger"], 'models = ["gru_tagger"]'),
        (["net.py:build", "deployed.onnx"], 'models = ["net.py:build", "deployed.onnx"]'),
    ],
)
def test_a_case_file_is_written_with_comments(capsys, tmp_path, monkeypatch, references, models):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("build = None\n")
    (tmp_path / "deployed.onnx").write_bytes(b"\x08\x08")
    words = [word for each in references for word in ("--init", each)]
    code, out, err = ran(capsys, "check", *words)
    assert (code, err) == (0, "")
    assert out == "wrote parity.toml; now run: parity check parity.toml\n"
    text = (tmp_path / "parity.toml").read_text()
    assert models in text
    assert "# weights = " in text
    assert ".py" not in next(line for line in text.splitlines() if line.startswith("name"))
    (case,) = cases.load(tmp_path / "parity.toml").cases
    assert case.name
    # Every key that is commented out is one that a case file may have.
    for key in re.findall(r"^# (\w+) = ", text, re.MULTILINE):
        assert key in {*cases.KEYS, "junit", "html", "old"}


def test_a_case_file_replaces_none(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parity.toml").write_text("mine")
    code, _, err = ran(capsys, "check", "--init", "resnet18")
    assert code == 2
    assert "parity.toml: exists already" in err
    assert (tmp_path / "parity.toml").read_text() == "mine"


def test_no_case_file_is_written_for_an_unknown_model(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = ran(capsys, "check", "--init", "resnte18")
    assert code == 2
    assert "resnte18" in err
    assert not (tmp_path / "parity.toml").exists()
