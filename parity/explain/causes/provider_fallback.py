"""An execution provider that fell back to the CPU: the session's own providers say so.

`onnxruntime.get_available_providers()` lists what was built, not what loads (onnxruntime#23372).
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.errors import ProviderFallbackError
from parity.explain.rerun import Rerun, Run

NAME = "provider-fallback"


def reruns(run: Run) -> Iterator[Rerun]:
    if not isinstance(run.failure, ProviderFallbackError):
        return
    yield Rerun(
        NAME,
        {"device": "cpu"},
        f"The session does not run where it was told to: {run.failure}",
        "on the CPU, where it would have run,",
        "fix the installation until session.get_providers() begins with CUDAExecutionProvider: "
        "`parity doctor` says what is missing; or ask for --device cpu",
    )
