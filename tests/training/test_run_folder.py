"""The folder of a run: which files of a folder are the run's, and which are the user's."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from parity import temporary
from parity.errors import UsageError
from parity.training.run_folder import FrameworkProgress, RunFolder, RunProgress

USERS = (
    ".prettierrc.json", ".data.csv", "src/.babelrc.json", "keras/.notes.json",
    "tensorboard/.logo.svg", "keras/state-of-the-art.safetensors",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path)
    folder.create(("keras", "torch"), {})
    (tmp_path / "src").mkdir()
    return folder


def name_of_an_ended_process(name: str) -> str:
    """Return the temporary name that a process which has ended gave to a file."""
    script = "import sys, pathlib; from parity import temporary; "
    script += "print(temporary.name_beside(pathlib.Path(sys.argv[1])).name)"
    done = subprocess.run([sys.executable, "-c", script, name], capture_output=True, text=True)
    return done.stdout.strip()


def test_to_resume_deletes_no_file_of_the_user_or_of_a_living_process(folder):
    kept = [folder.path / name for name in USERS]
    kept += [
        temporary.name_beside(folder.progress),
        temporary.name_beside(folder.checkpoint("keras", "last")),
        # No folder of the run.
        folder.path / "src" / name_of_an_ended_process("last.safetensors"),
    ]
    left = [
        path.with_name(name_of_an_ended_process(path.name))
        for path in (folder.progress, folder.checkpoint("torch", "last"), folder.events("keras"))
    ]
    old = folder.path / "torch" / "state-1-7.safetensors"
    for path in (*kept, *left, old):
        path.write_text("{}")
    progress = {name: FrameworkProgress() for name in ("keras", "torch")}
    folder.delete_incomplete_files(("keras", "torch"))
    folder.delete_other_states(RunProgress(progress, epoch=2))
    assert [path.name for path in kept if not path.exists()] == []
    assert [path.name for path in (*left, old) if path.exists()] == []


@pytest.mark.parametrize(
    "name",
    ["initial.safetensors", "verification.json", "history.json", "history.svg", "metrics.csv",
     "classes.json", "progress.json", "keras/last.safetensors", "torch/best.h5",
     "torch/state-1-7.safetensors", "tensorboard/keras/events.out.tfevents.0.parity"],
)  # fmt: skip
def test_a_new_run_takes_no_file_of_another(name, folder):
    folder.configuration.unlink()
    (folder.path / name).write_text("{}")
    with pytest.raises(UsageError, match=re.escape(f"{folder.path / name}: is a file of")) as error:
        folder.create(("keras", "torch"), {})
    assert "\n" not in str(error.value)
    assert not folder.configuration.exists()


def test_a_new_run_may_share_a_folder_with_other_files(folder):
    folder.configuration.unlink()
    for name in USERS:
        (folder.path / name).write_text("{}")
    folder.create(("keras", "torch"), {})
    assert folder.configuration.is_file()


def test_a_folder_with_a_run_is_refused(folder):
    with pytest.raises(UsageError, match="holds a run; --resume continues it"):
        folder.create(("keras", "torch"), {})
