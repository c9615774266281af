"""A comparison's threads: whatever interrupts them, nobody waits for what will never come."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from parity.comparison.placement import plan_placement
from parity.comparison.preparation import Preparation
from parity.comparison.request import Request
from parity.errors import ChildError
from parity.processes.children import Children


class _Deaf(Children):
    """Children that start nothing, and do not answer before they are killed."""

    def __init__(self) -> None:
        super().__init__()
        self.killed = threading.Event()

    def __getitem__(self, runtime):
        self.killed.wait()
        raise ChildError(f"{runtime}: killed")

    def kill(self):
        self.killed.set()


def _interrupted_after(submissions):
    """Threads that Ctrl-C reaches when so many tasks have been handed to them."""

    class Threads(ThreadPoolExecutor):
        left = submissions

        def submit(self, *given, **named):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().submit(*given, **named)

    return Threads


@pytest.mark.parametrize("submissions", range(6))
def test_ctrl_c_while_the_work_is_handed_out(tmp_path, monkeypatch, submissions):
    """Then some wait for what others owe them, and those others were never started."""
    monkeypatch.setattr(
        "parity.processes.children.ThreadPoolExecutor", _interrupted_after(submissions)
    )
    monkeypatch.setenv("PARITY_CACHE", str(tmp_path / "cache"))
    request = Request(model="resnet18", image_size=(64, 64), cache=False)
    children = _Deaf()
    preparation = Preparation(request, children, tmp_path, lambda *_: None, plan_placement(request))
    ended: list[BaseException] = []

    def execute():
        try:
            preparation.run()
        except BaseException as error:  # noqa: BLE001 (the interruption is what is looked for)
            ended.append(error)

    thread = threading.Thread(target=execute, daemon=True)
    thread.start()
    thread.join(timeout=20)
    try:
        assert not thread.is_alive(), "a thread waits for a promise that nobody will keep"
        assert isinstance(ended[0], KeyboardInterrupt)
        assert children.killed.is_set()
    finally:
        children.kill()
        preparation.pending.fail_all(ChildError("the test is over"))
