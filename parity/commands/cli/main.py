"""The entry point: guard the streams, run the command line, return the exit code.

It imports no more than it needs before the signal handlers are installed, so that Ctrl-C at the
very beginning is no traceback either.
"""

import sys
from collections.abc import Sequence

from parity.commands.cli import outlet
from parity.processes import interrupts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    `arguments` are by default those of the process. Without arguments the help is printed.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    # SIGTERM, as a scheduler sends it, is handled like Ctrl-C: temporary files are removed.
    interrupts.install_handlers()
    with outlet.guard_streams() as (stdout, stderr):
        try:
            code = _run(words, stdout)
        except KeyboardInterrupt:
            stderr.write(f"error: {outlet.INTERRUPTION}\n")
            code = 3
        finally:
            interrupts.cancel_retry()
            if arguments is None:
                # The process ends; nothing that could be interrupted is left.
                interrupts.ignore_signals()
    return code


def _run(words: Sequence[str], stdout: outlet.GuardedStream) -> int:
    from parity.processes.garbage import no_garbage_collection

    with no_garbage_collection():
        from parity.commands.cli import application, error_handling

    code, is_stated = application.run(words)
    failure = outlet.describe_failure(stdout)
    if failure is not None:
        error_handling.report_error(failure)
        # A verdict stands whether or not it was printed; printing is all that other commands do.
        code = code if is_stated else 2
    return code


if __name__ == "__main__":
    sys.exit(main())
