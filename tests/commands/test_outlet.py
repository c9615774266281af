"""What reaches the terminal, and what happens to an exit code when nothing can be printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from parity.commands.cli import main as cli
from parity.commands.cli import outlet

SCRIPT = "import sys; from parity.commands.cli.main import main; sys.exit(main())"

# Standard output as a verdict command leaves it.
VERDICT = (
    "import sys, typer; from parity.commands.cli import application, main\n"
    "def build():\n"
    "    app = typer.Typer()\n"
    "    @app.command()\n"
    "    def command() -> None:\n"
    "        [print(f'line {n} é \\N{GREEK SMALL LETTER ALPHA}') for n in range(5000)]\n"
    "        raise typer.Exit(1)\n"
    "    return app\n"
    "application.build_app = build\n"
    "sys.exit(main.main(['--']))"
)


def _run(code: str, *arguments: str, stdout: int, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, **variables},
        timeout=60,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain\n", "plain\n"),
        ("a\x1b[2Jb", "a\\u001b[2Jb"),
        ("a \x1b[1mbold\x1b[0m word", "a bold word"),
        ("a\x1b\x1b[m[2Jb", "a\\u001b[2Jb"),
        ("a\rb\tc\x07", "a\\u000db\\u0009c\\u0007"),
        ("\x9b31m \x7f \u202e", "\\u009b31m \\u007f \\u202e"),
        ("::error::x\n  ::set-env::y", "\\u003a:error::x\n  \\u003a:set-env::y"),
        ("a ::error::x", "a ::error::x"),
        ("a ##[error]x", "a #\\u0023[error]x"),
        ("photo\udcff.jpg", "photo\\udcff.jpg"),
        ("é α · × 😀\u00a0", "é α · × 😀\u00a0"),
    ],
)
def test_text_is_escaped(text, expected):
    assert outlet.escape(text) == expected


def test_an_escaped_json_text_is_still_json():
    data = {"name": "a\x1b\x9b\u202e😀"}
    text = outlet.encode_escaped(outlet.escape(json.dumps(data, ensure_ascii=False)), "ascii")
    assert text.isascii()
    assert json.loads(text) == data


def test_a_command_for_github_is_escaped_across_two_writes(capsys):
    with outlet.guard_streams():
        print(":", end="")
        print(":error::x")
    assert capsys.readouterr().out == ":\\u003aerror::x\n"


@pytest.mark.parametrize(
    "name", ["x" * 100_000, "a\x1b[31mb", "::error::x", "line\n::error::x"], ids=str.__len__
)
@pytest.mark.parametrize("command", ["compare", "models", "shapes", "convert", "diff", "check"])
def test_a_name_in_an_argument_is_escaped_and_shortened(capsys, command, name):
    assert cli.main((command, name)) in (2, 3)
    err = capsys.readouterr().err
    assert len(err) < 4000
    assert len(err.splitlines()) == 1
    assert err.replace("\n", "").isprintable()
    assert not err.startswith("::")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux alone has /dev/full")
def test_a_verdict_survives_a_full_disk_behind_standard_output():
    with open("/dev/full", "wb") as full:
        done = _run(VERDICT, stdout=full.fileno())
    assert done.returncode == 1
    assert done.stderr.decode().startswith("error: standard output: cannot be written: No space")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux alone has /dev/full")
def test_a_list_that_cannot_be_printed_is_an_error():
    with open("/dev/full", "wb") as full:
        done = _run(SCRIPT, "models", stdout=full.fileno())
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("code", "expected"), [(VERDICT, 1), (SCRIPT, 0)])
def test_a_closed_pipe_changes_no_exit_code(code, expected):
    reader, writer = os.pipe()
    os.close(reader)
    done = _run(code, *(["models"] if code is SCRIPT else []), stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (expected, b"")


def test_a_verdict_survives_an_ascii_terminal():
    done = _run(VERDICT, stdout=subprocess.PIPE, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (1, b"")
    assert done.stdout.startswith(rb"line 0 \u00e9 \u03b1")


@pytest.mark.parametrize("columns", ["0", "1", "-5", "x"])
def test_a_terminal_without_columns_prints_something(columns):
    done = _run(SCRIPT, "models", stdout=subprocess.PIPE, COLUMNS=columns)
    assert done.returncode == 0
    assert b"resnet18" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("compare", "resnet19", "--json", "-"), "ArchitectureError"),
        (("compare", "--json=-", "resnet19"), "ArchitectureError"),
        (("compare", "resnet18", "--no-such-option", "--json", "-"), "UsageError"),
        (("check", "nowhere.toml", "--json", "-"), "UsageError"),
    ],
)
def test_an_error_is_a_json_object_where_json_was_requested(capsys, arguments, kind):
    assert cli.main(arguments) == 2
    done = capsys.readouterr()
    (line,) = done.err.splitlines()
    error = json.loads(done.out)
    assert error["schema"] == "parity.error/1"
    assert error["exit_code"] == 2
    assert error["kind"] == kind
    assert f"error: {error['message']}" == line
    assert error["remedy"] is None or error["message"].endswith(error["remedy"])


def test_the_remedy_is_what_follows_the_last_semicolon(capsys):
    cli.main(("compare", "resnet19", "--json", "-"))
    assert json.loads(capsys.readouterr().out)["remedy"].startswith("did you mean")


def test_no_json_object_without_json(capsys):
    assert cli.main(("compare", "resnet19")) == 2
    assert not capsys.readouterr().out


@pytest.mark.parametrize("size", ["9" * 5000, "9" * 5000 + "x3", "1" * 10, "", "x", "1x2x3"])
def test_an_image_size_of_too_many_digits_is_bad_input(capsys, size):
    assert cli.main(("compare", "resnet18", f"--image-size={size}")) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: --image-size: expected N or HxW")
    assert len(err) < 400
