"""The cache: what its keys cover, that entries are verified, that nothing foreign is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import parity
from parity.commands import compare as comparing
from parity.commands import doctor
from parity.commands import export as exporting
from parity.comparison import cache_entries
from parity.comparison.request import Request
from parity.errors import UsageError
from parity.network import architectures, weights
from parity.processes import cache, probe
from parity.processes.cache import Cache

FACTS = {"model": "m"}
DATA = bytes(range(256)) * 500


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("PARITY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def entry(root, tmp_path):
    """A published entry."""
    made = tmp_path / "made"
    made.write_bytes(DATA)
    return Cache().publish("graphs", FACTS, made)


def age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


# What the keys cover


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the two packages, whose source can be changed."""
    base = Path(parity.__file__).parent.parent
    for name in ("parity", "exporters"):
        shutil.copytree(
            base / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.html")
        )
    monkeypatch.setattr(parity, "__file__", str(tmp_path / "parity" / "__init__.py"))
    probe.source_digest.cache_clear()
    yield tmp_path
    probe.source_digest.cache_clear()


def keys():
    """The keys of what the textbook's ResNet-18 leaves in the cache."""
    probe.source_digest.cache_clear()
    cache_entries._describe_interpreter.cache_clear()
    found = architectures.get("resnet18@d2l")
    facts = [
        cache_entries.weights_key(found, 0, "torch"),
        cache_entries.graph_key(found, "torch", None),
    ]
    return [cache._key(each) for each in facts]


@pytest.mark.parametrize(
    "pattern",
    [
        "parity/**/models/resnet/torch.py",
        "parity/**/models/resnet/spec.py",
        "parity/**/runtimes/**/*.py",
        "parity/**/weights.py",
        "parity/**/_calibration.py",
        "exporters/**/*.py",
    ],
)
def test_a_change_of_any_module_changes_both_keys(package, pattern):
    """The textbook's model imports another family's modules, and runtimes calibrate."""
    before = keys()
    found = sorted(package.glob(pattern))
    assert found
    for path in found:
        with path.open("a") as file:
            file.write("# changed\n")
        after = keys()
        assert all(new != old for new, old in zip(after, before, strict=True)), path
        before = after


def test_a_module_that_moves_changes_the_keys(package):
    before = keys()
    (package / "parity" / "errors.py").rename(package / "parity" / "faults.py")
    assert not set(keys()) & set(before)


@pytest.mark.parametrize("change", ["version", "torch", "numpy", "python", "source"])
def test_versions_are_in_both_keys(monkeypatch, change):
    before = keys()
    probe_interpreter = probe.probe_interpreter

    def changed(runtime, python=None):
        found = probe_interpreter(runtime, python)
        if change == "torch":
            return replace(found, versions={**found.versions, "torch": "9.9"})
        return replace(found, **{"parity" if change == "version" else change: "9.9"})

    monkeypatch.setattr(probe, "probe_interpreter", changed)
    assert not set(keys()) & set(before)
    cache_entries._describe_interpreter.cache_clear()


def test_random_weights_depend_on_who_draws_and_calibrates_them(monkeypatch):
    found = architectures.get("resnet18")
    facts = cache_entries.weights_key(found, 0, "torch")
    assert facts != cache_entries.weights_key(found, 0, "keras")
    assert facts != cache_entries.weights_key(found, 1, "torch")
    monkeypatch.setattr(np, "__version__", "9.9")
    assert facts != cache_entries.weights_key(found, 0, "torch")


def test_the_source_is_hashed_once_and_in_milliseconds():
    """Four on an idle machine; the limit is for a busy one."""
    probe.source_digest.cache_clear()
    started = time.perf_counter()
    digest = probe.source_digest()
    assert time.perf_counter() - started < 0.2
    started = time.perf_counter()
    assert probe.source_digest() == digest
    assert time.perf_counter() - started < 0.001


# Entries are verified


def test_an_entry_is_found_by_its_facts(entry):
    assert entry.read_bytes() == DATA
    assert Cache().find("graphs", FACTS) == entry
    assert Cache().find("graphs", {"model": "n"}) is None
    assert Cache().find("weights", FACTS) is None
    assert Cache(enabled=False).find("graphs", FACTS) is None


def test_a_cache_that_is_not_enabled_keeps_nothing(root, tmp_path):
    (tmp_path / "made").write_bytes(DATA)
    assert Cache(enabled=False).publish("graphs", FACTS, tmp_path / "made") == tmp_path / "made"
    assert not root.exists()


def _edit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _fold(path):
    path.unlink()
    path.mkdir()
    (path / "precious").write_text("precious")


def _link(path):
    path.replace(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


DAMAGES = {
    "truncated": lambda path: path.write_bytes(DATA[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "foreign": lambda path: path.write_text("something else"),
    "longer": lambda path: path.write_bytes(DATA + b"\0"),
    "edited": _edit,
    "folder": _fold,
    "link": _link,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_entry_is_noted_and_made_anew(entry, tmp_path, damage):
    damage(entry)
    found = Cache()
    assert found.find("graphs", FACTS) is None
    (note,) = found.notes
    assert note.startswith(f"cache entry graphs/{entry.name} ")
    assert note.endswith("; it was computed again")
    assert found.publish("graphs", FACTS, tmp_path / "made") == entry
    again = Cache()
    assert again.find("graphs", FACTS) == entry
    assert not again.notes


def test_zeros_at_the_end_that_are_cut_off_are_seen(root, tmp_path):
    (tmp_path / "made").write_bytes(bytes(4096))
    entry = Cache().publish("graphs", FACTS, tmp_path / "made")
    entry.write_bytes(bytes(4096 - 8))
    assert Cache().find("graphs", FACTS) is None


def test_a_folder_in_an_entry_s_place_is_moved_aside_not_removed(entry):
    _fold(entry)
    Cache().find("graphs", FACTS)
    (aside,) = entry.parent.glob("*.aside-*")
    assert (aside / "precious").read_text() == "precious"
    cache.prune(0)
    assert (aside / "precious").exists()


def test_an_entry_that_another_process_has_replaced_is_not_removed(entry, monkeypatch):
    """Between the look at the damaged file and its removal, a sound one took its place."""
    entry.write_bytes(b"damaged")
    examine = cache._verify_entry

    def meanwhile(path):
        found = examine(path)
        path.with_name("new").write_bytes(DATA)
        path.with_name("new").replace(path)
        return found

    monkeypatch.setattr(cache, "_verify_entry", meanwhile)
    Cache().find("graphs", FACTS)
    assert entry.read_bytes() == DATA


RACE = """
import sys, threading
from pathlib import Path
from parity.processes.cache import Cache
made = Path(sys.argv[1])
for _ in range(60):
    found = Cache().find("graphs", {"model": "m"})
    assert found is None or found.read_bytes() == made.read_bytes()
    assert Cache().publish("graphs", {"model": "m"}, made).read_bytes() == made.read_bytes()
"""


def test_processes_that_publish_the_same_at_once(root, tmp_path):
    """Nobody sees half an entry, and no temporary file is left."""
    (tmp_path / "made").write_bytes(DATA * 8)
    command = [sys.executable, "-c", RACE, str(tmp_path / "made")]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in running:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert len(list((root / "graphs").iterdir())) == 1
    assert sorted(path.name for path in root.iterdir()) == [cache.TAG, "graphs"]


def test_a_cache_that_cannot_be_written_keeps_nothing(root, tmp_path):
    root.write_text("a file")
    (tmp_path / "made").write_bytes(DATA)
    cache.require_own_folder()
    assert Cache().publish("graphs", FACTS, tmp_path / "made") == tmp_path / "made"
    assert Cache().find("graphs", FACTS) is None
    assert root.read_text() == "a file"


def test_verifying_weights_takes_milliseconds(root, tmp_path):
    """100 MB in about 8 ms on an idle machine; a SHA-256 takes ten times that."""
    weights.save(tmp_path / "made", {"a": np.ones(25 * 2**20, np.float32)})
    Cache().publish("weights", FACTS, tmp_path / "made")
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        assert Cache().find("weights", FACTS)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.1


# Nothing foreign is touched


def users(root):
    """A folder with the user's own files, some where the cache has its entries."""
    names = ["notes.txt", "graphs/mine.onnx", "weights/best.safetensors", "deep/er/file"]
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        age(path, 10 * cache.IN_USE_S)
    return {name: (root / name).read_text() for name in names}


def test_a_folder_of_the_user_s_own_is_refused_and_left_as_it_was(root, tmp_path):
    before = users(root)
    with pytest.raises(UsageError, match="not a parity cache: it holds") as raised:
        cache.require_own_folder()
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 2
    cache.prune(0)
    assert cache.total_bytes() == 0
    (tmp_path / "made").write_bytes(DATA)
    assert Cache().publish("graphs", FACTS, tmp_path / "made") == tmp_path / "made"
    found = {p.relative_to(root).as_posix(): p.read_text() for p in root.rglob("*") if p.is_file()}
    assert found == before


def test_a_command_refuses_it_before_any_work(root, monkeypatch):
    users(root)
    monkeypatch.setattr(comparing, "Children", lambda **_: pytest.fail("children are started"))
    monkeypatch.setattr(exporting, "Children", lambda **_: pytest.fail("children are started"))
    with pytest.raises(UsageError, match="PARITY_CACHE"):
        comparing.compare_request(Request(model="resnet18"))
    with pytest.raises(UsageError, match="PARITY_CACHE"):
        exporting.export("resnet18", root.with_name("x.onnx"), side="torch")


def test_the_user_s_files_within_the_cache_are_neither_counted_nor_removed(entry, root):
    before = users(root)
    age(entry, 2 * cache.IN_USE_S)
    assert cache.total_bytes() == len(DATA)
    cache.require_own_folder()
    cache.prune(0)
    assert not entry.exists()
    found = {p.relative_to(root).as_posix(): p.read_text() for p in root.rglob("*") if p.is_file()}
    assert found.keys() == before.keys() | {cache.TAG}


def test_another_program_s_cache_is_not_ours(root):
    root.mkdir()
    (root / cache.TAG).write_text("Signature: 8a477f597d28d172789f06886806bc55\n# by cargo\n")
    with pytest.raises(UsageError, match=cache.TAG):
        cache.require_own_folder()


def test_a_cache_of_before_there_was_a_tag_is_taken_over(root, tmp_path):
    old = root / "weights" / f"{'a' * 32}.safetensors"
    old.parent.mkdir(parents=True)
    old.write_bytes(DATA)
    age(old, 2 * cache.IN_USE_S)
    cache.require_own_folder()
    (tmp_path / "made").write_bytes(DATA)
    entry = Cache().publish("graphs", FACTS, tmp_path / "made")
    assert cache.total_bytes() == 2 * len(DATA)
    cache.prune(len(DATA))
    assert (old.exists(), entry.exists()) == (False, True)


def test_the_oldest_make_room_but_not_what_is_in_use(root, tmp_path):
    made = tmp_path / "made"
    made.write_bytes(DATA)
    paths = [Cache().publish("graphs", {"n": n}, made) for n in range(4)]
    for hours, path in zip((2, 4, 3, 0), paths, strict=True):
        age(path, hours * cache.IN_USE_S)
    cache.prune(2 * len(DATA))
    assert [path.exists() for path in paths] == [True, False, False, True]
    cache.prune(0)
    assert [path.exists() for path in paths] == [False, False, False, True]
    Cache().find("graphs", {"n": 3})
    assert paths[3].stat().st_mtime > time.time() - 60


def test_the_folder_is_tagged_as_a_cache(entry, root):
    """So that backups leave it out: https://bford.info/cachedir/."""
    text = (root / cache.TAG).read_text()
    assert text.startswith("Signature: 8a477f597d28d172789f06886806bc55\n")
    assert "parity" in text


def test_the_doctor_counts_entries_and_tells_a_foreign_folder(root):
    users(root)
    facts = doctor.inspect_cache()
    assert facts["bytes"] == 0
    status = doctor.MachineStatus({}, "auto", "none", facts, ())
    assert status.exit_code == 3
    assert "not a parity cache" in status.missing[0]
