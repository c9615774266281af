"""The progress line in a notebook: shown while a call runs, gone afterwards, never elsewhere."""

from __future__ import annotations

import inspect
import sys
import types
from typing import Any

import pytest

import parity
from parity.commands import notebooks
from parity.commands.values import Progress


@notebooks.show_in_notebooks
def work(count: int, *, progress: Progress | None = None) -> int:
    """Report each step."""
    for number in range(count):
        if progress is not None:
            progress("<torch>", f"step {number}")
    if count > 2:
        raise ValueError(count)
    return count


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a notebook's cell shows, one after the other."""
    texts: list[str] = []

    class Handle:
        def update(self, text: str) -> None:
            texts.append(text)

    def display(text: str, *, display_id: bool) -> Handle:
        texts.append(text)
        return Handle()

    kernel: Any = types.ModuleType("IPython")
    kernel.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    kernel.display = types.ModuleType("IPython.display")
    kernel.display.HTML, kernel.display.display = str, display
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setitem(sys.modules, "IPython.display", kernel.display)
    return texts


def test_a_cell_shows_each_step_and_then_nothing(shown: list[str]) -> None:
    assert work(2) == 2
    assert "working" in shown[0]
    assert [text.split("  ·  ")[1] for text in shown[1:3]] == [
        "&lt;torch&gt;: step 0</small>",
        "&lt;torch&gt;: step 1</small>",
    ]
    assert shown[3:] == [""]


def test_nothing_is_left_after_an_error(shown: list[str]) -> None:
    with pytest.raises(ValueError, match="3"):
        work(3)
    assert shown[-1] == ""


def test_a_progress_of_ones_own_is_kept(shown: list[str]) -> None:
    said: list[str] = []
    work(2, progress=lambda who, text: said.append(text))
    assert said == ["step 0", "step 1"]
    assert shown == []


def test_a_terminal_shows_nothing(shown: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shell = types.SimpleNamespace(kernel=None)
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: shell)
    work(2)
    monkeypatch.delitem(sys.modules, "IPython")
    work(2)
    assert shown == []


def test_every_call_that_takes_a_progress_shows_it() -> None:
    for name in parity.__all__:
        function = getattr(parity, name)
        if inspect.isfunction(function) and "progress" in inspect.signature(function).parameters:
            assert hasattr(function, "__wrapped__"), name


def test_a_real_notebook_has_the_line_and_the_table() -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    source = (
        "from parity.commands.notebooks import show_in_notebooks\n"
        "import time\n"
        "@show_in_notebooks\n"
        "def work(*, progress=None):\n"
        "    progress('torch', 'running')\n"
        "    from tests.report.samples import full\n"
        "    return full()\n"
        "work()\n"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    said: list[str] = []

    def listen(cell: Any, cell_index: int, **message: Any) -> None:
        content = message["execute_reply"]["content"]
        said.append(content["status"])

    nbclient.NotebookClient(notebook, timeout=60, on_cell_executed=listen).execute()
    line, table = notebook.cells[0].outputs
    assert said == ["ok"]
    assert line["output_type"] == "display_data"
    assert line["data"]["text/html"] == ""
    assert "<table>" in table["data"]["text/html"]
    assert "divergence" in table["data"]["text/html"]
