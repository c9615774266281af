"""The child processes of one command: started together, always closed together."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from parity.processes.child import TIMEOUT_S, Child
from parity.processes.interpreters import select_interpreter


class Children:
    """A mapping from a child's name to the child, which is started on first access.

    `python` is {runtime or environment: interpreter}; `timeout` and `gpu` are those of `Child`.
    """

    def __init__(
        self,
        *,
        python: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT_S,
        gpu: bool = False,
    ):
        self._python = python or {}
        self._timeout = timeout
        self._gpu = gpu
        self._children: dict[str, Child] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for child in self:
            if kind is not None:
                child.kill()
            else:
                child.close_input()
        # All of them end at the same time.
        for child in self:
            child.close()

    def start(self, names: Iterable[str]) -> None:
        """Start these children now, so that they import their frameworks in parallel."""
        for name in names:
            _ = self[name]

    def __iter__(self) -> Iterator[Child]:
        return iter(self._children.values())

    def __getitem__(self, name: str) -> Child:
        """Return the child of this name (`subjects.child_name`); start it if necessary."""
        # Two threads, one for each graph, may both need ONNX Runtime's child first.
        with self._lock:
            if name not in self._children:
                self._children[name] = Child(
                    name,
                    python=select_interpreter(name, self._python),
                    timeout=self._timeout,
                    gpu=self._gpu,
                )
            return self._children[name]

    @contextlib.contextmanager
    def threads(self, count: int) -> Iterator[ThreadPoolExecutor]:
        """Open a pool of threads that call these children; Ctrl-C kills the children first.

        A pool waits for its threads before it can be left, and they wait for their responses.
        """
        with ThreadPoolExecutor(count) as pool:
            try:
                yield pool
            except KeyboardInterrupt:
                self.kill()
                raise

    def kill(self) -> None:
        """Kill every child immediately, so that threads that wait for them return."""
        for child in list(self):
            child.kill()
