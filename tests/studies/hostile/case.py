"""One hostile input: files in a folder, a command that is given them, and how it may end."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Write = Callable[[Path], None]
"""Writes the files of a case into its folder."""

REFUSED = frozenset({2})
UNDECIDED = frozenset({2, 3})
"""As `JUDGED`, of a command that would then run out of time."""
JUDGED = frozenset({0, 1, 2})
"""A change may be harmless; the command then does what it does with good input."""


@dataclass(frozen=True)
class HostileCase:
    """The command is run in the folder that `write` has filled, with `variables` set.

    `limits` are {resource: soft limit} of the process, such as the size of a file.
    """

    kind: str
    name: str
    write: Write
    arguments: tuple[str, ...]
    expected: frozenset[int] = REFUSED
    variables: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[int, int] = field(default_factory=dict)


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Return other bytes: flipped, cut, doubled, inserted, or with an extreme number in them."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(7):
            case 0 if data:
                data[place % len(data)] ^= 1 << chance.randrange(8)
            case 1 if data:
                data[place % len(data)] = chance.choice((0, 0xFF, 0x7F, 0x80, 10, 13, 27, 0x22))
            case 2:
                del data[place:]
            case 3:
                del data[place : place + chance.randrange(1, 40)]
            case 4:
                data[place:place] = data[place : place + chance.randrange(1, 200)]
            case 5:
                data[place:place] = chance.randbytes(chance.randrange(1, 9))
            case 6:
                number = chance.choice((0, -1, 2**31 - 1, 2**31, 2**63 - 1, -(2**63)))
                size = chance.choice((4, 8))
                part = (number % 256**size).to_bytes(size, chance.choice(("little", "big")))
                data[place : place + size] = part
    return bytes(data)


def mutate_text(text: str, chance: random.Random) -> str:
    """Return another text: a word replaced, a line doubled or dropped, or as `mutate` does."""
    tricky = (
        "0", "-1", "1e400", "nan", "Infinity", "9" * 5000, '"' + "x" * 100_000 + '"', "[" * 3000,
        "\x1b[2J", "\n::error::taken\n", "\x00", "\u202e", "true", "null", "''", "{}", "[[]]",
        "../../etc/passwd", "1979-05-27", "0x10", "\ud83d", "é", "deep", '"\\u001b[31m"',
    )  # fmt: skip
    lines = text.split("\n")
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(lines))
        match chance.randrange(5):
            case 0:
                words = lines[at].split(" ")
                words[chance.randrange(len(words))] = chance.choice(tricky)
                lines[at] = " ".join(words)
            case 1:
                lines.insert(at, lines[chance.randrange(len(lines))])
            case 2 if len(lines) > 1:
                del lines[at]
            case 3:
                lines.insert(at, chance.choice(tricky))
            case 4:
                line = lines[at]
                place = chance.randrange(len(line) + 1)
                lines[at] = line[:place] + chance.choice(tricky) + line[place:]
    return "\n".join(lines)
