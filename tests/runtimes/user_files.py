"""Files of a user whose code is wrong in some way, for the tests of both frameworks."""

from __future__ import annotations

import sys
from contextlib import contextmanager

BROKEN = {
    "missing.py": b"import os\nimport no_such_package\n",
    "syntax.py": b"x = 1\ndef f(:\n",
    "latin.py": b'x = "\xe9"\n',
    "nul.py": b"x = 1\0\n",
    "quits.py": b"import sys\n\nsys.exit(3)\n",
    "calls.py": (
        b"import sys\n\n\ndef fails():\n    raise ValueError('not\\nnow')\n\n\n"
        b"def quits():\n    sys.exit()\n\n\ndef asks():\n    return input()\n\n\n"
        b"def number():\n    return 3\n\n\ndef needs(width, depth, *, size=3):\n    return 3\n\n\n"
        b"constant = [1]\n"
    ),
}

ERRORS = [
    ("missing.py:f", r"ModuleNotFoundError: No module named 'no_such_package'; no_such_package is "
     r"not installed in .* \(missing.py, line 2\)"),
    ("missing:f", r"No module named 'no_such_package'; .* \(missing.py, line 2\)"),
    ("syntax.py:f", r"SyntaxError: .* \(syntax.py, line 2\)"),
    # Python 3.14 says it in other words.
    ("latin.py:f", r"SyntaxError: .*(can't decode byte 0xe9|Non-UTF-8 code .*xe9).*\(latin.py"),
    ("nul.py:f", r"null bytes \(nul.py"),
    ("quits.py:f", r"SystemExit: 3 \(quits.py, line 3\)"),
    ("calls.py:fails", r"ValueError: not now \(calls.py, line 5\)"),
    ("calls:fails", r"ValueError: not now \(calls.py, line 5\)"),
    ("calls.py:quits", r"SystemExit \(calls.py, line 9\)"),
    ("calls.py:asks", r"EOFError: .* \(calls.py, line 13\)"),
    ("calls.py:number", r"expected torch.Module or keras.Layer|expected keras.Layer or torch.Module"
     ".* found int"),
    ("calls.py:constant", "expected a model, a class or a callable, found an object of type list"),
    ("calls.py:numbr", "calls.py has no 'numbr'; did you mean 'number'?"),
    ("calls.py:needs", "needs needs width, depth; write calls.py:needs,width=VALUE,depth=VALUE"),
    ("calls.py:needs,1", "needs needs depth; write calls.py:needs,1,depth=VALUE"),
    ("calls.py:needs,1,2,sise=3", "needs has no argument 'sise'; did you mean 'size'?"),
    ("calls.py:number,weights=none.pth", "weights: no such file 'none.pth'"),
    ("no_such_module:f", "no module 'no_such_module' in .* or among the installed packages"),
    ("torchvison:resnet18", "no module 'torchvison' .*; did you mean 'torchvision:resnet18'?"),
]  # fmt: skip
"""A reference into them, and the error that it gives."""


@contextmanager
def user_folder(folder, monkeypatch, **scripts):
    """Fill a folder with scripts, by name, and the broken files; forget its modules at the end."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    for name, text in scripts.items():
        (folder / f"{name}.py").write_text(text)
    for name, content in BROKEN.items():
        (folder / name).write_bytes(content)
    yield folder
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if name not in before and str(folder) in file:
            del sys.modules[name]
