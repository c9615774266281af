"""The generated pages of the documentation: one for each cause, and the API reference.

A cause's page is made of its module: the docstring (how it shows, public threads), the functions
that it has (how it is proved), and the sentences and remedies in its source. The API reference is
made of the signatures and docstrings of what the packages list in `__all__`.

`python -m tests.site_pages` writes them anew.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "causes"
API = ROOT / "docs" / "api.md"
LINKS = ROOT / "parity" / "report" / "cause_pages.json"
"""What the HTML report knows of the pages."""

INFERENCE = "parity/explain/causes"
TRAINING = "parity/explain/training/causes"

MOST = 16
"""Sentences of one expression; what has more is shown with gaps."""

# The classes and functions that state a cause: the places of its name, sentence and remedy.
STATEMENTS = {
    "Candidate": ("cause", "text", "remedy"),
    "StructuralCause": ("cause", "text", "remedy"),
    "Rerun": ("cause", "text", "remedy"),
    "take_batch": ("name", "text", "remedy"),
    "take_images": ("name", "text", "remedy"),
    "take_rate": ("name", "text", "remedy"),
}
POSITIONS = {"Candidate": (0, 2, 3), "StructuralCause": (0, 3, 4), "Rerun": (0, 2, 4)}
TRAINING_POSITIONS = {
    "Candidate": (0, 1, 2),
    "take_batch": (1, 2, 3),
    "take_images": (1, 2, 3),
    "take_rate": (1, 2, 3),
}

PROOFS = {
    "propose_candidates": "The difference is applied to the reference's layer, and that layer "
    "alone is evaluated in float64 on the reference's input. The cause is named if the error falls "
    "to the rounding floor.",
    "propose_reruns": "The subject runs a second time with one option changed, on the same weights "
    "and input. The cause is named if every comparison point is then at the floor.",
    "find_structural_causes": "The structure of both models proves it: the layers themselves "
    "differ, whatever the weights are.",
    "propose": "The difference is applied to the reference's step: the same weights, the same "
    "batch. The cause is named if the step is then the subject's, up to the floor of that step.",
}
"""How a cause is proved, by the function that its module has."""

OWN_PROOFS = {
    "region": (
        "Both models run on two inputs, each layer with the reference's tensors. The reference "
        "then runs in float64 with the subject's tensor in place of its own. The cause is named if "
        "both outputs are then the subject's, to within the limit, and differ if it is left out. A "
        "difference of the layer's last operation is named where both read the same tensors, on "
        "both inputs, and the same weights.",
    )
}
"""How the causes of a module are proved otherwise."""

REPOSITORIES = {
    "keras": "keras-team/keras",
    "pytorch": "pytorch/pytorch",
    "onnxruntime": "microsoft/onnxruntime",
    "onnxscript": "microsoft/onnxscript",
    "MMdnn": "microsoft/MMdnn",
    "tensorflow": "tensorflow/tensorflow",
    "tensorflow-onnx": "onnx/tensorflow-onnx",
}
THREAD = re.compile(r"(?<![\w/])(?P<name>[A-Za-z][\w-]*)#(?P<number>\d+)")


Positions = dict[str, tuple[int, ...]]
Statements = dict[str, tuple[list[str], list[str]]]


@dataclass(frozen=True)
class CausePage:
    """The facts of one cause's module. `statements` is {name: (its sentences, its remedies)}."""

    path: Path
    docstring: str
    proofs: tuple[str, ...]
    statements: Statements = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return list(self.statements)


# Reading a module -------------------------------------------------------------------------------


class SourceReader:
    """The sentences that expressions of a module may become; `…` stands for what is known later."""

    def __init__(self, tree: ast.Module):
        self.tree = tree
        self.constants = [
            value.value
            for name in _constant_names(tree)
            for value in _assigned(tree, ast.Name(name))
            if isinstance(value, ast.Constant) and isinstance(value.value, str)
        ]
        self._open: set[int] = set()
        """The expressions that are being read: one that refers to itself ends there."""
        self.functions = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        self.owners = {
            id(node): function
            for function in self.functions.values()
            for node in ast.walk(function)
        }

    def texts(self, node: ast.AST | None, depth: int = 0) -> list[str]:
        """Return the sentences that an expression may become."""
        if node is None or depth > 8 or id(node) in self._open:
            return ["…"] if node is None or depth > 8 else []
        self._open.add(id(node))
        try:
            return self._list(node, depth)
        finally:
            self._open.discard(id(node))

    def _list(self, node: ast.AST, depth: int) -> list[str]:
        found = list(dict.fromkeys(itertools.islice(self._texts(node, depth + 1), MOST)))
        return found or ["…"]

    def _texts(self, node: ast.AST, depth: int) -> Iterator[str]:
        match node:
            case ast.Constant(value=str(text)):
                yield text
            case ast.JoinedStr(values=parts):
                values = [p.value if isinstance(p, ast.FormattedValue) else p for p in parts]
                unknown = self._varying_together(values)
                options = [
                    ["…"] if id(value) in unknown else self.texts(value, depth) for value in values
                ]
                yield from map("".join, itertools.product(*options))
            case ast.BoolOp(values=parts):
                for part in parts:
                    yield from self.texts(part, depth)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                pairs = itertools.product(self.texts(left, depth), self.texts(right, depth))
                yield from map("".join, pairs)
            case ast.IfExp(body=body, orelse=other):
                yield from self.texts(body, depth)
                yield from self.texts(other, depth)
            case ast.Attribute(attr="label"):
                yield "LAYER"
            case ast.Subscript(value=ast.Name() as name):
                yield from self._named(name, depth)
            case ast.Dict(values=values):
                for value in values:
                    yield from self.texts(value, depth)
            case ast.Name():
                yield from self._named(node, depth)
            case ast.Call(func=ast.Name(id=name)) if name in self.functions:
                for inner in ast.walk(self.functions[name]):
                    if isinstance(inner, ast.Return) and inner.value is not None:
                        yield from self.texts(inner.value, depth)
            case _:
                yield "…"

    def _varying_together(self, values: Sequence[ast.AST]) -> set[int]:
        """Return the expressions that several targets of one loop give: not every pair of values
        is one that the loop has."""
        found: set[int] = set()
        for loop in ast.walk(self.tree):
            if isinstance(loop, ast.For) and isinstance(loop.target, ast.Tuple):
                targets = {each.id for each in loop.target.elts if isinstance(each, ast.Name)}
                own = [v for v in values if isinstance(v, ast.Name) and v.id in targets]
                inside = {id(node) for node in ast.walk(loop)}
                if len({v.id for v in own}) > 1 and inside.issuperset(map(id, own)):
                    found.update(map(id, own))
        return found

    def _named(self, node: ast.Name, depth: int) -> Iterator[str]:
        """Yield the sentences of a variable: assigned in its function or module, or passed."""
        function = self.owners.get(id(node))
        for scope in filter(None, (function, self.tree)):
            values = list(_assigned(scope, node))
            if values:
                for value in values:
                    yield from self.texts(value, depth)
                return
        if function is not None:
            names = [argument.arg for argument in function.args.args]
            for call in _calls(self.tree, function.name):
                if node.id in names:
                    yield from self.texts(_argument(call, node.id, names.index(node.id)), depth)

    def statements(self, positions: Positions) -> Statements:
        """Return {cause: (its sentences, its remedies)}, in the order of the source."""
        found: Statements = {}
        for constructor, places in positions.items():
            keys = STATEMENTS[constructor]
            for call in _calls(self.tree, constructor):
                names, sentences, remedies = (
                    self.texts(_argument(call, key, place))
                    for key, place in zip(keys, places, strict=True)
                )
                for name in dict.fromkeys(itertools.chain(*map(self._complete, names))):
                    entry = found.setdefault(name, ([], []))
                    for texts, more in zip(entry, (sentences, remedies), strict=True):
                        texts += [text for text in map(tidy, more) if text and text not in texts]
        return found

    def _complete(self, name: str) -> list[str]:
        """Return a cause's name; of one with gaps, the module's constants that fit."""
        if "…" not in name:
            return [name]
        pattern = ".+".join(map(re.escape, name.split("…")))
        return [each for each in self.constants if re.fullmatch(pattern, each) and name != "…"]


def _constant_names(tree: ast.Module) -> list[str]:
    targets = [t for node in tree.body if isinstance(node, ast.Assign) for t in node.targets]
    return [target.id for target in targets if isinstance(target, ast.Name) and target.id.isupper()]


def _assigned(scope: ast.AST, used: ast.Name) -> Iterator[ast.AST]:
    """Yield the values that a name may have where it is used: by assignments in the scope, or from
    a written-out loop around it."""
    name = used.id
    nodes = scope.body if isinstance(scope, ast.Module) else list(ast.walk(scope))
    for node in nodes:
        pairs: list[tuple[ast.AST, ast.AST]] = []
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            pairs = [(node.target, node.value)]
        elif (
            isinstance(node, ast.For)
            and isinstance(node.iter, ast.Tuple)
            and any(inner is used for inner in ast.walk(node))
        ):
            pairs = [(node.target, value) for value in node.iter.elts]
        for target, value in pairs:
            if isinstance(target, ast.Name) and target.id == name:
                yield value
            elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                for each, part in zip(target.elts, value.elts, strict=False):
                    if isinstance(each, ast.Name) and each.id == name:
                        yield part


def _calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node


def _argument(call: ast.Call, keyword: str, position: int) -> ast.AST | None:
    for each in call.keywords:
        if each.arg == keyword:
            return each.value
    return call.args[position] if position < len(call.args) else None


def tidy(text: str) -> str:
    """Return a sentence without the layer that it begins with, and with single gaps."""
    text = re.sub(r"^(LAYER|…): ", "", " ".join(text.split()))
    text = re.sub(r"(… ?)+…", "…", text.replace("LAYER", "the layer"))
    return "" if not re.search(r"[A-Za-z]{3}", text) else text


def read_cause(path: Path, positions: Positions) -> CausePage:
    """Read the module of a cause."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    reader = SourceReader(tree)
    proofs = tuple(PROOFS[name] for name in PROOFS if name in reader.functions)
    proofs = OWN_PROOFS.get(path.stem, proofs)
    statements = reader.statements(positions)
    return CausePage(path, ast.get_docstring(tree) or "", proofs, statements)


def read_causes() -> dict[str, list[CausePage]]:
    """Return the causes of {folder: modules}."""
    return {
        folder: [
            read_cause(path, positions)
            for path in sorted((ROOT / folder).glob("*.py"))
            if path.name != "__init__.py"
        ]
        for folder, positions in ((INFERENCE, POSITIONS), (TRAINING, TRAINING_POSITIONS))
    }


# Pages ------------------------------------------------------------------------------------------


def link_threads(text: str) -> str:
    """Return a text whose public threads, such as `keras#19291`, are links."""

    def link(match: re.Match[str]) -> str:
        repository = REPOSITORIES.get(match["name"])
        if repository is None:
            raise ValueError(f"{match[0]}: REPOSITORIES has no address for it")
        return f"[{match[0]}](https://github.com/{repository}/issues/{match['number']})"

    return THREAD.sub(link, text)


def cause_page(page: CausePage) -> str:
    """Return the page of a cause's module."""
    source = page.path.relative_to(ROOT).as_posix()
    lines = [
        f"<!-- `python -m tests.site_pages` writes this page from {source}. -->",
        f"# {', '.join(page.names)}",
        "## How it shows",
        link_threads(page.docstring),
        "## How it is proved",
        *page.proofs,
    ]
    sentences = {name: texts for name, (texts, _) in page.statements.items() if texts}
    if sentences:
        lines.append("The report then says, with the layer's own values in the gaps:")
        lines.append(_list_by_name(sentences, len(page.names) > 1))
    remedies = {name: texts for name, (_, texts) in page.statements.items() if texts}
    lines.append("## How to mend it")
    lines.append(
        _list_by_name(remedies, len(page.names) > 1)
        if remedies
        else "The remedy depends on the layer; the report states it."
    )
    lines.append(f"Source: `{source}`. [All causes](index.md)")
    return "\n\n".join(lines) + "\n"


def _list_by_name(texts: dict[str, list[str]], several: bool) -> str:
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, each in texts.items():
        alike.setdefault(tuple(each), []).append(f"`{name}`")
    lines = []
    for each, names in alike.items():
        if several and len(alike) > 1:
            lines += [f"{', '.join(names)}:", ""]
        # Angle brackets and asterisks would be markup.
        lines += ["- " + re.sub(r"([*<_])", r"\\\1", text) for text in each]
        lines.append("")
    return "\n".join(lines).rstrip()


INDEX = """<!-- `python -m tests.site_pages` writes this page. -->
# The causes

A cause is a difference that is proved: applied to the reference's part alone, the error falls to
the rounding floor. What is not proved is reported as "not explained", with the causes that came
closest. Each page says how the cause shows, how it is proved and how to mend it; it is made of the
cause's own source.
"""


def index_page(causes: dict[str, list[CausePage]]) -> str:
    """Return the table of all causes."""
    parts = [INDEX]
    titles = {INFERENCE: "Inference", TRAINING: "Training"}
    for folder, pages in causes.items():
        parts.append(f"## {titles[folder]}\n\n| cause | how it shows |\n|---|---|")
        for page in pages:
            names = ", ".join(f"`{name}`" for name in page.names)
            symptom = " ".join(page.docstring.partition("\n\n")[0].split())
            symptom = symptom.replace("|", "\\|")
            parts.append(f"| [{names}]({page_name(page)}) | {symptom} |")
        parts.append("")
    return "\n".join(parts)


def page_name(page: CausePage) -> str:
    """Return the name of a cause's file in docs/causes/."""
    prefix = "training-" if "training" in page.path.parts else ""
    return f"{prefix}{page.path.stem.replace('_', '-')}.md"


def link_data(causes: dict[str, list[CausePage]]) -> str:
    """Return the file of {kind: {cause's name: its page, symptom and proof}} for the report.

    The first page that has a name is its page.
    """
    data: dict[str, dict[str, dict[str, str]]] = {}
    for folder, kind in ((INFERENCE, "inference"), (TRAINING, "training")):
        data[kind] = {}
        for page in causes[folder]:
            symptom = " ".join(page.docstring.partition("\n\n")[0].split())
            stem = page_name(page).removesuffix(".md")
            entry = {"page": stem, "symptom": symptom, "proof": " ".join(page.proofs)}
            for name in page.names:
                data[kind].setdefault(name, entry)
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def cause_links() -> dict[str, str]:
    """Return {cause's name: the file of its page}; a training cause may share a name."""
    pages = [page for each in read_causes().values() for page in each]
    return {name: page_name(page) for page in reversed(pages) for name in page.names}


# The API reference ------------------------------------------------------------------------------


API_HEAD = """<!-- `python -m tests.site_pages` writes this page from the docstrings. -->
# The Python API

`import parity` loads neither NumPy nor a framework; each function is loaded when it is first used.
Everything is typed. Errors are subclasses of `parity.errors.ParityError`: the message is one line.
"""


def api_page() -> str:
    """Return the reference of everything that is public."""
    import parity

    parts = [API_HEAD, "## parity"]
    for name in parity.__all__:
        if name in parity._MODULES:
            parts.append(_describe(f"parity.{name}", parity._MODULES[name], name))
    parts += [
        "## parity.testing",
        _describe("parity.testing.assert_parity", "parity.testing.assertion"),
    ]
    parts += ["## exporters"]
    parts.append(_describe("exporters.export", "exporters.dispatch"))
    parts.append(_describe("exporters.keras_onnx.export", "exporters.keras.export"))
    parts.append(_describe("exporters.torch_onnx.export", "exporters.torch.export"))
    return "\n\n".join(parts) + "\n"


def _describe(title: str, module: str, name: str | None = None) -> str:
    """Return the section of a function or class, without importing its module."""
    name = name or title.rpartition(".")[2]
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = (n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef))
    node = next(n for n in nodes if n.name == name)
    docstring = ast.get_docstring(node) or ""
    if isinstance(node, ast.ClassDef):
        rows = "\n".join(
            f"| `{field}` | `{kind}` | {text} |" for field, kind, text in _fields(node)
        )
        table = f"| field | type | what it is |\n|---|---|---|\n{rows}" if rows else ""
        return "\n\n".join(filter(None, [f"### {title}", docstring, table]))
    signature = f"```python\n{_signature(node)}\n```"
    return f"### {title}\n\n{signature}\n\n{docstring}"


def _signature(node: ast.FunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    arguments = ast.unparse(node.args)
    line = f"{node.name}({arguments}){returns}"
    if len(line) <= 90:
        return line
    # ast.unparse writes one line; commas inside brackets do not end an argument.
    parts = re.findall(r"(?:[^,\[\]()]|\[(?:[^\[\]]|\[[^\[\]]*\])*\]|\([^()]*\))+", arguments)
    inner = "".join(f"    {part.strip()},\n" for part in parts)
    return f"{node.name}(\n{inner}){returns}"


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    """Yield (name, type, the text below it) of each public field and property."""
    following = [*node.body[1:], None]
    for each, after in zip(node.body, following, strict=True):
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            text = after.value.value if _is_text(after) else ""  # type: ignore[union-attr]
            kind = ast.unparse(each.annotation)
        elif isinstance(each, ast.FunctionDef) and not each.name.startswith("_"):
            text = (ast.get_docstring(each) or "").partition("\n\n")[0]
            kind = ast.unparse(each.returns) if each.returns else ""
        else:
            continue
        name = each.target.id if isinstance(each, ast.AnnAssign) else each.name  # type: ignore[union-attr]
        yield name, kind.replace("|", "\\|"), " ".join(text.split()).replace("|", "\\|")


def _is_text(node: ast.AST | None) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def pages() -> dict[Path, str]:
    """Return {file: text} of every generated page."""
    causes = read_causes()
    found = {
        PAGES / "index.md": index_page(causes),
        API: api_page(),
        LINKS: link_data(causes),
    }
    for each in causes.values():
        found |= {PAGES / page_name(page): cause_page(page) for page in each}
    return found


def write() -> None:
    """Write all pages, and remove those of causes that there no longer are."""
    PAGES.mkdir(exist_ok=True)
    new = pages()
    for path in PAGES.glob("*.md"):
        if path not in new:
            path.unlink()
    for path, text in new.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
