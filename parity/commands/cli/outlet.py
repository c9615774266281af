"""The standard streams of a command: what they print is escaped, and a failure changes no verdict.

File names, layer names and messages of other libraries are other people's text. Whatever a command
prints passes through here, so that none of it can control a terminal or a CI system.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

INTERRUPTION = "interrupted; there is no result, and no incomplete file was left"

LONGEST_WORD = 300
"""Characters of a word in a message; a longer one loses its middle."""
LONGEST_MESSAGE = 2000
"""Characters of a message on one line."""

# GitHub reads `::command::` at the beginning of a line and the older `##[command]` anywhere.
_COMMAND_START = re.compile(r"(?m)^([^\S\n]*):(?=:)")
_OLDER_COMMAND = re.compile(r"##(?=\[)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")


def escape(text: str, *, at_line_start: bool = True) -> str:
    r"""Return a text without control characters and commands for a CI system.

    Such characters become `\u001b` and the like, which a JSON string may hold too. Line breaks and
    spaces of any width stay; colours, which Keras puts into its messages, are left out.
    """
    if not text.isprintable():
        text = _COLOUR.sub("", text)
        text = "".join(c if _is_harmless(c) else _escape_character(c) for c in text)
    if "::" in text:
        if not at_line_start:
            first, newline, rest = text.partition("\n")
            return _escape_older(first) + newline + (escape(rest) if newline else "")
        text = _COMMAND_START.sub(lambda match: f"{match[1]}\\u003a", text)
    return _escape_older(text)


def encode_escaped(text: str, encoding: str) -> str:
    r"""Return a text whose characters all exist in `encoding`; others become `\u00e9`."""
    try:
        text.encode(encoding)
        return text
    except UnicodeEncodeError:
        return "".join(c if _can_encode(c, encoding) else _escape_character(c) for c in text)


def shorten(text: str) -> str:
    """Return a message with its longest words and its end cut."""
    if len(text) > LONGEST_WORD:
        text = _LONG_WORD.sub(lambda match: f"{match[0][:200]}…{match[0][-60:]}", text)
    return text if len(text) <= LONGEST_MESSAGE else f"{text[: LONGEST_MESSAGE - 1]}…"


class UnfilteredStream:
    """A stream that prints text as it is, and remembers why it no longer can.

    After the first failure everything is dropped: a command that has a verdict returns it, whether
    or not somebody reads what it prints.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream
        self.error: OSError | None = None

    @property
    def encoding(self) -> str:
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        with self._recording():
            if self.error is None:
                self._stream.write(encode_escaped(text, self.encoding))
        return len(text)

    def flush(self) -> None:
        with self._recording():
            if self.error is None:
                self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _recording(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = error
        except ValueError:
            # The stream was closed.
            self.error = OSError(errno.EBADF, os.strerror(errno.EBADF))


class GuardedStream:
    """A stream whose text is escaped; `unfiltered` prints styles and commands of parity's own."""

    # Click would print to the binary stream behind one of another encoding.
    encoding = "utf-8"
    errors = "strict"

    def __init__(self, stream: TextIO):
        self.unfiltered = UnfilteredStream(stream)
        self._line = ""

    def write(self, text: str) -> int:
        safe = escape(text, at_line_start=not self._line.strip())
        if self._line.strip() == ":" and safe.startswith(":"):
            # The second half of a command.
            safe = f"\\u003a{safe[1:]}"
        self.unfiltered.write(safe)
        _, newline, last = text.rpartition("\n")
        # Its beginning is enough to tell whether a command could still start.
        self._line = last[:80] if newline else (self._line + last)[:80]
        return len(text)

    def flush(self) -> None:
        self.unfiltered.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unfiltered, name)


@contextmanager
def guard_streams() -> Iterator[tuple[GuardedStream, GuardedStream]]:
    """Guard standard output and error while open; yields both."""
    before = sys.stdout, sys.stderr
    guarded = GuardedStream(sys.stdout), GuardedStream(sys.stderr)
    sys.stdout, sys.stderr = guarded  # type: ignore[assignment]
    try:
        yield guarded
    finally:
        sys.stdout, sys.stderr = before
        for stream in guarded:
            stream.flush()
            if stream.unfiltered.error is not None:
                _discard_rest(stream)


def describe_failure(stream: GuardedStream) -> str | None:
    """Return why standard output could not be written; None also for a closed pipe.

    The reader of a pipe may close it: `parity models | head -1`.
    """
    stream.flush()
    error = stream.unfiltered.error
    if error is None or isinstance(error, BrokenPipeError):
        return None
    return f"standard output: cannot be written: {error.strerror or error}"


def _discard_rest(stream: GuardedStream) -> None:
    """Keep the interpreter from writing again, at its end, what could not be written."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _is_harmless(character: str) -> bool:
    if character == "\n" or character.isprintable():
        return True
    import unicodedata  # here, since `parity --help` writes no such character

    # Spaces of other widths; line and paragraph separators are of other categories.
    return unicodedata.category(character) == "Zs"


def _escape_character(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def _escape_older(text: str) -> str:
    return _OLDER_COMMAND.sub(r"#\\u0023", text)


def _can_encode(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
