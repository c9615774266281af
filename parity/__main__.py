"""The `parity` command, and `python -m parity` where its scripts are not on the path.

Until the command line has handlers of its own, Ctrl-C ends the process as it ends any program: no
import is interrupted half way, which would print a traceback. `_signal` is what `signal` wraps, and
imports nothing.
"""

import _signal  # type: ignore[import-not-found]
import sys


def main() -> int:
    """Run the command line and return the exit code."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from parity.commands.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
