"""Names, values and numbers in one-line messages: quoting, shortening, similar words, figures."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from typing import TextIO

LONGEST = 80
"""Characters of a name or value in a message; the time of matching grows with their square."""

_DIGEST = 64
"""Hexadecimal digits of a SHA-256."""


_STYLES = re.compile(r"\x1b\[[0-9;]*m")
"""The codes by which a terminal shows text bold or in colour; Keras's errors have some."""


def quote(value: object) -> str:
    """Return the value's ``repr``: control characters escaped, at most ``LONGEST`` characters."""
    # Escapes only lengthen a string, so its beginning is enough; one more character is cut off.
    try:
        text = repr(value[: LONGEST + 1] if isinstance(value, str) else value)
    except (ValueError, RecursionError):
        # An integer of thousands of digits, or endless nesting.
        text = f"a {type(value).__name__} that cannot be printed"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def printable(name: str) -> str:
    """Return the name, quoted if it has control characters or is too long."""
    return name if name.isprintable() and len(name) <= LONGEST else quote(name)


def one_line(text: str, *, longest: int) -> str:
    """Return a text on one line: control characters escaped, cut after `longest` characters."""
    flat = " ".join(_STYLES.sub("", text[: 4 * longest]).split())
    safe = "".join(c if c.isprintable() else repr(c)[1:-1] for c in flat)
    return safe if len(safe) <= longest else f"{safe[: longest - 1]}…"


def abbreviate(value: object) -> str:
    """Return the first 16 digits of a SHA-256; quote any other value."""
    text = str(value)
    return text[:16] if len(text) == _DIGEST and text.isalnum() else quote(text)


def closest(word: str, known: Iterable[str], *, count: int = 1) -> list[str]:
    """Return at most `count` of the known words that are similar, the most similar first."""
    return difflib.get_close_matches(word[:LONGEST], list(known), n=count, cutoff=0.5)


def did_you_mean(names: Sequence[str], *, otherwise: str = "") -> str:
    """Return ``; did you mean 'a', 'b'?``, or ``; `` and `otherwise` if there are no names."""
    if names:
        return f"; did you mean {', '.join(map(quote, names))}?"
    return f"; {otherwise}" if otherwise else ""


def suggest(word: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """Return `did_you_mean` of the known word that is most similar, if any is."""
    return did_you_mean(closest(word, known), otherwise=otherwise)


def format_clock(seconds: float) -> str:
    """Return a duration as ``m:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def describe_remaining(done: int, total: int, seconds: float) -> str:
    """Return ``, 0:42 left`` after `done` of `total` equal steps took `seconds`.

    "" where no step is done, or none is left.
    """
    if done <= 0 or done >= total:
        return ""
    return f", {format_clock(seconds / done * (total - done))} left"


def find_unfiltered(stream: TextIO) -> TextIO:
    """Return the stream for parity's own styles and commands, which an escaping one has behind it.

    The command line escapes what is printed to the standard streams; any other stream is returned
    as it is.
    """
    unfiltered: TextIO = getattr(stream, "unfiltered", stream)
    return unfiltered


def format_number(value: float) -> str:
    """Format a number in two digits: 3.6e-6, 0.31, 8.4, 146."""
    if not math.isfinite(value):
        return "NaN/Inf"
    if value == 0.0:
        return "0"
    if 0.1 <= value < 1000:
        return f"{value:.{2 if value < 1 else 1 if value < 10 else 0}f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def format_size(size: int) -> str:
    """Format a number of bytes: 812 bytes, 31 kB, 2.4 MB."""
    if size < 1000:
        return f"{size} bytes"
    return f"{size / 1e3:.0f} kB" if size < 999_500 else f"{size / 1e6:,.1f} MB"


def format_ratio(value: float) -> str:
    """Format a ratio in at most six characters: 0.8×, 31×, 2.4e5×."""
    if not math.isfinite(value):
        return "∞×"
    if value < 10:
        return f"{value:.1f}×"
    return f"{value:.0f}×" if value < 1000 else f"{format_number(value)}×"
