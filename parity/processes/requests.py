"""The request for one run of a subject, as typed data and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class RunRequest:
    """One run of one subject, whose tensors are captured at the given rows.

    `x` is the input's `.npy` file, (N, C, H, W) float32. `out` is the capture to write, with
    `manifest`. `feed` is a capture of the reference: after each row's tensor is captured, it is
    replaced by the reference's, so that every part between two rows shows only its own error.
    `handle` names one of the graphs that ONNX Runtime's child holds. `optimise` enables ONNX
    Runtime's graph optimiser. `chunk_size` is how many items one run of its session takes, all
    by default. `bypass` names PyTorch modules that are replaced by the identity. `xla` compiles a
    Keras model first.
    """

    x: str
    rows: tuple[str, ...]
    out: str
    manifest: Mapping[str, Any] = field(default_factory=dict)
    feed: str | None = None
    device: str = "cpu"
    precision: str = "float32"
    xla: bool = False
    handle: str = ""
    optimise: bool = True
    chunk_size: int | None = None
    bypass: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data, tuples as lists."""
        return {
            "x": self.x,
            "rows": list(self.rows),
            "out": self.out,
            "manifest": dict(self.manifest),
            "feed": self.feed,
            "device": self.device,
            "precision": self.precision,
            "xla": self.xla,
            "handle": self.handle,
            "optimise": self.optimise,
            "chunk_size": self.chunk_size,
            "bypass": list(self.bypass),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the request of `to_json`'s data; raises TypeError for an unknown field."""
        fields = dict(data)
        for name in ("rows", "bypass"):
            if name in fields:
                fields[name] = tuple(fields[name])
        return cls(**fields)
