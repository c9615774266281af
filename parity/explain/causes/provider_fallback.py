"""An execution provider that fell back to the CPU, by the session's own list of providers.

`onnxruntime.get_available_providers()` lists providers that may fail to load (onnxruntime#23372).
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.errors import ProviderFallbackError
from parity.explain.reruns import FailingRun, Rerun

NAME = "provider-fallback"


def propose_reruns(run: FailingRun) -> Iterator[Rerun]:
    if not isinstance(run.error, ProviderFallbackError):
        return
    yield Rerun(
        NAME,
        {"device": "cpu"},
        f"The session does not run on the requested device: {run.error}",
        "on the CPU",
        "fix the installation until session.get_providers() begins with CUDAExecutionProvider: "
        "`parity doctor` shows what is missing; or pass --device cpu",
    )
