"""The line numbers of tables and keys in a TOML file, for error messages."""

from __future__ import annotations

import re

# Strings, which can contain anything, then comments, brackets and line ends.
_TOKEN = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|'{3}.*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|'''
    r"#[^\n]*|[\[\]{}]|\n",
    re.DOTALL,
)


class TomlLines:
    """The lines of the tables and keys in a valid TOML text.

    Dotted and inline tables are not searched; their keys have the line of the table around them.
    """

    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str, int, str | None], int] = {}
        counts: dict[str, int] = {}
        table = ("", 0)
        continuations = _continuation_lines(text)
        # TOML's lines end in newlines alone; `splitlines` also splits at other characters.
        for number, line in enumerate(text.split("\n"), start=1):
            if number in continuations:
                continue
            header = re.match(r"\s*\[+\s*([\w-]+)\s*\]+", line)
            key = re.match(r"""\s*["']?([\w-]+)["']?\s*=""", line)
            if header:
                name = header[1]
                table = (name, counts.get(name, -1) + 1)
                counts[name] = table[1]
                self._lines[*table, None] = number
            elif key:
                self._lines.setdefault((*table, key[1]), number)

    def find(self, table: str, index: int = 0, key: str | None = None) -> int:
        """Return the line of a key, else of its table, else 1.

        `table` is "" for the keys above all tables; `index` counts the tables of one name.
        """
        line = self._lines.get((table, index, key)) or self._lines.get((table, index, None))
        return line or self._lines.get(("", 0, table), 1)


def _continuation_lines(text: str) -> set[int]:
    """Return the numbers of the lines that begin inside a multi-line string or an array."""
    lines: set[int] = set()
    number, depth = 1, 0
    for token in _TOKEN.finditer(text):
        depth += (token[0] in ("[", "{")) - (token[0] in ("]", "}"))
        newlines = token[0].count("\n")
        if token[0] != "\n" or depth:
            lines.update(range(number + 1, number + newlines + 1))
        number += newlines
    return lines
