"""`assert_parity`: check in any test suite that models of several frameworks are the same.

It is loaded when it is first used: the plugin of pytest is beside it, and is imported by every
test run of the environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parity.testing.assertion import ParityAssertionError, assert_parity

__all__ = ["ParityAssertionError", "assert_parity"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'parity.testing' has no attribute {name!r}")
    from parity.testing import assertion

    return getattr(assertion, name)
