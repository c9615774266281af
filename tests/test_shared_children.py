"""What tests share is as good as new: no model, no changed code, no broken process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from parity.errors import ChildError, WeightError
from parity.processes.child import Child
from parity.processes.warm import client
from tests.shared_children import ChildPool, SharedChild, TemplatePool

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChildPool]:
    """A pool of children that serve `tests.fakes.fake` instead of a framework."""
    monkeypatch.setenv("PARITY_RUNTIMES", "tests.fakes")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made = ChildPool()
    yield made
    made.close()


@pytest.fixture
def templates(pool: ChildPool, monkeypatch: pytest.MonkeyPatch) -> Iterator[TemplatePool]:
    """Templates of that runtime, of which every child of a test is a copy."""
    made = TemplatePool()
    monkeypatch.setattr(client, "take", made.take)
    yield made
    made.close()


def parent_of(child: Child) -> int:
    return int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[1])


def take(pool: ChildPool) -> SharedChild:
    return pool.take("fake", python=None, timeout=60.0, gpu=False)


def pid(child: SharedChild) -> int:
    return int(child.call("loaded")["pid"])


def test_the_next_command_gets_the_process_without_its_model(pool: ChildPool) -> None:
    child = take(pool)
    child.call("load", value="a model")
    before = pid(child)
    child.close()
    again = take(pool)
    assert pid(again) == before
    assert again.call("loaded")["held"] is None
    other = take(pool)
    assert pid(other) != before, "two commands at once have two processes"
    for each in (again, other):
        each.close()


def test_other_variables_get_another_process(
    pool: ChildPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = take(pool)
    before = pid(child)
    child.close()
    monkeypatch.setenv("XLA_FLAGS", "--nothing")
    other = take(pool)
    assert pid(other) != before
    other.close()


@pytest.mark.parametrize(
    ("operation", "arguments", "error"),
    [("refuse", {"message": "no"}, WeightError), ("die", {"code": 3}, ChildError)],
)
def test_a_failure_ends_the_process(
    pool: ChildPool, operation: str, arguments: dict[str, object], error: type[Exception]
) -> None:
    child = take(pool)
    before = pid(child)
    with pytest.raises(error):
        child.call(operation, **arguments)
    child.close()
    after = take(pool)
    assert pid(after) != before
    after.close()


def test_a_child_that_a_command_has_killed_is_not_taken(pool: ChildPool) -> None:
    child = take(pool)
    before = pid(child)
    child.kill()
    child.close()
    after = take(pool)
    assert pid(after) != before
    after.close()


@pytest.mark.parametrize("change", ["none", "file", "neighbour", "folder"])
def test_code_that_has_changed_is_run_in_a_new_process(
    pool: ChildPool, tmp_path: Path, change: str
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.py").write_text("x = 1\n")
    reference = f"{tmp_path}/a/net.py:build"
    child = take(pool)
    child.call("load", value=reference)
    before = pid(child)
    child.close()
    if change == "file":
        (tmp_path / "a" / "net.py").write_text("x = 12\n")
    elif change == "neighbour":
        (tmp_path / "a" / "helper.py").write_text("y = 1\n")
    elif change == "folder":
        reference = f"{tmp_path}/b/net.py:build"
    child = take(pool)
    child.call("load", value=reference)
    found = child.call("loaded")
    assert found["held"] == [reference]
    assert (found["pid"] == before) == (change == "none")
    child.close()


def test_a_command_with_code_of_two_folders_keeps_its_state(
    pool: ChildPool, tmp_path: Path
) -> None:
    references = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.py").write_text("x = 1\n")
        references.append(f"{tmp_path}/{name}/net.py:build")
    child = take(pool)
    for reference in references:
        child.call("load", value=reference)
    before = pid(child)
    assert child.call("loaded")["held"] == references
    child.close()
    after = take(pool)
    assert pid(after) != before, "which folder's modules it has is not known"
    after.close()


def test_a_copy_knows_nothing_of_the_one_before(
    templates: TemplatePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Child("fake")
    first.call("load", value="a model")
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.chdir(tmp_path)
    second = Child("fake")
    assert first.pid != second.pid
    assert parent_of(first) == parent_of(second) != os.getpid()
    assert second.call("loaded") == {"held": None, "pid": second.pid}
    assert Path(f"/proc/{second.pid}/cwd").resolve() == tmp_path
    assert Path(second.call("litter")["path"]).parent == Path(second._temporary.name)
    assert first.call("loaded")["held"] == ["a model"]
    for child in (first, second):
        child.close()


def test_a_copy_ends_as_any_child_does(templates: TemplatePool) -> None:
    child = Child("fake")
    with pytest.raises(ChildError, match=r"exit code 3\); its last output: farewell"):
        child.call("die", code=3)
    child.close()
    child = Child("fake")
    child.kill()
    with pytest.raises(ChildError):
        child.call("loaded")
    child.close()


def test_other_variables_have_another_template(
    templates: TemplatePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Child("fake")
    monkeypatch.setenv("XLA_FLAGS", "--nothing")
    second = Child("fake")
    assert parent_of(first) != parent_of(second)
    for child in (first, second):
        child.close()


def test_a_template_that_is_gone_is_done_without(templates: TemplatePool) -> None:
    first = Child("fake")
    os.kill(parent_of(first), signal.SIGKILL)
    second = Child("fake")
    assert parent_of(second) == os.getpid()
    assert first.call("loaded")["pid"] == first.pid
    for child in (first, second):
        child.close()
