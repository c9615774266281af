"""The report as one line, a toy format."""

from __future__ import annotations

from parity.report.model import Report

SUFFIX = ".toy"


def render(report: Report) -> str:
    """Return the verdict and the causes."""
    return " ".join([report.verdict.value, *(cause.cause for cause in report.causes)]) + "\n"
