"""A font that has the glyphs of class names, such as Chinese ones, among those installed."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

PREFERRED = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Microsoft YaHei", "PingFang SC",
    "SimHei", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Arial Unicode MS", "Heiti TC",
)  # fmt: skip
"""Fonts with Chinese glyphs, by the names under which systems install them."""

DEFAULT = "DejaVu Sans"
"""Matplotlib's own font."""


def find_font(texts: Iterable[str]) -> str | None:
    """Return a font that has every character of the texts; None if no installed one has.

    Matplotlib's own comes first, then the preferred ones.
    """
    from matplotlib import font_manager

    needed = frozenset(ord(c) for text in texts for c in text if not c.isspace())
    order = {name: place for place, name in enumerate((DEFAULT, *PREFERRED))}
    entries = sorted(
        {(entry.name, entry.fname) for entry in font_manager.fontManager.ttflist},
        key=lambda entry: (order.get(entry[0], len(order)), entry),
    )
    return next((name for name, path in entries if needed <= _read_glyphs(path)), None)


@cache
def _read_glyphs(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (RuntimeError, OSError):
        # A font file that FreeType cannot read.
        return frozenset()


def describe_missing_font(texts: Iterable[str]) -> str | None:
    """Return a note if no installed font has the characters of the texts; else None."""
    from parity.text import quote

    texts = list(texts)
    if find_font(texts) is not None:
        return None
    worst = next(text for text in texts if find_font([text]) is None or not text.isascii())
    return (
        f"no installed font has the characters of {quote(worst)}: the pictures show boxes instead; "
        f"install one, such as {PREFERRED[0]}"
    )
