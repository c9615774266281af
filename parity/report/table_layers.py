"""The rows of a layer table as the list of paired layers that a report has.

Apart from `paired_layers`, whose graphs a comparison of registered models never imports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from parity.network.table import LayerTable
from parity.report.model import PairedLayer


def list_table_layers(
    table: LayerTable, sides: Mapping[str, str], *, points: Mapping[str, str]
) -> tuple[PairedLayer, ...]:
    """Return the rows of a layer table; `sides` are the models, by framework.

    `points` are the comparison points by the row. Shapes have no batch axis.
    """
    place = {row.name: at for at, row in enumerate(table.rows)}
    layers: list[PairedLayer] = []
    for row in table.rows:
        places = {name: getattr(row, side) for side, name in sides.items() if getattr(row, side)}
        # Without `inputs` a row reads the one before it; of a sum one branch is then unknown.
        before = [layer.name for layer in table.rows[: len(layers)][-1:]]
        read = [place[name] for name in row.inputs or before if name in place]
        inputs: dict[str, tuple[int, ...]] = {}
        for name in places:
            found = merge_places(_find_present(layers, at, name) for at in read)
            if found:
                inputs[name] = found
        confidence = dict.fromkeys(places, "sure") if len(places) > 1 else {}
        layers.append(
            PairedLayer(row.kind, row.shape, places, inputs, confidence, points.get(row.name, ""))
        )
    return tuple(layers)


def _find_present(layers: Sequence[PairedLayer], at: int, model: str) -> tuple[int, ...]:
    """Return the place of a layer; where a model lacks it, of those before it that it has."""
    if model in layers[at].places:
        return (at,)
    others = [read for reads in layers[at].inputs.values() for read in reads]
    return merge_places(_find_present(layers, each, model) for each in others)


def merge_places(parts: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the places of all parts in ascending order, each once."""
    return tuple(sorted({each for part in parts for each in part}))
