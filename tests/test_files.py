"""Writing files: whole or not there, and nothing but a file is ever replaced."""

from __future__ import annotations

import ast
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from parity import files
from parity.commands import conversion, convert
from parity.commands import export as exporting
from parity.commands.cli import main as cli
from parity.errors import OutputError, WeightError
from parity.network import architectures, weights
from parity.numerics.capture import CaptureWriter
from tests import captures

# What ends up at a path, whoever writes it: a text, weights, a capture.
WRITERS = {
    "text": lambda path: files.write_text(path, "new"),
    "weights": lambda path: weights.save(path, {"a": np.ones(3, np.float32)}),
    "capture": lambda path: CaptureWriter(path, {}).close(),
}


@pytest.fixture(params=WRITERS.values(), ids=WRITERS)
def written(request):
    return request.param


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path, written):
    (tmp_path / "out").write_text("old")
    written(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() != b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("target", ["file", "absent"])
def test_a_link_stays_a_link_and_the_file_at_its_end_is_replaced(tmp_path, written, target):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "file").write_text("old")
    (tmp_path / "middle").symlink_to(f"far/{target}")
    (tmp_path / "out").symlink_to(tmp_path / "middle")
    written(tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "middle").is_symlink()
    assert (tmp_path / "far" / target).read_bytes() not in (b"old", b"")
    assert {path.name for path in (tmp_path / "far").iterdir()} == {"file", target}


def test_a_device_is_written_to(written, tmp_path):
    """A link to `/dev/null`, so that a fault cannot replace the machine's own."""
    (tmp_path / "null").symlink_to("/dev/null")
    before = os.lstat("/dev/null")
    written(tmp_path / "null")
    assert (tmp_path / "null").is_symlink()
    assert os.path.samestat(before, os.lstat("/dev/null"))
    assert [path.name for path in tmp_path.iterdir()] == ["null"]


def test_a_fifo_is_written_to(written, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "fifo").read_bytes()))
    reader.daemon = True
    reader.start()
    written(tmp_path / "fifo")
    reader.join(timeout=10)
    written(tmp_path / "file")
    assert read == [(tmp_path / "file").read_bytes()]
    assert (tmp_path / "fifo").is_fifo()


PRINTED = """
import sys
from parity import files
print("before")
files.write_text(sys.argv[1], "report\\n")
print("after")
"""


@pytest.mark.parametrize("name", ["/dev/fd/1", "/proc/self/fd/1", "link"])
@pytest.mark.parametrize("to_file", [False, True])
def test_standard_output_by_its_name(tmp_path, name, to_file):
    """Neither replaced nor truncated, where it is a pipe and where it is redirected to a file.

    `/dev/stdout` is a link too; it is not named here, since a fault would replace the machine's.
    """
    (tmp_path / "link").symlink_to("/dev/stdout")
    command = [sys.executable, "-c", PRINTED, name]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    with (tmp_path / "out").open("wb") as out:
        stdout = out if to_file else subprocess.PIPE
        done = subprocess.run(command, stdout=stdout, cwd=tmp_path, env=environment, check=True)
    printed = (tmp_path / "out").read_bytes() if to_file else done.stdout
    assert printed == b"before\nreport\nafter\n"


def test_what_cannot_be_written_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "astray").symlink_to("no/file")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        for name, told in {
            "folder": "is a folder",
            "loop": "symbolic links",
            "astray": "there is no folder",
            "folder/no/file": "there is no folder",
            "socket": "neither a file nor",
        }.items():
            with pytest.raises(OutputError, match=told) as raised:
                files.require_writable(tmp_path / name)
            assert str(tmp_path / name) in str(raised.value)
            with pytest.raises(OutputError, match=told):
                files.write_text(tmp_path / name, "")
    with pytest.raises(OutputError, match="Bad file descriptor"):
        files.require_writable("/dev/fd/987654")


def test_what_must_be_a_file_under_its_own_name(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("file.onnx")
    for special in (tmp_path / "fifo", "/dev/null", "/dev/stdout"):  # nothing is written
        with pytest.raises(OutputError, match="not a regular file"):
            files.require_plain_file(special)
    assert files.require_plain_file(tmp_path / "link") == tmp_path / "file.onnx"
    assert files.require_plain_file(tmp_path / "new") == tmp_path / "new"


def test_a_failure_leaves_the_file_as_it_was(tmp_path):
    (tmp_path / "out").write_text("old")

    def fail(error):
        with files.atomic_write(tmp_path / "out") as part:
            part.write_text("half")
            raise error

    with pytest.raises(OutputError, match="out: cannot be written: No space left"):
        fail(OSError(28, "No space left on device"))
    with pytest.raises(ValueError, match="x"):
        fail(ValueError("x"))
    assert (tmp_path / "out").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with files.atomic_write(tmp_path / "out") as one, files.atomic_write(tmp_path / "out") as other:
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "out").read_text() == "one"


# Commands that need no framework


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "resnet18.safetensors"
    weights.save(path, weights.init(architectures.get("resnet18", classes=10), seed=0))
    return path


def test_a_checkpoint_is_converted_at_the_end_of_a_link(tmp_path, checkpoint):
    (tmp_path / "far").write_text("old")
    (tmp_path / "out.safetensors").symlink_to("far")
    convert.convert("resnet18", checkpoint, tmp_path / "out.safetensors", classes=10)
    assert (tmp_path / "out.safetensors").is_symlink()
    assert len((tmp_path / "far").read_bytes()) > 40e6


def test_a_conversion_that_is_read_back_otherwise_leaves_the_old_file(
    tmp_path, checkpoint, monkeypatch
):
    read = conversion.convert_checkpoint

    def with_an_edit(found, source, target, *more, **options):
        notes = read(found, source, target, *more, **options)
        if target.name == "verification.safetensors":
            values = weights.load(target, found.table())
            values["conv1.weight"].reshape(-1)[7] += 1
            weights.save(target, values)
        return notes

    monkeypatch.setattr(conversion, "convert_checkpoint", with_an_edit)
    target = tmp_path / "out.safetensors"
    target.write_text("old")
    with pytest.raises(WeightError, match="the weights read back differ from those of"):
        convert.convert("resnet18", checkpoint, target, classes=10)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.safetensors"]


def test_an_export_to_what_is_no_file_is_refused_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(exporting, "Children", lambda **_: pytest.fail("children are started"))
    for name in ("null", "stdout"):
        (tmp_path / name).symlink_to(f"/dev/{name}")
        path = tmp_path / name
        assert cli.main(["export", "resnet18", "--from", "torch", "--onnx", str(path)]) == 2
        assert f"{path}: not a regular file" in capsys.readouterr().err


def test_reports_of_a_command(tmp_path, capfd):
    folder = captures.write(tmp_path / "captures")
    for name in ("null", "stdout"):
        (tmp_path / name).symlink_to(f"/dev/{name}")
    files_given = ("--json", str(tmp_path / "stdout"), "--junit", str(tmp_path / "null"))
    assert cli.main(["diff", str(folder), str(folder), *files_given]) == 0
    printed = capfd.readouterr().out
    assert printed.startswith("{")
    assert '"schema": "parity.report/1"' in printed
    assert (tmp_path / "null").is_symlink()
    assert (tmp_path / "stdout").is_symlink()


SOURCE = Path(__file__).resolve().parent.parent / "parity"


def renames(source):
    """The lines that rename a file: `path.replace(other)`, which a text's has two arguments for."""
    return [
        call.lineno
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ("replace", "rename", "renames")
        and not call.keywords
        and len(call.args) == (2 if ast.unparse(call.func.value) == "os" else 1)
    ]


def test_files_are_renamed_into_place_in_one_module_alone():
    """Beside it the cache moves aside what is no entry. The exporters have their own module."""
    found = {path.name for path in SOURCE.rglob("*.py") if renames(path.read_text())}
    assert found == {"files.py", "cache.py"}


@pytest.mark.parametrize("source", ["a.replace(b)", "os.replace(a, b)", "Path(a).rename(b)"])
def test_a_rename_is_seen(source):
    assert renames(source) == [1]
    assert not renames("a.replace('x', 'y'); dataclasses.replace(a, b=1)")


@pytest.fixture
def special(tmp_path: Path) -> dict[str, Path]:
    """Paths that are no regular file; reading the FIFO would wait for ever."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "socket"))
    sock.close()
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    names = {name: tmp_path / name for name in ("fifo", "folder", "socket", "link", "missing")}
    return {**names, "device": Path("/dev/zero"), "nul": Path("a\0b")}


SPECIAL = ("fifo", "folder", "socket", "link", "missing", "device", "nul")


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("read", [files.open_regular, files.require_regular, files.read_bytes])
def test_only_a_regular_file_is_read(special, name, read):
    with pytest.raises(OSError, match=r"expected a file|No such|null (byte|character)"):
        read(special[name])


def test_a_text_that_is_too_long_is_not_read(tmp_path):
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.truncate(files.LONGEST_TEXT + 1)
    with pytest.raises(OSError, match="larger than 64 MiB"):
        files.read_text(path)


def _link_with_suffix(tmp_path: Path, target: Path, suffix: str) -> str:
    path = tmp_path / f"given{suffix}"
    path.symlink_to(target)
    return str(path)


@pytest.mark.parametrize("name", ["fifo", "folder", "socket", "device", "missing"])
@pytest.mark.parametrize(
    ("suffix", "arguments"),
    [
        (".jpg", ("compare", "resnet18", "--subjects", "torch", "--input", "FILE")),
        (".npy", ("compare", "resnet18", "--subjects", "torch", "--input", "FILE")),
        (".npz", ("compare", "resnet18", "--subjects", "torch", "--input", "FILE")),
        (".safetensors", ("compare", "resnet18", "--subjects", "torch", "--weights", "FILE")),
        (".toml", ("check", "FILE")),
        (".parity", ("diff", "FILE", "FILE")),
        (".onnx", ("compare", "torch_net.py:build", "FILE")),
        (".py", ("compare", "FILE:build", "FILE:other")),
        (".safetensors", ("convert", "resnet18", "--weights", "FILE", "out.safetensors")),
    ],
)
def test_a_command_refuses_what_is_no_regular_file(
    special, tmp_path, monkeypatch, capsys, name, suffix, arguments
):
    """Before reading, in one line, exit code 2; a FIFO would hang for ever."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torch_net.py").write_text("import torch\ndef build():\n    return None\n")
    given = _link_with_suffix(tmp_path, special[name], suffix)
    # The alarm ends a read that waits; it is an error of the test then.
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(20)
    try:
        code = cli.main([word.replace("FILE", given) for word in arguments])
    finally:
        signal.alarm(0)
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2, line
    assert "internal error" not in line


@pytest.mark.parametrize("form", ["--json", "--html"])
def test_a_report_never_replaces_what_is_read(tmp_path, monkeypatch, capsys, form):
    monkeypatch.chdir(tmp_path)
    case_file = tmp_path / "parity.toml"
    case_file.write_text('[[case]]\nmodel = "resnet18"\nsubjects = ["torch"]\n')
    (tmp_path / "link.html").symlink_to(case_file)
    assert cli.main(["check", "parity.toml", form, "link.html"]) == 2
    assert "would replace a file that is read" in capsys.readouterr().err
    np.save("photo.npy", np.zeros((1, 3, 64, 64), np.float32))
    arguments = ("compare", "resnet18", "--subjects", "torch", "--input", "photo.npy")
    assert cli.main([*arguments, form, str(tmp_path / "photo.npy")]) == 2
    assert "would replace a file that is read" in capsys.readouterr().err
    Path("net.py").write_text("")
    assert cli.main(["compare", "net.py:build", "a=net.py:other", form, "net.py"]) == 2
    assert "would replace a file that is read" in capsys.readouterr().err
    assert cli.main(["compare", "resnet18", "keras=net.py:build,seed=1", form, "net.py"]) == 2
    assert "would replace a file that is read" in capsys.readouterr().err
    case_file.write_text('[[case]]\nname = "own"\nmodels = ["net.py:build", "a=net.py:other"]\n')
    assert cli.main(["check", "parity.toml", form, "net.py"]) == 2
    assert "would replace a file that is read" in capsys.readouterr().err
    Path("own.pth").write_bytes(b"x")
    arguments = ("convert", "net.py:build", "--into", "other.py:build", "--weights", "own.pth")
    assert cli.main([*arguments, "own.pth"]) == 2
    assert "would replace a file that is read" in capsys.readouterr().err
    arguments = ("export", "resnet18", "--from", "torch", "--weights", "own.pth")
    assert cli.main([*arguments, "--onnx", "own.pth"]) == 2
    assert Path("own.pth").read_bytes() == b"x"


def test_a_verdict_stands_when_a_report_cannot_be_written(tmp_path, capsys, monkeypatch):
    """The other reports are written, and the exit code is the verdict's."""
    from parity.report import formats

    folder = captures.write(tmp_path / "one")
    write = formats.write_report

    def fail(report, path, name=None):
        if name == "html":
            raise OutputError(f"{path}: cannot be written: No space left on device")
        write(report, path, name)

    monkeypatch.setattr(formats, "write_report", fail)
    reports = ["--html", str(tmp_path / "x.html"), "--json", str(tmp_path / "x.json")]
    assert cli.main(["diff", str(folder), str(folder), *reports]) == 0
    assert "x.html: cannot be written: No space left" in capsys.readouterr().err
    assert (tmp_path / "x.json").exists()
    assert not (tmp_path / "x.html").exists()
