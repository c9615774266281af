"""Remedies install from where this parity came from, never by its name alone."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import parity
from parity.commands import doctor
from parity.errors import InterpreterError
from parity.processes import origin
from parity.processes.origin import Origin

ROOT = Path(parity.__file__).parent.parent
COMMIT = "4d15e90f0d6a5c1e"


@pytest.mark.parametrize(
    ("record", "command"),
    [
        (
            {"url": "file:///src/my%20parity", "dir_info": {"editable": True}},
            'pip install -e "/src/my parity[keras]"',
        ),
        ({"url": "file:///src/parity", "dir_info": {}}, 'pip install "/src/parity[keras]"'),
        (
            {
                "url": "https://example.org/a.git",
                "vcs_info": {"vcs": "git", "commit_id": COMMIT, "requested_revision": "main"},
            },
            f'pip install "parity[keras] @ git+https://example.org/a.git@{COMMIT}"',
        ),
        (
            {
                "url": "https://example.org/a.git",
                "vcs_info": {"vcs": "git", "commit_id": COMMIT},
                "subdirectory": "python",
            },
            f'pip install "parity[keras] @ git+https://example.org/a.git@{COMMIT}'
            '#subdirectory=python"',
        ),
        (
            {"url": "https://example.org/parity-0.1.0-py3-none-any.whl", "archive_info": {}},
            'pip install "parity[keras] @ https://example.org/parity-0.1.0-py3-none-any.whl"',
        ),
    ],
)
def test_an_extra_is_installed_from_the_recorded_origin(monkeypatch, record, command):
    monkeypatch.setattr(origin, "find_origin", lambda: origin.read_direct_url(record))
    assert origin.install_command("keras") == command


class Record:
    """A record as an index installs it: no `direct_url.json`."""

    requires = (
        "numpy>=2.0",
        'tensorflow<2.22,>=2.18; extra == "keras"',
        'keras>=3.8; extra == "keras"',
        'torch<2.14,>=2.9; extra == "torch"',
        'parity[keras,torch]; extra == "cpu"',
    )
    files = ()

    def read_text(self, name):
        return None


@pytest.fixture
def installed_from_an_index(monkeypatch, request):
    monkeypatch.setattr(origin, "find_origin", Origin)
    monkeypatch.setattr(origin, "find_distribution", Record)


@pytest.mark.usefixtures("installed_from_an_index")
@pytest.mark.parametrize(
    ("extra", "packages", "command"),
    [
        ("keras", (), 'pip install "tensorflow<2.22,>=2.18" "keras>=3.8"'),
        ("cpu", (), 'pip install "tensorflow<2.22,>=2.18" "keras>=3.8" "torch<2.14,>=2.9"'),
        ("unknown", ("timm",), "pip install timm"),
    ],
)
def test_without_a_record_of_the_origin_the_packages_are_named(extra, packages, command):
    assert origin.install_command(extra, packages) == command


@pytest.mark.usefixtures("installed_from_an_index")
def test_without_an_origin_no_other_environment_is_filled_by_a_name():
    command = origin.install_command("torch", python="/old/bin/python")
    assert "parity[" not in command
    with pytest.raises(InterpreterError, match="no record of where it was installed from"):
        origin.pip_arguments("torch")


def test_this_checkout_is_the_origin():
    assert origin.find_origin() == Origin(folder=str(ROOT), editable=True)
    assert origin.pip_arguments("torch") == ["-e", f"{ROOT}[torch]"]


def test_another_project_of_the_same_name_is_no_record_of_this_one(monkeypatch, tmp_path):
    folder = tmp_path / "parity-9.9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: parity\nVersion: 9.9\n")
    (folder / "RECORD").write_text("parity/__init__.py,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert metadata.distribution("parity").version == "9.9"
    assert origin.find_distribution() is None


def test_the_doctor_sees_a_clash_of_the_import_names(monkeypatch, tmp_path):
    assert origin.find_clashes() == []
    folder = tmp_path / "stranger-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (folder / "RECORD").write_text("exporters/__init__.py,,\nexporters/csv.py,,\n")
    # Newer releases of Python read of a record only the files that exist.
    for name in ("__init__.py", "csv.py"):
        (tmp_path / "exporters").mkdir(exist_ok=True)
        (tmp_path / "exporters" / name).write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    # The stranger's folder comes first on the path, and so shadows the exporters as well.
    line, *_ = origin.find_clashes()
    assert line.startswith("exporters: installed by stranger too")
    cache = {"problem": None, "writable": True}
    status = doctor.MachineStatus({}, "auto", "none", cache, (), [line])
    assert status.exit_code == 3


def test_the_doctor_sees_a_folder_that_shadows_the_exporters(monkeypatch, tmp_path):
    class Spec:
        def __init__(self, folder):
            self.submodule_search_locations = [str(folder)]

    folders = {"parity": ROOT / "parity", "exporters": tmp_path / "exporters"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: Spec(folders[name]))
    (line,) = origin.find_clashes()
    assert line.startswith(f"exporters: imported from {tmp_path / 'exporters'}, not from {ROOT}")


def test_every_name_that_is_installed_is_checked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert sorted(packages) == sorted(f"{name}*" for name in origin.IMPORT_NAMES)


def test_no_text_installs_parity_by_its_name():
    """Whoever registers the name on an index would get the machines of those who follow it."""
    by_name = re.compile(
        r"""pip install[^\n`&]*["' ]parity(\[[\w,-]+\])?(==[\w.]+)?(?! @)["'\s`]"""
    )
    texts = [
        *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("parity/**/*.py"), *ROOT.glob("exporters/**/*.py"),
    ]  # fmt: skip
    assert by_name.search('pip install "parity[keras]"')
    assert by_name.search('python -m pip install "parity[keras]==0.1"')
    assert not by_name.search('pip install "parity[keras] @ git+https://example.org/a"')
    found = [path for path in texts if by_name.search(path.read_text(encoding="utf-8"))]
    assert not found
