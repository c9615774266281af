"""Images of another scale, or with their axes or channels reversed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from parity.explain.training.candidate import Array, Candidate, Evidence

WAYS: dict[str, Callable[[Array], Array]] = {
    "0 to 255, not 0 to 1": lambda x: x * np.float32(255),
    "divided by 255 twice": lambda x: x / np.float32(255),
    "−1 to 1, not 0 to 1": lambda x: x * np.float32(2) - np.float32(1),
    "divided by 256, not by 255": lambda x: x * np.float32(255 / 256),
    "reversed in their channels": lambda x: x[:, ::-1],
    "mirrored": lambda x: x[..., ::-1],
    "upside down": lambda x: x[..., ::-1, :],
    "transposed": lambda x: x.swapaxes(-1, -2) if x.shape[-1] == x.shape[-2] else x,
    "inverted": lambda x: np.float32(1) - x,
}


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if not evidence.kinds & {"samples", "statistics"}:
        return
    for text, change in WAYS.items():
        images = np.ascontiguousarray(change(evidence.terms.images))
        yield Candidate(
            "input-scale" if "255" in text or "−1" in text or text == "inverted" else "input-axes",
            f"the images are {text}",
            "scale the images alike",
            expect=partial(evidence.failing.rerun, images=images),
        )
