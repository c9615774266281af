"""The framework of a model in the user's code, told by what its file imports; nothing is run."""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from parity import files
from parity.processes import registry, zoos
from parity.processes.references import SCRIPT, ModelReference

_MOST_FILES = 50
"""Files that are read at most, following the imports of local modules."""


def guess_script_runtime(reference: ModelReference) -> str | None:
    """Return the one runtime that a module's or script's imports point to; None if none or several.

    What the named class or function refers to counts first, then its whole file, then the local
    modules that the file imports.
    """
    if not reference.is_code:
        return reference.runtime
    packages = _packages()
    if reference.form == SCRIPT:
        file: Path | None = Path(reference.target)
        folders = [Path(reference.target).resolve().parent]
    else:
        root = reference.target.partition(".")[0]
        if root in packages:
            return packages[root]
        folders = [Path.cwd(), *map(Path, filter(None, sys.path))]
        file = _find_module(reference.target, folders)
    if file is None:
        return None
    name = reference.attribute.partition(".")[0]
    return _of_definition(file, name, packages) or _of_files(file, folders[:1], packages)


def list_sources(reference: ModelReference) -> tuple[Path, ...]:
    """Return the local Python files that a model in the user's code is made of, sorted.

    They are its own file and those that it imports, by way of others too; installed packages are
    not local. A file that a script opens itself is not known. A reference that is no code has none.
    """
    if not reference.is_code:
        return ()
    if reference.form == SCRIPT:
        start = [Path(reference.target).resolve()]
        folders = [start[0].parent]
    else:
        folders = [Path.cwd(), *map(Path, filter(None, sys.path))]
        start = _find_module_files(reference.target, folders)
        folders = [each for each in folders if not _is_installed(each)]
    found: set[Path] = set()
    pending = [each for each in start if not _is_installed(each)]
    while pending:
        file = pending.pop().resolve()
        if file in found:
            continue
        found.add(file)
        tree = _parse(file)
        for node in () if tree is None else ast.walk(tree):
            for module in _imported_modules(node):
                parents = list(file.parents)[: _relative_level(node)] or [file.parent]
                pending += _find_module_files(module, [parents[-1], *folders])
    return tuple(sorted(found))


def _imported_modules(node: ast.AST) -> Iterator[str]:
    """Yield every module that a statement may import: `from a import b` may import `a.b`."""
    for module, names in _imports(node):
        yield module
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{module}.{name}" for name in names)


def _relative_level(node: ast.AST) -> int:
    return node.level if isinstance(node, ast.ImportFrom) else 0


def _is_installed(path: Path) -> bool:
    """Whether a path belongs to Python or to its installed packages."""
    parts = path.resolve().parts
    standard = Path(sysconfig.get_path("stdlib")).resolve().parts
    return "site-packages" in parts or parts[: len(standard)] == standard


def _find_module_files(module: str, folders: list[Path]) -> list[Path]:
    """Return the file of a local module and those of the packages around it."""
    for folder in folders:
        file = None if _is_installed(folder) else _find_module(module, [folder])
        if file is not None:
            parts = module.split(".")
            packages = [folder.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts))]
            return [*filter(Path.is_file, packages), file]
    return []


def _packages() -> dict[str, str]:
    """Return {package: runtime} of the packages that one runtime alone, or a zoo, imports."""
    owners: dict[str, set[str]] = {}
    for name, info in registry.frameworks().items():
        for package in info.package_names:
            owners.setdefault(package, set()).add(name)
    for zoo in zoos.all_zoos().values():
        for package in zoo.packages:
            owners.setdefault(package, set()).add(zoo.runtime)
    models = registry.model_runtimes()
    return {
        package: next(iter(runtimes))
        for package, runtimes in owners.items()
        if len(runtimes) == 1 and runtimes <= set(models)
    }


def _of_definition(file: Path, name: str, packages: dict[str, str]) -> str | None:
    """Return the only runtime that a top-level definition refers to, by way of others too."""
    tree = _parse(file)
    if tree is None:
        return None
    # What each top-level name is: a package of a runtime, or a definition of this file.
    bound: dict[str, str] = {}
    definitions: dict[str, ast.stmt] = {}
    for node in tree.body:
        for module, names in _imports(node):
            bound |= dict.fromkeys(names, module)
        for each in _defined_names(node):
            definitions[each] = node
    found: set[str] = set()
    pending, seen = [name], set()
    while pending:
        each = pending.pop()
        if each in seen:
            continue
        seen.add(each)
        if each in bound:
            found |= {packages[root] for root in [_root(bound[each])] if root in packages}
        elif each in definitions:
            node = definitions[each]
            for inner in ast.walk(node):
                found |= {packages[_root(m)] for m, _ in _imports(inner) if _root(m) in packages}
                if isinstance(inner, ast.Name):
                    pending.append(inner.id)
    return next(iter(found)) if len(found) == 1 else None


def _of_files(file: Path, folders: list[Path], packages: dict[str, str]) -> str | None:
    """Return the only runtime that a file imports, or, if it imports none, its local modules."""
    pending, seen = [file], {file}
    while pending:
        found: set[str] = set()
        following: list[Path] = []
        for each in pending:
            tree = _parse(each)
            for node in () if tree is None else ast.walk(tree):
                for module, _ in _imports(node):
                    if _root(module) in packages:
                        found.add(packages[_root(module)])
                        continue
                    local = _find_module(module, [each.parent, *folders])
                    if local is not None and local not in seen and len(seen) < _MOST_FILES:
                        seen.add(local)
                        following.append(local)
        if found:
            return next(iter(found)) if len(found) == 1 else None
        pending = following
    return None


def _imports(node: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """Yield the modules that a statement imports, each with the names that it binds."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, [alias.asname or _root(alias.name)]
    elif isinstance(node, ast.ImportFrom):
        names = [alias.asname or alias.name for alias in node.names]
        if node.module:
            yield node.module, names
        else:
            # `from . import blocks`
            for alias in node.names:
                yield alias.name, [alias.asname or alias.name]


def _defined_names(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def _root(module: str) -> str:
    return module.partition(".")[0]


def _find_module(module: str, folders: list[Path]) -> Path | None:
    """Return the file of a module in these folders, without importing its parents."""
    for folder in folders:
        path = folder.joinpath(*module.split("."))
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                return file
    return None


def _parse(file: Path) -> ast.Module | None:
    """Return the syntax tree of a file; None for one that Python could not compile either."""
    try:
        return ast.parse(files.read_bytes(file))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
