"""The pairing of two models' graphs: nodes, rearranged tensors, weights, and confidence."""

from parity.network.alignment.align import align
from parity.network.alignment.axes import infer_axes
from parity.network.alignment.cuts import Cuts, find_cuts
from parity.network.alignment.exchanges import list_exchanges
from parity.network.alignment.given import GivenPair
from parity.network.alignment.names import propose_by_names
from parity.network.alignment.result import (
    Alignment,
    Confidence,
    NodePair,
    TensorPair,
    WeightPair,
)
from parity.network.alignment.transform import Slice, WeightTransform
from parity.network.alignment.values import (
    ValueReader,
    check_values,
    find_agreeing,
    list_tensors,
)
from parity.network.alignment.weights import transfer_weights

__all__ = [
    "Alignment",
    "Confidence",
    "Cuts",
    "GivenPair",
    "NodePair",
    "Slice",
    "TensorPair",
    "ValueReader",
    "WeightPair",
    "WeightTransform",
    "align",
    "check_values",
    "find_agreeing",
    "find_cuts",
    "infer_axes",
    "list_exchanges",
    "list_tensors",
    "propose_by_names",
    "transfer_weights",
]
