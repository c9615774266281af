"""Images of another scale: the first layer sees 255 times as much, or numbers around 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from parity.explain.training.candidate import Array, Candidate, Evidence, take_images

WAYS: dict[str, Callable[[Array], Array]] = {
    "0 to 255, not 0 to 1": lambda x: x * np.float32(255),
    "divided by 255 twice": lambda x: x / np.float32(255),
    "−1 to 1, not 0 to 1": lambda x: x * np.float32(2) - np.float32(1),
    "divided by 256, not by 255": lambda x: x * np.float32(255 / 256),
    "inverted": lambda x: np.float32(1) - x,
}


def propose(evidence: Evidence) -> Iterator[Candidate]:
    for text, change in WAYS.items():
        yield from take_images(evidence, "image-scale", text, "scale the images alike", change)
