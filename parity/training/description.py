"""What a trained checkpoint says of itself: its model, its classes, and how images are prepared.

A `.safetensors` file has it in its metadata. For files of other formats it is `classes.json` in
their folder or in the folder above, where a run's is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from parity.errors import InputError, UsageError
from parity.network import weights
from parity.training.data.batches import Preprocessing

FILE_NAME = "classes.json"


@dataclass(frozen=True)
class TrainedDescription:
    """The class names by index, and the form of the images; `model` is a registered name or REF."""

    model: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "classes": list(self.classes),
            "preprocessing": self.preprocessing.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        preparation = data["preprocessing"]
        height, width = preparation["image_size"]
        return cls(
            str(data["model"]),
            tuple(map(str, data["classes"])),
            Preprocessing(
                (int(height), int(width)),
                int(preparation["channels"]),
                tuple(map(float, preparation["mean"])),
                tuple(map(float, preparation["deviation"])),
            ),
        )

    def to_metadata(self) -> dict[str, str]:
        """Return the metadata of a `.safetensors` file."""
        data = self.to_json()
        return {
            key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for key, value in data.items()
        }


def read_description(checkpoint: Path) -> TrainedDescription | None:
    """Return what a checkpoint, or the folder that it is in, says; None if it says nothing.

    Raises `InputError` for a description that is damaged.
    """
    metadata = weights.read_metadata(checkpoint)
    if "classes" in metadata and "preprocessing" in metadata:
        source: Path = checkpoint
        try:
            data = {
                "model": metadata.get("model", ""),
                "classes": json.loads(metadata["classes"]),
                "preprocessing": json.loads(metadata["preprocessing"]),
            }
            return TrainedDescription.from_json(data)
        except (ValueError, KeyError, TypeError, UsageError) as error:
            raise _damaged(source, error) from error
    for folder in (checkpoint.parent, checkpoint.parent.parent):
        source = folder / FILE_NAME
        if source.is_file():
            try:
                return TrainedDescription.from_json(json.loads(source.read_text(encoding="utf-8")))
            except (OSError, ValueError, KeyError, TypeError, UsageError) as error:
                raise _damaged(source, error) from error
    return None


def _damaged(source: Path, error: Exception) -> InputError:
    return InputError(
        f"{source}: cannot be read as the description of a trained model: "
        f"{type(error).__name__} {' '.join(str(error).split())[:120]}"
    )
