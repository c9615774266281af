"""The compared steps of a run in words and in a table, for every form of the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from parity.text import format_ratio
from parity.training.steps import FLOORS, KINDS, LIMIT, StepComparison
from parity.training.verification import REFERENCE, SUBJECT, VerifiedStep


def tabulate_verification(steps: Sequence[VerifiedStep]) -> tuple[list[str], list[list[str]]]:
    """Return the columns, and a row for each step and precision with the worst of each kind.

    Errors are relative L2 in float64, and rounding floors in others.
    """
    rows = []
    compared = {e.kind for step in steps for each in step.comparisons for e in each.errors}
    kinds = [kind for kind in KINDS if kind != "dropout" or kind in compared]
    for step in steps:
        for each in step.comparisons:
            cells = []
            for kind in kinds:
                error = each.worst(kind)
                if error is None:
                    cells.append("–")
                elif each.precision == "float64":
                    cells.append(f"{error.rel_l2:.1e}")
                else:
                    # Below 10 two places: what passes is mostly below 1.
                    x_floor = error.x_floor
                    cells.append(f"{x_floor:.2f}×" if x_floor < 10 else format_ratio(x_floor))
            rows.append([str(step.number), each.precision, *cells, _state(each)])
    return ["step", "in", *kinds, ""], rows


def describe_band(inside: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    """Yield a sentence for each framework: the share of its curves' points inside the band."""
    for name, (count, total) in inside.items():
        share = count / total if total else 0.0
        yield (
            f"{count} of {total} points of {name}'s curves ({share:.0%}) are inside the band of "
            f"{REFERENCE}'s runs with rounding noise: a description, no part of the verdict"
        )


def _state(comparison: StepComparison) -> str:
    if not comparison.agrees:
        return "cannot be told from a kink" if comparison.kinks else "differs"
    if comparison.choices is None:
        return "agrees"
    count = comparison.choices.count
    return f"agrees; {count} unit{'s' if count > 1 else ''} at a kink or tie"


def _describe_undetermined(step: VerifiedStep) -> str:
    """Return the sentence of a step that a kink which cannot be seen may explain."""
    numerics = step.numerics
    first = None if numerics is None else numerics.first_difference()
    assert numerics is not None
    assert first is not None
    kinks = numerics.kinks
    more = f" and {len(kinks) - 1} more" if len(kinks) > 1 else ""
    return (
        f"could not tell: step {step.number} agrees in float64; in float32 the {first.kind} "
        f"{first.tensor} is {first.x_floor:.3g} floors away, which cannot be told from a unit on "
        f"the other side of a kink of {kinks[0]}{more}: its choices cannot be seen"
    )


def _name_precisions(steps: Sequence[VerifiedStep]) -> str:
    """Return the precisions that floors were measured in."""
    found = {each.precision for step in steps for each in step.comparisons}
    return " and ".join(
        sorted({"float32", *found} - {"float64"}, key=lambda name: name != "float32")
    )


def describe_verification(steps: Sequence[VerifiedStep]) -> Iterator[str]:
    """Yield the sentences of the verdict: what was compared, or what differs first, and why."""
    differing = next((s for s in steps if not s.agrees and not s.is_undetermined), None)
    undetermined = [step for step in steps if step.is_undetermined]
    if differing is None and undetermined:
        yield _describe_undetermined(undetermined[0])
        return
    if differing is None:
        numbers = ", ".join(str(step.number) for step in steps[:12])
        more = f" and {len(steps) - 12} more" if len(steps) > 12 else ""
        yield (
            f"parity: steps {numbers}{more} are the same in {SUBJECT} and {REFERENCE}, each from "
            f"{REFERENCE}'s state: at most {LIMIT:.0e} apart in float64 (relative L2), {FLOORS:g} "
            f"rounding floors in {_name_precisions(steps)}"
        )
        return
    failing = differing.failing
    assert failing is not None
    first = failing.first_difference()
    where = (
        f"only one side has {failing.missing[0]}"
        if first is None
        else f"first {first.kind} {first.tensor}".rstrip() + f", relative L2 {first.rel_l2:.1e}"
    )
    yield f"divergence: step {differing.number} differs in {failing.precision}, {where}"
    label = "cause" if len(differing.causes) == 1 else "one of these causes"
    for cause in differing.causes:
        yield (
            f"{label}: {cause.name}: {cause.text}; applied to {REFERENCE}'s step, the error falls "
            f"from {cause.rel_l2:.1e} to {cause.error:.1e}"
        )
        yield f"remedy: {cause.remedy}"
    if not differing.causes and failing.precision == "float64":
        yield "cause: none of the known ones explains this step"
