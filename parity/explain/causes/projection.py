"""A projection in every block, or none where the shape changes: the parameter count tells.

Most often a default argument that says "project" and is never overridden.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from parity.explain.proof.case import Shape
from parity.network.structure import Difference

SURPLUS, MISSING = "projection-in-every-block", "projection-missing"

SHORTCUT = "downsample"
"""What a table calls the projection of a block, as torchvision does."""


def shapes(found: Sequence[Difference]) -> Iterator[Shape]:
    surplus: dict[str, list[Difference]] = {}
    missing: dict[str, list[Difference]] = {}
    for item in found:
        if item.field != "layer":
            continue
        if item.layer is not None and _projects_nothing(item.layer):
            surplus.setdefault(item.subject, []).append(item)
        elif item.found in (None, 0) and SHORTCUT in item.row.split("."):
            missing.setdefault(item.subject, []).append(item)
    for subject, items in surplus.items():
        yield Shape(
            SURPLUS,
            subject,
            tuple(str(item.found) for item in items),
            f"{len(items)} 1x1 convolutions are in no row of the table, and project what has the "
            "right shape already: as many channels in as out, at stride 1",
            "project only where a block changes the shape, and add its input as it is elsewhere",
            {"layers": float(len(items)), "parameters": float(sum(map(_parameters, items)))},
            _with_norms(items, found),
        )
    for subject, items in missing.items():
        yield Shape(
            MISSING,
            subject,
            tuple(item.row for item in items),
            "A block that changes the shape has no projection on its shortcut",
            "add the 1x1 convolution, at the block's stride, and its batch-norm",
            {"layers": float(len(items))},
        )


def _projects_nothing(layer: Mapping[str, Any]) -> bool:
    """Whether it stands beside other layers, as a shortcut does, and keeps its input's shape."""
    hyper = layer["hyper"]
    return (
        layer["kind"] == "conv"
        and layer.get("beside", False)
        and list(hyper.get("kernel", ())) == [1, 1]
        and list(hyper.get("stride", ())) == [1, 1]
        and hyper.get("in") == hyper.get("out")
    )


def _with_norms(items: Sequence[Difference], found: Sequence[Difference]) -> tuple[str, ...]:
    """The surplus projections, and the surplus batch-norms in the same containers."""
    subject = items[0].subject
    containers = {str(item.found).rpartition(".")[0] for item in items}
    norms = [
        item for item in found
        if item.subject == subject and item.layer and item.layer["kind"] == "batch_norm"
        and str(item.found).rpartition(".")[0] in containers
    ]  # fmt: skip
    return tuple(str(item.found) for item in (*items, *norms))


def _parameters(item: Difference) -> int:
    return 0 if item.layer is None else int(item.layer["parameters"])
