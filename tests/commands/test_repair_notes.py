"""What `parity fix` leaves to be changed by hand: one cause at one line is one note."""

from __future__ import annotations

from parity.commands.repair_notes import ManualChanges
from parity.explain.repair.changes import LayerRepair
from parity.explain.repair.plan import ModelRepair
from parity.text import one_line


def plan(layer: str, line: str, cause: str = "other-operations") -> ModelRepair:
    repair = LayerRepair("keras", layer, cause, f"{layer} computes tanh", "compute sigmoid")
    return ModelRepair(repair, f"{layer} (net.py:4)", line=line)


def test_layers_of_one_line_are_one_note():
    notes = ManualChanges()
    for layer in ("one", "two", "three", "one"):
        notes.add(plan(layer, "net.py:3: y = f(x)"))
    notes.add(plan("one", "net.py:9: z = g(y)"))
    notes.add(plan("one", "net.py:3: y = f(x)", "constant"))
    assert notes.describe() == (
        "one (net.py:4): other-operations: one computes tanh. compute sigmoid "
        "(net.py:3: y = f(x)) (and so 2 more layers)",
        "one (net.py:4): other-operations: one computes tanh. compute sigmoid (net.py:9: z = g(y))",
        "one (net.py:4): constant: one computes tanh. compute sigmoid (net.py:3: y = f(x))",
    )


def test_causes_without_a_line_are_not_joined():
    notes = ManualChanges()
    for layer in ("one", "two"):
        notes.add(plan(layer, ""))
    assert len(notes.describe()) == 2


def test_an_error_is_shown_without_the_colours_of_a_terminal():
    text = "\x1b[1mflip() got multiple values\x1b[0m for 'axis'"
    assert one_line(text, longest=80) == "flip() got multiple values for 'axis'"
