"""A projection in every block, or none where the shape changes: the parameter count differs.

The usual reason is a default argument for the projection that no call overrides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from parity.explain.proof.candidate import StructuralCause
from parity.network.structure import Difference

SURPLUS, MISSING = "projection-in-every-block", "projection-missing"

SHORTCUT = "downsample"
"""The part of a row's name for a block's projection, as in torchvision."""


def find_structural_causes(differences: Sequence[Difference]) -> Iterator[StructuralCause]:
    surplus: dict[str, list[Difference]] = {}
    missing: dict[str, list[Difference]] = {}
    for item in differences:
        if item.field != "layer":
            continue
        if item.layer is not None and _is_surplus_projection(item.layer):
            surplus.setdefault(item.subject, []).append(item)
        elif item.found in (None, 0) and SHORTCUT in item.row.split("."):
            missing.setdefault(item.subject, []).append(item)
    for subject, items in surplus.items():
        yield StructuralCause(
            SURPLUS,
            subject,
            tuple(str(item.found) for item in items),
            f"{len(items)} 1x1 convolutions are in no row of the table, and keep the shape of "
            "their input: as many channels in as out, at stride 1",
            "use a projection only where a block changes the shape, and an identity elsewhere",
            {"layers": float(len(items)), "parameters": float(sum(map(_parameters, items)))},
            _with_norms(items, differences),
        )
    for subject, items in missing.items():
        yield StructuralCause(
            MISSING,
            subject,
            tuple(item.row for item in items),
            "A block that changes the shape has no projection on its shortcut",
            "add the 1x1 convolution, at the block's stride, and its batch-norm",
            {"layers": float(len(items))},
        )


def _is_surplus_projection(layer: Mapping[str, Any]) -> bool:
    """Return whether a layer is a 1x1 convolution on a shortcut that keeps its input's shape."""
    hyper = layer["hyper"]
    return (
        layer["kind"] == "conv"
        and layer.get("shares_input", False)
        and list(hyper.get("kernel", ())) == [1, 1]
        and list(hyper.get("stride", ())) == [1, 1]
        and hyper.get("in") == hyper.get("out")
    )


def _with_norms(items: Sequence[Difference], differences: Sequence[Difference]) -> tuple[str, ...]:
    """Return the surplus projections, and the surplus batch-norms in the same containers."""
    subject = items[0].subject
    containers = {str(item.found).rpartition(".")[0] for item in items}
    norms = [
        item for item in differences
        if item.subject == subject and item.layer and item.layer["kind"] == "batch_norm"
        and str(item.found).rpartition(".")[0] in containers
    ]  # fmt: skip
    return tuple(str(item.found) for item in (*items, *norms))


def _parameters(item: Difference) -> int:
    return 0 if item.layer is None else int(item.layer["parameters"])
