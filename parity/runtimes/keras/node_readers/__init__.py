"""What a recorded operation of Keras is: its kind, hyperparameters, weights by role, axes.

The readers are in one file a family, found here without a list.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil

from parity.network.graph import OPAQUE
from parity.runtimes.keras.events import Event
from parity.runtimes.keras.node_readers.reading import READERS, NodeReading

_PLAIN_NAMES = """
AddV2=add Add=add AddN=add Sub=sub Mul=multiply RealDiv=div Div=div FloorDiv=floor_div
FloorMod=mod Pow=pow Maximum=maximum Minimum=minimum Equal=equal NotEqual=not_equal
Less=less LessEqual=less_equal Greater=greater GreaterEqual=greater_equal
LogicalAnd=logical_and LogicalOr=logical_or LogicalNot=logical_not Select=where
SelectV2=where Abs=abs Neg=neg Exp=exp Log=log Sqrt=sqrt Rsqrt=rsqrt Square=square
Reciprocal=reciprocal Inv=reciprocal Erf=erf Sin=sin Cos=cos Floor=floor Ceil=ceil
Round=round Rint=round Sign=sign Relu=relu Relu6=relu6 Sigmoid=sigmoid Tanh=tanh
Softplus=softplus Softsign=softsign Selu=selu silu=silu swish=silu hard_silu=hard_swish
hard_sigmoid=hard_sigmoid log_sigmoid=log_sigmoid mish=mish
"""

_PLAIN = dict(pair.split("=") for pair in _PLAIN_NAMES.split())
"""The kinds of operations that have no hyperparameters."""


@functools.cache
def _import_readers() -> None:
    """Import the files of this folder, which register their readers."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def read_event(event: Event) -> NodeReading:
    """Return what an operation is; what no kind has is opaque, its weights without roles."""
    _import_readers()
    reader = READERS.get(event.name)
    if reader is not None:
        reading = reader(event)
        if reading is not None:
            return reading
    elif event.name in _PLAIN:
        return NodeReading(_PLAIN[event.name], keeps_axes=True)
    return NodeReading(OPAQUE)
