"""The documents hold: every file, name, link, command, output and table they show is right."""

from __future__ import annotations

import ast
import io
import re
import shlex
import subprocess
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer

from parity.commands.cli.application import CommandLineError, build_app
from tests import design_tables

ROOT = design_tables.ROOT
README = ROOT / "README.md"
FOREIGN_COMMANDS = ("python", "pytest", "pip", "polygraphy", "optimum-cli", "uv")
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = [
    path
    for folder in ("parity", "exporters", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
TOP = ("parity", "exporters", "tests", "docs")

in_every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


# What a document holds --------------------------------------------------------------------------


def blocks(text: str, language: str) -> Iterator[str]:
    """The fenced blocks of a language."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if match[1] == language:
            yield match[2]


def prose(text: str) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def spans(text: str) -> list[str]:
    """What stands in backticks."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(text))]


def commands(text: str) -> list[list[str]]:
    """The commands of the console blocks, and those that a block of output shows after `$ `."""
    lines = [line for block in blocks(text, "console") for line in block.splitlines()]
    for block in blocks(text, "text"):
        lines += [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    found = []
    for line in lines:
        words = shlex.split(line.removeprefix("$ "), comments=True)
        found += split(words, "&&", ";", "|")
    return [words for words in found if words]


def split(words: list[str], *separators: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word in separators:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


# Files and names --------------------------------------------------------------------------------


PATH = re.compile(r"(?:(?:parity|exporters|tests|docs)/|\.ci/|\.github/)[\w./*<>-]*")


def is_path(span: str) -> bool:
    # "tests/" is one; "parity.report/1", the name of a schema, is none.
    return PATH.fullmatch(span) is not None


def exists(path: str) -> bool:
    """Whether the repository holds a path; `<family>` and `*` stand for any name."""
    pattern = re.sub(r"<\w+>", "*", path).rstrip("/.,")
    return any(True for _ in ROOT.glob(pattern))


def is_name(span: str) -> bool:
    name = re.fullmatch(rf"(?:{'|'.join(TOP)})(?:\.\w+)+", span.partition("(")[0])
    return name is not None and not span.endswith((".toml", ".json", ".xml", ".md"))


def resolves(name: str) -> bool:
    """Whether `package.module.name` is a module, or what one of them defines."""
    parts = name.partition("(")[0].split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if file.is_file() or path.is_dir():
            rest = parts[length:]
            return not rest or (file.is_file() and defines(file, rest))
    return False


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def defines(file: Path, names: list[str]) -> bool:
    body: list[ast.stmt] = parsed(file).body
    for name in names:
        node = next((node for node in statements(body) if name in defined(node)), None)
        if node is None:
            return False
        body = node.body if isinstance(node, ast.ClassDef) else []
    return True


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module or class, those behind `if TYPE_CHECKING` too."""
    for node in body:
        yield node
        if isinstance(node, ast.If):
            yield from statements(node.body)


def defined(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


@in_every_document
def test_every_path_exists(document: Path) -> None:
    cited = [span for span in spans(document.read_text()) if is_path(span)]
    assert [path for path in cited if not exists(path)] == []


@in_every_document
def test_every_name_is_defined(document: Path) -> None:
    cited = [span for span in spans(document.read_text()) if is_name(span)]
    assert [name for name in cited if not resolves(name)] == []


@in_every_document
def test_every_module_that_is_run_is_there(document: Path) -> None:
    run = re.findall(r"python -m\s+([\w.]+)", document.read_text())
    ours = [name for name in run if name.partition(".")[0] in TOP]
    assert [name for name in ours if not can_be_run(name)] == []


def can_be_run(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return (path / "__main__.py").is_file() or path.with_suffix(".py").is_file()


# Links ------------------------------------------------------------------------------------------


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.*)", prose(document.read_text()), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def broken_links(document: Path, text: str) -> list[str]:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if link.startswith(("https://", "http://")):
            continue
        place, _, anchor = link.partition("#")
        target = (document.parent / place) if place else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@in_every_document
def test_every_link_resolves(document: Path) -> None:
    assert broken_links(document, document.read_text()) == []


# Commands ---------------------------------------------------------------------------------------


def command_line() -> object:
    return typer.main.get_command(build_app())


def parse(words: list[str]) -> None:
    """Parse a command of `parity` without running it; raises what the command line would."""
    command, name, words = command_line(), words[0], words[1:]
    while hasattr(command, "get_command"):
        context = command.make_context(name, [], resilient_parsing=True)
        options = {option for param in command.params for option in param.opts}
        while words and words[0].startswith("-"):
            assert words.pop(0) in options, f"{name} has no such option"
        if not words:
            return
        name, words = words[0], words[1:]
        command = command.get_command(context, name)
        assert command is not None, f"there is no command '{name}'"
    if not {"--help", "-h"} & set(words):
        command.make_context(name, words)  # type: ignore[attr-defined]


def options() -> set[str]:
    """Every option of every command."""
    found, waiting = set(), [command_line()]
    while waiting:
        command = waiting.pop()
        for param in command.params:  # type: ignore[attr-defined]
            found |= {*param.opts, *param.secondary_opts}
        if hasattr(command, "list_commands"):
            context = command.make_context("parity", [], resilient_parsing=True)
            names = command.list_commands(context)
            waiting += [command.get_command(context, name) for name in names]
    return found | {"--help"}


def problem(words: list[str]) -> str | None:
    """Why a command that a document shows would not run, as far as its words tell."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    match words:
        case ["parity", *_]:
            try:
                parse(words)
            except (AssertionError, CommandLineError) as error:
                return f"{type(error).__name__}: {error}"
        case ["pip", "install", *rest]:
            extras = re.findall(r"\[([\w,-]+)\]", " ".join(rest))
            known = project["project"]["optional-dependencies"]
            unknown = {extra for text in extras for extra in text.split(",")} - set(known)
            return f"no extra {unknown}" if unknown else None
        case ["python", "-m", name, *_]:
            return None if can_be_run(name) else f"no module {name}"
        case ["pytest", *rest]:
            markers = [
                text.partition(":")[0]
                for text in project["tool"]["pytest"]["ini_options"]["markers"]
            ]
            asked = rest[rest.index("-m") + 1].split()[-1] if "-m" in rest else markers[0]
            return None if asked in markers else f"no marker {asked}"
        case ["uv", "sync" | "pip", *rest]:
            return problem(["pip", "install", *rest])
        case ["make", *targets]:
            makefile = (ROOT / "Makefile").read_text()
            unknown = [name for name in targets if f"\n{name}:" not in makefile]
            return f"no target {unknown}" if unknown else None
        case [".ci/run" | ".ci/interpreters" | "lint-imports" | "ruff" | "mypy" | "git" | "cd", *_]:
            return None
        case _:
            return "this is no command that the documents should show"
    return None


@in_every_document
def test_every_command_parses(document: Path) -> None:
    shown = commands(document.read_text())
    assert [(shlex.join(words), found) for words in shown if (found := problem(words))] == []


@in_every_document
def test_every_option_is_there(document: Path) -> None:
    known = options()
    named = set()
    for span in spans(document.read_text()):
        foreign = span.partition(" ")[0] in FOREIGN_COMMANDS
        named |= set() if foreign else set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", span))
    assert sorted(named - known) == []


# The quoted output ------------------------------------------------------------------------------


READING = ROOT / "docs" / "reading-the-report.md"
USAGE = ROOT / "docs" / "usage.md"

IN_BOTH = (
    "Each subject: max abs error, × the rounding floor. ",
    "Pair: largest difference between two.",
    "in float64 at {}; the largest error is {} ",
    "the rounding floor ({}, {}), the limit is {}×.",
    "in float64 by more than {}× the rounding floor",
    "first at {}: {}",
    "max abs {}, {} the floor",
    "{} at index [{}]: {}",
    "expected {}, found {}",
    "in isolation at {}",
    "; the errors at {} other {}s are inherited",
    "the difference is in the {} model, first at {}",
    "; the graph exported from it computes the same",
    "SAME padding, which here is ",
    "{} rows and {} columns, not {} and {}",
    "Applied to the reference layer alone",
    ", the error falls from {} to {}",
)
IN_READING = (
    "Isolated: × its floor, with the reference's input. ",
    "Growth: relative L2 divided by that of the row before.",
    "all top-1 labels agree, {}; {}",
    "but one can change",
    "and none can change",
    "the largest logit error, of {}, is {} {}",
    "half the smallest top-1 margin ({})",
    "device auto: on the CPU, since there is {}",
    "largest difference between two subjects: {}, {}, ",
    "{}: the same in float64 to {}{}",
    ", its graph read into {}",
    "is damaged: wrong checksum",
    "it was computed again",
    "{} agree; {}",
    "the largest error is {} the floor ({})",
    "{} runs of each subject are equal bit for bit",
    "errors on the seeded inputs are {} to {} the floor",
    "{} is built for CUDA {}; not found: {}; {}",
    "{} is a CPU build; {}",
    "{}: not a parity cache: it holds '{}' and has no {} of ",
    "set PARITY_CACHE to a new or empty folder, or use --no-cache",
    "{}: would be replaced, but is not a capture of {} that parity saved; ",
    "move it or name another folder",
    "judged from saved captures; no model was run",
)
IN_USAGE = ("the first is", "the block's input", "computed from {}")
QUOTED = [
    *((README, sentence) for sentence in IN_BOTH),
    *((READING, sentence) for sentence in IN_BOTH + IN_READING),
    *((USAGE, sentence) for sentence in IN_USAGE),
]
"""Sentences of the quoted output and their documents; `{}` stands for any value."""

OLD_SENTENCES = [
    "Pair: largest difference of two.",
    "the worst is {} the rounding floor",
    "are wrong by themselves at {}",
    "all first labels agree and one could flip",
    "worst at [{}], {} instead of {}",
    "what the block is given",
]
"""Sentences that earlier versions printed."""


def templates(file: Path) -> Iterator[str]:
    """The string literals of a module, no docstrings; `{}` replaces each value of an f-string."""
    docstrings = {id(node.value) for node in ast.walk(parsed(file)) if isinstance(node, ast.Expr)}
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and id(node) not in docstrings:
            yield str(node.value)


@cache
def source_text() -> str:
    """All string literals of `parity`, one a line."""
    files = [path for path in SOURCES if path.is_relative_to(ROOT / "parity")]
    return "\n".join(text for path in files for text in templates(path))


def is_printed(sentence: str) -> bool:
    """Whether the source holds a sentence."""
    return sentence in source_text()


def is_quoted(text: str, sentence: str) -> bool:
    """Whether a block of output in a document holds a sentence, with any values for its `{}`."""
    pattern = ".{1,200}?".join(map(re.escape, " ".join(sentence.split()).split("{}")))
    return any(re.search(pattern, " ".join(block.split())) for block in blocks(text, "text"))


@pytest.mark.parametrize(("document", "sentence"), QUOTED)
def test_the_quoted_output_is_that_of_the_source(document: Path, sentence: str) -> None:
    assert is_quoted(document.read_text(), sentence), "the document does not quote it"
    assert is_printed(sentence), "parity prints no such sentence"


@in_every_document
def test_no_document_quotes_an_old_sentence(document: Path) -> None:
    assert [text for text in OLD_SENTENCES if is_quoted(document.read_text(), text)] == []


# The tables, the length, the citations of the source ---------------------------------------------


def test_the_tables_of_files_are_those_of_the_source() -> None:
    text = design_tables.DESIGN.read_text()
    message = "python -m tests.design_tables writes the tables anew"
    assert design_tables.written(text) == text, message


def test_every_package_has_its_table() -> None:
    packages = {
        str(path.parent.relative_to(ROOT))
        for top in ("parity", "exporters")
        for path in (ROOT / top).rglob("*.py")
        if "/network/models/" not in str(path) and "/zoos/" not in str(path)
    }
    assert packages - set(design_tables.folders(design_tables.DESIGN.read_text())) == set()


def test_every_import_contract_is_described() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = [contract["name"] for contract in project["tool"]["importlinter"]["contracts"]]
    described = " ".join(design_tables.DESIGN.read_text().split())
    assert [name for name in names if f"**{name}" not in described] == []


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) < 150


def comments_and_docstrings(file: Path) -> str:
    source = file.read_text(encoding="utf-8")
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            found.append(token.string)
    for node in ast.walk(parsed(file)):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            found.append(value.value)
    return "\n".join(found)


CITED = re.compile(r"\b(?:DESIGN|FACTS|STYLE|BRIEF|CAUSES)\b(?!\.md)")
"""Documents of whoever works on the project, cited by their bare names."""


def dangling(text: str) -> list[str]:
    """The documents and files that a text cites and the repository does not hold."""
    cited = re.findall(r"[\w./-]*\w\.md\b", text)
    # A bare name in lower case is that of a file which a user or a command writes.
    missing = [name for name in cited if name != name.lower() or "/" in name]
    missing = [name for name in missing if not exists(name)] + CITED.findall(text)
    files = [found.rstrip("./") for found in re.findall(PATH, text)]
    return missing + [name for name in files if "." in name and not exists(name)]


def test_the_source_cites_no_file_that_is_not_there() -> None:
    found = {
        str(path.relative_to(ROOT)): missing
        for path in SOURCES
        if (missing := dangling(comments_and_docstrings(path)))
    }
    assert found == {}


def test_the_documents_are_in_the_repository() -> None:
    command = ["git", "ls-files", "--error-unmatch", *map(str, DOCUMENTS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if "not a git repository" in done.stderr:
        pytest.skip("this is no clone")
    assert done.returncode == 0, done.stderr


# Each check fails on a document that is wrong ---------------------------------------------------


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("parity/numerics/floor.py", True),
        ("parity/network/models/<family>/spec.py", True),
        ("parity/explain/causes/*.py", True),
        ("parity/numerics/", True),
        ("parity/numerics/flow.py", False),
        ("parity/network/models/<family>/jax.py", False),
    ],
)
def test_a_path_that_is_not_there_is_seen(path: str, there: bool) -> None:
    assert is_path(path)
    assert exists(path) is there


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("parity.compare", True),
        ('parity.compare("resnet50")', True),
        ("parity.numerics.floor", True),
        ("parity.numerics.verdict.Status.EXACT", True),
        ("parity.comparison.state.State.criteria", True),
        ("parity.compere", False),
        ("parity.numerics.verdict.Status.SAME", False),
        ("parity.flow.Flow", False),
    ],
)
def test_a_name_that_is_not_there_is_seen(name: str, there: bool) -> None:
    assert is_name(name)
    assert resolves(name) is there


def test_what_is_no_path_and_no_name_is_left_alone() -> None:
    assert not is_path("parity.report/1")
    assert not is_name("parity.toml")
    assert not is_name("parity.lock.json")


def test_a_broken_link_is_seen() -> None:
    text = "[a](docs/design.md) [b](docs/none.md) [c](docs/design.md#no-such-heading)"
    assert broken_links(README, text) == ["docs/none.md", "docs/design.md#no-such-heading"]


@pytest.mark.parametrize(
    "line",
    [
        "parity compere resnet18",
        "parity compare resnet18 --no-such-option",
        "parity compare resnet18 --device tpu",
        "parity convert resnet18",
        "parity env make",
        'pip install -e ".[everything]"',
        "python -m tests.mutants",
        "pytest -m quick",
        "make nonsense",
    ],
)
def test_a_command_that_would_not_run_is_seen(line: str) -> None:
    (words,) = commands(f"```console\n{line}\n```\n")
    assert problem(words)


def test_a_command_that_runs_is_left_alone() -> None:
    text = '```console\npip install -e ".[cpu]" && parity compare resnet18 --help  # all\n```\n'
    found = commands(text)
    assert len(found) == 2
    assert list(map(problem, found)) == [None, None]


@pytest.mark.parametrize("sentence", OLD_SENTENCES)
def test_a_sentence_that_is_no_longer_printed_is_seen(sentence: str) -> None:
    assert not is_printed(sentence)


def test_a_sentence_that_is_not_quoted_is_seen() -> None:
    text = "the limit is 4×\n```text\nthe worst is 1.0× the\nrounding floor, 4× is allowed\n```\n"
    assert is_quoted(text, "the worst is {} the rounding floor")
    assert not is_quoted(text, "the largest error is {} the rounding floor")
    assert not is_quoted(text, "the limit is {}×"), "prose is no quoted output"


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("See DESIGN.md.", ["DESIGN.md"]),
        ("The floor (DESIGN: the verdict).", ["DESIGN"]),
        ("The floor (docs/design.md, the verdict).", []),
        ("As parity/flow.py does.", ["parity/flow.py"]),
    ],
)
def test_a_citation_of_what_is_not_there_is_seen(text: str, missing: list[str]) -> None:
    assert dangling(text) == missing


def test_an_error_in_floors_is_written_in_one_way() -> None:
    """As `1.4e6×`, by `parity.text.format_ratio`; never as `1.4e+06x`."""
    assert not re.search(r"\}x(?: the floor|\b)(?!\{)", source_text().replace("{}x{}", ""))
