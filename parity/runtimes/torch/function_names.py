"""The names of PyTorch's functions, without the marks of methods and of in-place forms."""

from __future__ import annotations

from typing import Any

from torch.nn import functional


def name_function(func: Any) -> tuple[str, bool]:
    """Return a function's name as `Call.name` has it, and whether it works in place."""
    known = _NAMES.get(func)
    if known is None:
        known = _NAMES[func] = _name_function(func)
    return known


def _name_function(func: Any) -> tuple[str, bool]:
    name = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":
        return f"property {func.__self__.__name__}", False
    if name.startswith("__") and name.endswith("__"):
        plain = name.strip("_")
        if plain == "setitem":
            return plain, True
        operator = plain.removeprefix("i").removeprefix("r")
        if operator in _OPERATORS and plain[:1] in "ir" and plain != operator:
            reverse = "reversed " if plain[0] == "r" else ""
            return f"{reverse}{_OPERATORS[operator]}", plain[0] == "i"
        return _OPERATORS.get(plain, plain), False
    if name.endswith("_"):
        return name.rstrip("_"), True
    return name.lstrip("_"), False


_WORDS = "add sub mul div matmul pow eq ne lt le gt ge neg abs getitem"
# Python's operators by PyTorch's names.
_OPERATORS = {
    **{name: name for name in _WORDS.split()},
    "truediv": "div",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "and": "logical_and",
    "or": "logical_or",
    "invert": "logical_not",
}

# The functions of torch.nn.functional that choose between two by an argument have no name of their
# own.
_NAMES: dict[Any, tuple[str, bool]] = {
    getattr(functional, name): (name, False)
    for name in dir(functional)
    if callable(getattr(functional, name)) and getattr(functional, name).__name__ == "fn"
}
