"""The vision transformers of Dosovitskiy et al. (2021), in the sizes of Touvron et al. (2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from parity.errors import ArchitectureError
from parity.network.spec import GraphSpec, Size


@dataclass(frozen=True)
class VisionTransformerSpec(GraphSpec):
    """Square patches of `patch` pixels, `depth` blocks of `heads` heads, `width` features."""

    patch: int = 16
    width: int = 192
    depth: int = 12
    heads: int = 3

    family: ClassVar[str] = "vit"

    def __post_init__(self) -> None:
        super().__post_init__()
        for side in self.image_size:
            if side % self.patch:
                raise ArchitectureError(
                    f"{self.name}: an image side must be a multiple of the patch, {self.patch} "
                    f"pixels, found {side}"
                )

    @property
    def tokens(self) -> int:
        """The number of patches, and the class token."""
        return self.image_size[0] // self.patch * (self.image_size[1] // self.patch) + 1

    @property
    def size(self) -> Size:
        width = self.width
        norms = 2 * width
        attention = 4 * (width * width + width)
        mlp = 2 * 4 * width * width + 5 * width
        patches = self.channels * self.patch**2 * width + width
        head = width * self.classes + self.classes
        embeddings = width + self.tokens * width
        blocks = self.depth * (2 * norms + attention + mlp)
        return Size(patches + embeddings + blocks + norms + head, 0)


ARCHITECTURES = (
    VisionTransformerSpec("vit_tiny_patch16_224"),
    VisionTransformerSpec("vit_small_patch16_224", width=384, heads=6),
)
