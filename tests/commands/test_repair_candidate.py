"""Lines of a changed source: which are the user's, and which the search has made."""

from __future__ import annotations

from parity.commands.repair_candidate import is_edited_line


def test_a_line_that_the_search_has_made_is_not_the_users(tmp_path):
    file = tmp_path / "net.py"
    file.write_text("def build():\n    return Conv(dilation=2 ** i)\n")
    texts = {str(file): "def build():\n    return Conv(dilation=4 ** i)\n"}
    assert is_edited_line(texts, "net.py:2: return Conv(dilation=4 ** i)")
    assert not is_edited_line(texts, "net.py:2: return Conv(dilation=2 ** i)")


def test_lines_of_files_that_are_not_changed_are_the_users(tmp_path):
    file = tmp_path / "net.py"
    file.write_text("x = 1\n")
    assert not is_edited_line({}, "net.py:1: x = 2")
    assert not is_edited_line({str(file): "x = 2\n"}, "other.py:1: x = 2")
    assert not is_edited_line({str(file): "x = 2\n"}, "")
