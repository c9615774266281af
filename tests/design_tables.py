"""The tables of files in docs/design.md: one a package, made of the modules' docstrings.

`python -m tests.design_tables` writes them anew.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DESIGN = ROOT / "docs" / "design.md"

# A table stands between `<!-- files: parity/numerics -->` and `<!-- end -->`.
BLOCK = re.compile(r"(<!-- files: (?P<folder>\S+) -->\n).*?(?=<!-- end -->)", re.DOTALL)


def purpose(path: Path) -> str:
    """Return the first sentence of a module's docstring, on one line."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    text = " ".join(docstring.partition("\n\n")[0].split())
    # "*" and "<" would be markup; a pipe would end the cell.
    return text.replace("``", "`").replace("|", "\\|")


def table(folder: str) -> str:
    """Return the table of a folder's modules, those of its packages' faces included."""
    lines = ["| file | what it owns |", "|---|---|"]
    for path in sorted((ROOT / folder).glob("*.py")):
        if text := purpose(path):
            lines.append(f"| `{path.name}` | {text} |")
    return "\n".join(lines) + "\n"


def written(text: str) -> str:
    """Return the text of the document with every table made anew."""
    return BLOCK.sub(lambda match: match[1] + table(match["folder"]), text)


def folders(text: str) -> list[str]:
    """Return the folders that have a table."""
    return [match["folder"] for match in BLOCK.finditer(text)]


if __name__ == "__main__":
    DESIGN.write_text(written(DESIGN.read_text(encoding="utf-8")), encoding="utf-8")
