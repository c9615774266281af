"""The generated pages are those of the source, and the site has every page in its navigation."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from parity.explain import causes
from parity.explain.training import causes as training_causes
from parity.report import cause_pages
from tests import site_pages, test_project

ROOT = site_pages.ROOT


def test_the_pages_are_those_of_the_source():
    expected = site_pages.pages()
    found = {path: path.read_text(encoding="utf-8") for path in expected if path.exists()}
    assert found == expected, "python -m tests.site_pages writes the pages anew"
    assert set(site_pages.PAGES.glob("*.md")) <= set(expected), "a page of no cause is left"


def test_every_cause_has_a_page():
    pages = site_pages.read_causes()
    for package, folder in ((causes, "INFERENCE"), (training_causes, "TRAINING")):
        modules = {Path(str(module.__file__)) for module in package.modules()}
        assert {page.path for page in pages[getattr(site_pages, folder)]} == modules
    for page in (page for each in pages.values() for page in each):
        assert page.names, f"{page.path}: no name of a cause was found"
        assert page.docstring
        assert page.proofs


def test_every_stated_name_is_on_a_page():
    """A constant `NAME = "…"` of a cause's module is the name of a page."""
    links = site_pages.cause_links()
    for module in causes.modules():
        name = getattr(module, "NAME", None)
        assert name is None or name in links


def test_every_cause_has_a_page_that_the_report_finds():
    """What the HTML report links to is a page that there is, and that says the same."""
    for folder, kind in (
        (site_pages.INFERENCE, cause_pages.INFERENCE),
        (site_pages.TRAINING, cause_pages.TRAINING),
    ):
        names = [name for page in site_pages.read_causes()[folder] for name in page.names]
        found = cause_pages.find_pages(names, kind)
        assert list(found) == list(dict.fromkeys(names))
        for name, page in found.items():
            text = (ROOT / page.file).read_text(encoding="utf-8")
            title = next(line for line in text.splitlines() if line.startswith("# "))
            assert name in title.removeprefix("# ").split(", ")
            assert page.symptom
            assert page.proof
            assert page.proof.partition(". ")[0] in text
    assert cause_pages.find_pages(["no-such-cause"]) == {}


def test_a_page_has_an_address_where_the_installation_states_the_site(monkeypatch):
    stated = metadata.metadata("parity")
    page = cause_pages.find_pages(["same-padding"])["same-padding"]
    assert page.address is None or page.address.startswith("https://")
    stated["Project-URL"] = "Documentation, https://parity.example/docs/"
    monkeypatch.setattr(cause_pages.metadata, "metadata", lambda name: stated)
    page = cause_pages.find_pages(["same-padding"])["same-padding"]
    assert page.address == "https://parity.example/docs/causes/same-padding/"
    # That is where MkDocs puts docs/causes/same-padding.md.
    assert page.file == "docs/causes/same-padding.md"


def test_the_sentences_and_remedies_are_read_from_the_source():
    text = (
        "NAME, OTHER = 'a-cause', 'another'\n"
        "def propose_candidates(failing):\n"
        "    for name, value in ((NAME, 1), (OTHER, 2)):\n"
        "        yield Candidate(name, change(), f'It has {value} heads', _remedy(failing))\n"
        "def _remedy(failing):\n"
        "    if failing.framework == 'keras':\n"
        "        return f'{failing.label}: use {failing.wanted} heads'\n"
        "    remedy = 'set heads'\n"
        "    remedy = f'first, {remedy}'\n"
        "    return remedy\n"
    )
    reader = site_pages.SourceReader(ast.parse(text))
    statements = reader.statements(site_pages.POSITIONS)
    assert list(statements) == ["a-cause", "another"]
    sentences, remedies = statements["a-cause"]
    assert sentences == ["It has … heads"]
    assert sorted(remedies) == ["first, set heads", "set heads", "use … heads"]


def test_values_of_one_loop_are_not_mixed_with_those_of_another():
    text = (
        "def propose_candidates(failing):\n"
        "    for one, two in (('query', 'key'), ('key', 'value')):\n"
        "        yield Candidate('a', change(), f'{one} and {two} are exchanged', 'r')\n"
        "    for text in scales():\n"
        "        yield Candidate('a', change(), f'multiplied by {text}', 'r')\n"
        "    for text in ('the root', 'one'):\n"
        "        yield Candidate('a', change(), f'divided by {text}', 'r')\n"
    )
    reader = site_pages.SourceReader(ast.parse(text))
    sentences, _ = reader.statements(site_pages.POSITIONS)["a"]
    assert sentences == [
        "… and … are exchanged", "multiplied by …", "divided by the root", "divided by one"
    ]  # fmt: skip


def test_a_thread_without_an_address_is_refused():
    assert "github.com/keras-team/keras/issues/19291" in site_pages.link_threads("see keras#19291")
    with pytest.raises(ValueError, match="REPOSITORIES has no address"):
        site_pages.link_threads("see unknown#1")


def test_every_page_is_in_the_navigation():
    """MkDocs leaves a page that the navigation lacks unreachable, without an error."""
    navigation = test_project.read(ROOT / "mkdocs.yml")["nav"]
    listed = set(re.findall(r"[\w/-]+\.md", str(navigation)))
    docs = ROOT / "docs"
    there = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    hidden = {path for path in there if path.startswith("causes/") and path != "causes/index.md"}
    assert there - hidden == listed


@pytest.mark.skipif(shutil.which("mkdocs") is None, reason="MkDocs is not installed")
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "causes" / "same-padding" / "index.html").is_file()
    search = (tmp_path / "search" / "search_index.json").read_text(encoding="utf-8")
    assert "rounding floor" in search
