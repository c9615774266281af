"""A process that runs tasks for `parity.processes.executors.local`.

    python -m parity.processes.executors.server DESCRIPTOR FACTORY

It reads payloads from a socket and answers each with its outcome, until the socket is closed.
"""

from __future__ import annotations

import os
import platform
import queue
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from parity.processes import interrupts
from parity.processes.executors.tasks import (
    Task,
    TaskOutcome,
    create_runner,
    describe_exception,
    find_error_class,
)


def main(descriptor: int, factory: str) -> None:
    """Serve tasks; SIGTERM ends the process and its children."""
    # Ctrl-C reaches the whole process group; the parent decides when its processes end.
    interrupts.install_handlers()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection: Connection = Connection(descriptor)
    tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
    threading.Thread(target=_queue_tasks, args=(connection, tasks), daemon=True).start()
    runner = create_runner(factory)
    try:
        while (task := tasks.get()) is not None:
            connection.send(run_task(runner, task))
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    finally:
        interrupts.ignore_signals()
        runner.close()


def run_task(runner: Any, task: Task) -> TaskOutcome:
    """Run a task and return its outcome; raises KeyboardInterrupt alone."""
    start = time.perf_counter()
    value = problem = None
    error_class = ""
    try:
        value = runner.run(task.payload)
    except Exception as error:  # noqa: BLE001 (the other tasks go on)
        problem, error_class = describe_exception(error), find_error_class(error)
    seconds = time.perf_counter() - start
    return TaskOutcome(task.key, value, problem, seconds, platform.node(), error_class)


def _queue_tasks(connection: Connection, tasks: queue.SimpleQueue[Task | None]) -> None:
    """Queue tasks; end the process when the parent has died, even during a task."""
    try:
        while True:
            task = connection.recv()
            tasks.put(task)
            if task is None:
                return
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
