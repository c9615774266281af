"""What every test shares: names of parameters that are the same in every process, children."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from parity.processes import children
from parity.processes.warm import client
from tests.shared_children import COLD, ROOT, ChildPool, TemplatePool


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that load a framework first: what remains for one worker at the end is short.

    Files stay together, and every worker finds the same order.
    """
    framework = {item.path for item in items if item.get_closest_marker("framework")}
    items.sort(key=lambda item: item.path not in framework)


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name a parameter of bytes after its argument, since its content may hold a time.

    Two workers of pytest-xdist that collect one test under two names end the whole run. Names
    that are not unique are numbered by pytest.
    """
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def _template_pool() -> Iterator[TemplatePool]:
    pool = TemplatePool()
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def _child_pool(_template_pool: TemplatePool) -> Iterator[ChildPool]:
    pool = ChildPool()
    yield pool
    pool.close()


@pytest.fixture(scope="module", autouse=True)
def _copied_children(
    request: pytest.FixtureRequest, _template_pool: TemplatePool
) -> Iterator[None]:
    """The children of this process start without an import.

    Those of `tests/processes`, which is about how a child starts, start as ever.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not (COLD or request.path.is_relative_to(ROOT / "tests" / "processes")):
            patch.setattr(client, "take", _template_pool.take)
        yield


@pytest.fixture(scope="module")
def shared_children(_child_pool: ChildPool) -> Iterator[None]:
    """While a module's tests run, the commands of this process take their children from a pool."""
    with pytest.MonkeyPatch.context() as patch:
        if not COLD:
            patch.setattr(children, "Child", _child_pool.take)
        yield
