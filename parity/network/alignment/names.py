"""Names as the last anchor: partners of layers that structure leaves open, for a run to decide."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from parity.network.alignment.assembly import Assembly
from parity.network.alignment.result import Alignment, Confidence
from parity.network.alignment.skeleton import Skeleton
from parity.network.alignment.weightless import pair_weightless


def propose_by_names(alignment: Alignment) -> Alignment | None:
    """Return the alignment in which layers of one kind that are ambiguous are partners by name.

    Every weight of that kind must have the name of one weight of the other model, and as many uses
    as that, which are paired in their order. None if that says nothing new. Names prove nothing:
    the values of a run with these partners do.
    """
    assembly = alignment.assembly
    if not isinstance(assembly, Assembly):
        raise TypeError("the alignment does not come from `align`")
    a, b, matching = assembly.a, assembly.b, assembly.matching
    if matching.features.anchored:
        return None
    confidence = assembly.judgement.confidence
    open_kinds = {
        repr(a.kinds[unit])
        for unit, _ in matching.pairs
        if confidence.get(unit) is Confidence.AMBIGUOUS and a.head(unit).main is not None
    }
    changed = matching.copy()
    for kind in sorted(open_kinds):
        left, right = _list_uses(a, kind), _list_uses(b, kind)
        names = _pair_names(left, right)
        if any(len(left[one]) != len(right[other]) for one, other in names.items()):
            continue
        partners = {
            unit: partner
            for one, other in names.items()
            for unit, partner in zip(left[one], right[other], strict=True)
        }
        if any(unit in matching.features.fixed.units.partners for unit in partners):
            continue
        for unit, partner in partners.items():
            changed.partners[changed.partners == partner] = -1
            changed.partners[unit] = partner
    if (changed.partners == matching.partners).all():
        return None
    return Assembly(changed, pair_weightless(changed), assembly.judgement).build()


def _list_uses(skeleton: Skeleton, kind: str) -> dict[str, list[int]]:
    """Return the units of a kind by the name of their main weight, in execution order."""
    found: dict[str, list[int]] = {}
    for unit in range(len(skeleton)):
        main = skeleton.head(unit).main
        if main is not None and repr(skeleton.kinds[unit]) == kind:
            found.setdefault(main.parameter.name, []).append(unit)
    return found


def _pair_names(left: Iterable[str], right: Iterable[str]) -> Mapping[str, str]:
    """Return the other's name by that of the reference; nothing unless all have just one partner.

    A layer's path counts without separators and the model's own name, which is in front.
    """
    one, other = ({name: _shorten(name) for name in names} for names in (left, right))
    found: dict[str, str] = {}
    for name, path in one.items():
        partners = [each for each, own in other.items() if _is_same_path(path, own)]
        if len(partners) != 1:
            return {}
        found[name] = partners[0]
    return found if len(set(found.values())) == len(other) == len(found) else {}


def _is_same_path(one: str, other: str) -> bool:
    return bool(one and other) and (one.endswith(other) or other.endswith(one))


def _shorten(name: str) -> str:
    """Return the path of a weight's layer, `C.0` of `C.0.weight`, as letters and digits alone."""
    layer = re.split(r"[./]", name)[:-1]
    return re.sub(r"[^a-z0-9]", "", "".join(layer).lower())
