"""The published networks, and the same made small: one block a stage, eight groups, ten classes."""

from __future__ import annotations

from dataclasses import replace

from parity.network import architectures
from parity.network.spec import ModelSpec

LAMBDA = "resnext50_32x4d@keras-lambda-groups"
BOUND = "resnext50_32x4d@keras-bound-groups"
DENSE = "resnext50_32x4d@keras-dense-groups"
PROJECTED = "resnext50_32x4d@torch-project-every-block"
TEXTBOOK = "resnet18@d2l"
ALL = (LAMBDA, BOUND, DENSE, PROJECTED, TEXTBOOK)


def small(name: str) -> ModelSpec:
    """The variant at 64×64, built by the same code; it is called `NAME-small`."""
    size = 32 if name == TEXTBOOK else 64
    found = architectures.get(name, classes=10, image_size=(size, size))
    called = f"{name}-small"
    if name == TEXTBOOK:
        return replace(found, name=called)
    # A second block in the first stage is one that needs no projection.
    depths = (2, 1, 1, 1) if name == PROJECTED else (1, 1, 1, 1)
    return replace(found, name=called, depths=depths, groups=8, width_per_group=16)


def registry() -> dict[str, ModelSpec]:
    """Everything that is registered, and the small variants."""
    made = {f"{name}-small": small(name) for name in ALL}
    return {**architectures._registry(), **made}
