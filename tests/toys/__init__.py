"""One toy of each kind of extension; tests/test_extensions.py drops them into a copy of the source.

`DROPPED` says which file or folder of the source each becomes: it is all that adding one takes.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent

DROPPED = {
    "architecture": "parity/network/models/toy",
    "cause.py": "parity/explain/causes/toy_cause.py",
    "command.py": "parity/commands/cli/toy_command.py",
    "format.py": "parity/report/formats/toy.py",
    "training_cause.py": "parity/explain/training/causes/toy_cause.py",
}
