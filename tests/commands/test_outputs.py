"""What a command writes is checked before it starts: writable, and no file of the user's."""

from __future__ import annotations

import os

import pytest

import parity
from parity import files
from parity.commands.cli import main
from parity.errors import OutputError
from parity.evaluation import pictures
from parity.report import evaluation as pages


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a photograph, a checkpoint, data and a description; no work is done there."""
    monkeypatch.chdir(tmp_path)
    for name in ("cat.jpg", "best.pth", "classes.json", "data/cat/1.png", "net.py", "deployed.onnx",
                 "notes"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("the user's")
    (tmp_path / "locked").mkdir(mode=0o500)
    return tmp_path


PREDICT = "predict resnet18 cat.jpg --weights best.pth"
EVALUATE = "evaluate resnet18 --data data --weights best.pth"
TRAIN = "train resnet18 --data data --learning-rate 1e-3 --init best.pth"
ALIGN = "align net.py:build deployed.onnx"


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (f"{PREDICT} --picture cat.jpg", "cat.jpg"),
        (f"{PREDICT} --json best.pth", "best.pth"),
        (f"{PREDICT} --json classes.json", "classes.json"),
        ("predict resnet18 --data data --picture data/cat/1.png", "data/cat/1.png"),
        (f"{EVALUATE} --json best.pth", "best.pth"),
        (f"{EVALUATE} --html best.pth", "best.pth"),
        (f"{EVALUATE} --html data/cat/1.png", "data/cat/1.png"),
        (f"{TRAIN} --json best.pth", "best.pth"),
        (f"{TRAIN} --html data/cat/1.png", "data/cat/1.png"),
        (f"{ALIGN} --out deployed.onnx", "deployed.onnx"),
        (f"{ALIGN} --out net.py", "net.py"),
    ],
)
def test_an_output_replaces_no_file_that_is_read(command, output, place, capsys):
    code = main.main(command.split())
    message = capsys.readouterr().err
    assert (code, message.count("\n")) == (2, 1)
    assert f"{output}: would replace a file" in message
    assert (place / output).read_text() == "the user's"


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (f"{PREDICT} --picture absent/p.png", "absent/p.png"),
        (f"{PREDICT} --json absent/p.json", "absent/p.json"),
        (f"{EVALUATE} --json absent/e.json", "absent/e.json"),
        (f"{EVALUATE} --html absent/e.html", "absent/e.html"),
        (f"{EVALUATE} --out notes", "notes"),
        (f"{EVALUATE} --out notes/below", "notes/below"),
        (f"{TRAIN} --json absent/t.json", "absent/t.json"),
        (f"{TRAIN} --html absent/t.html", "absent/t.html"),
        (f"{ALIGN} --out absent/pairs.csv", "absent/pairs.csv"),
        (f"{ALIGN} --model-explorer notes", "notes"),
    ],
)
def test_what_cannot_be_written_is_found_first(command, output, place, capsys):
    assert main.main(command.split()) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"{output}: cannot be" in message


@pytest.mark.parametrize(
    ("command", "output", "given"),
    [
        ("export resnet18 --onnx x.txt", "x.txt", "x.onnx"),
        ("export resnet18 --onnx x.pb", "x.pb", "x.onnx"),
        ("export net.py:build --onnx x.onnx --record x.csv", "x.csv", "x.json"),
        ("export net.py:build --onnx x.ONNX --record x.html", "x.html", "x.json"),
        (f"{PREDICT} --json p.csv", "p.csv", "p.json"),
        (f"{EVALUATE} --json e.html", "e.html", "e.json"),
        (f"{EVALUATE} --html e.json", "e.json", "e.html"),
        (f"{TRAIN} --json t.html", "t.html", "t.json"),
        (f"{TRAIN} --html t.json", "t.json", "t.html"),
        (f"{ALIGN} --out pairs.tsv", "pairs.tsv", "pairs.csv"),
        ("compare resnet18 --json r.html", "r.html", "r.json"),
        ("compare resnet18 --html r.md", "r.md", "r.html"),
        ("compare resnet18 --junit r.json", "r.json", "r.xml"),
        ("compare resnet18 --markdown r.HTML", "r.HTML", "r.md"),
        ("diff one two --json d.csv", "d.csv", "d.json"),
        ("capture resnet18 --out c --polygraphy c.npz", "c.npz", "c.json"),
        ("history notes --svg h.png", "h.png", "h.svg"),
        ("sweep notes --jsonl s.json", "s.json", "s.jsonl"),
        ("sweep notes --json s.jsonl", "s.jsonl", "s.json"),
    ],
)
def test_a_name_that_says_another_format_is_refused_with_one_to_type(
    command, output, given, place, capsys
):
    assert main.main(command.split()) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.startswith(f"error: {output}: expected a name that ends in .")
    assert message.endswith(f"; give {given}\n")
    assert not (place / output).exists()


@pytest.mark.parametrize("command", ["--json r.html", "--html r.json"])
def test_a_report_of_cases_says_its_format(command, place, capsys):
    (place / "parity.toml").write_text('[[case]]\nname = "one"\nmodel = "resnet18"\n')
    assert main.main(["check", *command.split()]) == 2
    assert "expected a name that ends in ." in capsys.readouterr().err


def test_names_that_say_no_other_format_are_taken(place):
    os.mkfifo(place / "fifo.html")
    for name in ("x", "net-1.5", "x.log", "x.JSON", "fifo.html", "/dev/stdout", "/dev/null"):
        files.require_suffix(name, ".json")
    for name in ("x", "net-1.5", "x.ONNX", "/dev/stdout"):
        files.require_suffix(name, ".onnx", only=True)
    for name in ("x.log", "x.txt", "x.v2"):
        with pytest.raises(OutputError, match=r"ends in \.onnx"):
            files.require_suffix(name, ".onnx", only=True)


@pytest.mark.parametrize("name", ["configuration.json", "history.json", "keras/last.safetensors"])
def test_a_report_of_a_training_takes_no_place_of_the_runs_files(name, place, capsys):
    assert main.main([*TRAIN.split(), "--out", "run", "--json", f"run/{name}"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"{name}: is the place of a file of the run" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_found_first(place, capsys):
    assert main.main([*EVALUATE.split(), "--out", "locked/here"]) == 2
    assert "locked/here: cannot be written: the folder" in capsys.readouterr().err


def test_an_output_may_be_in_the_folder_that_the_command_makes(place, capsys):
    # The damaged checkpoint is the next thing that is refused.
    command = f"{EVALUATE} --out results/new --json results/new/e.json --html results/p.html"
    assert main.main(command.split()) == 2
    assert "results" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["predictions.csv", "confusion.png", "test-changed.png", "evaluation.html"]
)
def test_an_evaluation_replaces_no_file_of_the_user(name, place):
    (place / name).write_text("the user's")
    with pytest.raises(OutputError, match=f"{name}: would be replaced, but is not of an eval"):
        parity.evaluate("resnet18", data=place / "data", weights=place / "best.pth", out=place)
    assert (place / name).read_text() == "the user's"


def test_an_evaluation_replaces_what_parity_wrote(tmp_path):
    from matplotlib.figure import Figure

    pictures.write_figure(Figure(), tmp_path / "confusion.png")
    (tmp_path / "predictions.csv").write_text("split,image,true,torch\n")
    pages.require_replaceable(tmp_path)
    (tmp_path / "changed.png").symlink_to(tmp_path / "confusion.png")
    with pytest.raises(OutputError, match=r"changed\.png: would be replaced"):
        pages.require_replaceable(tmp_path)
