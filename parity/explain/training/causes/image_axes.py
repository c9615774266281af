"""Images with their axes or channels reversed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from parity.explain.training.candidate import Array, Candidate, Evidence, take_images

WAYS: dict[str, Callable[[Array], Array]] = {
    "reversed in their channels": lambda x: x[:, ::-1],
    "mirrored": lambda x: x[..., ::-1],
    "upside down": lambda x: x[..., ::-1, :],
    "transposed": lambda x: x.swapaxes(-1, -2) if x.shape[-1] == x.shape[-2] else x,
}


def propose(evidence: Evidence) -> Iterator[Candidate]:
    for text, change in WAYS.items():
        yield from take_images(evidence, "image-axes", text, "give both the same axes", change)
