"""The zoos are found in their folders, also one that is dropped in; no list is elsewhere."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from parity.errors import RequirementError
from parity.processes import zoos
from parity.processes.references import parse_reference
from parity.processes.subjects import parse_child_name
from parity.processes.variables import child_variables
from parity.runtimes.torch import zoos as torch_zoos

ROOT = Path(__file__).resolve().parents[2]


def test_every_folder_of_a_zoo_is_found():
    folders = {
        path.parent.name: path.parts[-4] for path in ROOT.glob("parity/runtimes/*/zoos/*/load.py")
    }
    assert {name: zoo.runtime for name, zoo in zoos.all_zoos().items()} == folders
    assert {"keras", "torchvision", "timm", "hf"} <= set(folders)


def test_the_extra_installs_what_a_zoo_imports():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for zoo in zoos.all_zoos().values():
        installed = {text.partition(">")[0] for text in extras[zoo.extra]}
        assert set(zoo.packages) <= installed


def test_children_cannot_download():
    variables = child_variables(parse_child_name("torch"), own_interpreter=True, gpu=False)
    assert variables["HF_HUB_OFFLINE"] == variables["TRANSFORMERS_OFFLINE"] == "1"


@pytest.fixture
def dropped(tmp_path, monkeypatch):
    """A function that drops in a zoo with this `about.py`."""

    def drop(about):
        folder = tmp_path / "toyzoo"
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "about.py").write_text(about)
        monkeypatch.setattr(torch_zoos, "__path__", [*torch_zoos.__path__, str(tmp_path)])
        zoos._discover.cache_clear()

    yield drop
    monkeypatch.undo()
    zoos._discover.cache_clear()
    for name in [name for name in sys.modules if ".toyzoo" in name]:
        del sys.modules[name]


def test_a_zoo_that_is_dropped_in_is_found(dropped):
    dropped(
        "from parity.processes.zoos import ZooInfo\n"
        "ABOUT = ZooInfo(packages=('toy',), extra='zoo')\n"
    )
    reference = parse_reference("toyzoo:small,depth=3")
    assert (reference.zoo, reference.target, reference.runtime) == ("toyzoo", "small", "torch")


def test_an_about_without_its_facts_is_refused(dropped):
    dropped("")
    with pytest.raises(RequirementError, match="expected ABOUT, a ZooInfo, found NoneType"):
        zoos.all_zoos()
