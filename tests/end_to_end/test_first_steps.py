"""docs/first-steps.md: four newcomers, what they type and what they see, typed again."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "first-steps.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")

OMITTED = "[…]"


def files() -> Iterator[tuple[str, str]]:
    """The files that the document shows, by name."""
    pattern = r'^```python title="([\w.]+)"\n(.*?)^```'
    for match in re.finditer(pattern, TEXT, re.MULTILINE | re.DOTALL):
        yield match[1], match[2]


def sections() -> dict[str, list[tuple[str, str]]]:
    """The commands of each newcomer, with what they see."""
    found: dict[str, list[tuple[str, str]]] = {}
    for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]:
        title = part.partition("\n")[0]
        for block in re.findall(r"^```text\n(.*?)^```", part, re.MULTILINE | re.DOTALL):
            for shown in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, output = shown.partition("\n")
                found.setdefault(title, []).append((command, output))
    return found


def as_seen(expected: str, output: str) -> bool:
    """Whether an output is the one that is shown, where `[…]` stands for anything."""
    parts = [re.escape(" ".join(part.split())) for part in expected.split(OMITTED)]
    pattern = ".*".join(part.replace(r"\ ", " ") for part in parts)
    return re.search(pattern, " ".join(output.split()), re.DOTALL) is not None


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as it would be typed, with this interpreter."""
    words = shlex.split(command)
    programs = {"parity": ["-m", "parity"], "python": [], "pytest": ["-m", "pytest"]}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    if not any(each.value == "parity.testing.plugin" for each in entry_points(group="pytest11")):
        # A checkout that is not installed has no entry point.
        environment["PYTEST_ADDOPTS"] = "-p parity.testing.plugin"
    return subprocess.run(
        [sys.executable, *programs[words[0]], *words[1:]],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=900,
    )  # fmt: skip


@pytest.mark.framework
@pytest.mark.parametrize("title", sections())
def test_a_newcomer_sees_what_the_page_shows(title, tmp_path):
    for name, text in files():
        (tmp_path / name).write_text(text)
    for command, expected in sections()[title]:
        done = run(command, tmp_path)
        # What a terminal shows, but for the notes that belong to this machine.
        output = done.stdout + done.stderr
        assert as_seen(expected, output), f"$ {command}\n{output}"
        code = {"divergence": 1, "error": 2}.get(expected.partition(":")[0], 0)
        assert done.returncode == (0 if command.startswith("python ") else code), output
    if "report.save" in dict(files())["study.py"] and "student" in title:
        assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_there_are_four_newcomers():
    assert len(sections()) == 4
    assert {name for name, _ in files()} == {"net.py", "keras_net.py", "study.py"}


@pytest.mark.parametrize(
    ("expected", "output", "is_seen"),
    [
        ("a […] c\n", "a b\nc\n", True),
        ("a […] c\n", "a b\n", False),
        ("it is (1, 2)\n[…]\nend\n", "it is  (1,\n 2)\nmore\nend", True),
        ("it is 0.1\n", "it is 0x1\n", False),
    ],
)
def test_an_output_that_differs_is_seen(expected, output, is_seen):
    assert as_seen(expected, output) is is_seen
