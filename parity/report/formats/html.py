"""The report as one self-contained HTML page: no external resources, all text escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import shlex
from collections.abc import Iterator
from typing import Any

from parity.numerics.floor import PRECISION_FACTORS
from parity.numerics.verdict import PointResult, Status, SubjectResult
from parity.report import cause_pages, charts, reliability, side_by_side, templates, wording
from parity.report.codec import to_json
from parity.report.model import ErrorMap, Report

SUFFIX = ".html"

_MAX_FAILURES = 200
"""Largest number of failing values that are listed."""

_MAX_WIDE_SUBJECTS = 2
"""Number of subjects up to which the table shows the column of growth at first."""

# Characters that end a script element, or a line of JavaScript, inside a JSON string.
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def render(report: Report) -> str:
    """Return the HTML page."""
    script = templates.read_resource("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    has_isolated = any(stage.isolated for stage in report.stages)
    profile = report.profile
    plots = _build_plots(report) if report.stages else ()
    return templates.build_environment().get_template("report.html").render(
        report=report,
        sections=list(_list_sections(report)),
        cause_pages=cause_pages.find_pages(cause.cause for cause in report.causes),
        style=templates.read_resource("report.css"),
        script=script,
        script_hash=digest,
        data=_embed_json(report),
        verdict=wording.describe_verdict(report),
        first_failures=list(wording.describe_first_failures(report)),
        inheritance=list(wording.describe_inheritance(report)),
        details=_list_failures(report),
        plots=plots,
        isolated=[
            charts.plot_isolated_errors(report, name, index, wording.larger_ratio)
            for index, name in enumerate(report.subjects)
        ]
        if has_isolated
        else [],
        # More columns are wider than the page of a small screen.
        growth_fits=has_isolated and len(report.subjects) <= _MAX_WIDE_SUBJECTS,
        rows=list(_build_rows(report)),
        stages=list(dict.fromkeys(stage.stage for stage in report.stages)),
        statuses=list(dict.fromkeys(wording.worst_status(report, s) for s in report.stages)),
        heat=charts.build_heat_map(profile) if profile and profile.spatial else None,
        channels=charts.build_channel_bars(profile, report.limit) if profile else None,
        profile_text=_describe_profile(profile, report.limit) if profile else "",
        sides=side_by_side.draw_side_by_side(report),
        edges_width=side_by_side.EDGES_WIDTH,
        class_names=reliability.describe_class_names(report),
        onnx_files=[
            (name, facts.file, shlex.join(("netron", facts.file)))
            for name, facts in report.subjects.items()
            if facts.file
        ],
        machine=wording.describe_machine(report),
        command=wording.format_command(report),
        width=charts.WIDTH,
        left=charts.LEFT,
        right=charts.WIDTH - charts.RIGHT,
        top=charts.TOP,
        channels_width=charts.CHANNELS_WIDTH,
    )  # fmt: skip


def _list_sections(report: Report) -> Iterator[tuple[str, str]]:
    """Yield the ids and short titles of the sections that the bar links to."""
    if report.causes or not report.ok:
        yield "findings", "Findings"
    if report.stages:
        yield "network", "Network"
        yield "table", f"{report.depth.capitalize()}s"
    if report.layers:
        yield "sides", "Side by side"
    if report.predictions or report.decision or report.repeat or report.spread or report.trials:
        yield "trust", "Labels"
    yield "environment", "Environment"
    if any(facts.file for facts in report.subjects.values()):
        yield "files", "ONNX"
    yield "reproduce", "Reproduce"


def _embed_json(report: Report) -> str:
    """Return the JSON report, escaped so that no string ends the element around it."""
    plain = json.dumps(to_json(report), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for unsafe, escape in _UNSAFE.items():
        plain = plain.replace(unsafe, escape)
    return plain


def _build_plots(report: Report) -> tuple[charts.Plot, ...]:
    """Return the plots along the network: relative L2, max abs, and the ratio to the floor."""
    precisions = {facts.judged_as or facts.precision for facts in report.subjects.values()}
    precision = precisions.pop() if len(precisions) == 1 else "float32"
    floors = [
        stage.floor.for_precision(precision)
        if stage.floor and precision in PRECISION_FACTORS
        else stage.floor
        for stage in report.stages
    ]
    relative = [floor.rel_l2 if floor else math.nan for floor in floors]
    largest = [floor.max_abs if floor else math.nan for floor in floors]
    ones = [1.0 if floor else math.nan for floor in floors]
    return (
        charts.plot_along_network(report, lambda r: r.rel_l2, relative, title="relative L2"),
        charts.plot_along_network(report, lambda r: r.max_abs, largest, title="max abs"),
        charts.plot_along_network(report, wording.larger_ratio, ones, title="× floor", suffix="×"),
    )


def _build_rows(report: Report) -> Iterator[dict[str, Any]]:
    growths = {name: wording.compute_growth(report, name) for name in report.subjects}
    for at, stage in enumerate(report.stages):
        yield {
            "at": at,
            "stage": stage,
            "status": wording.worst_status(report, stage),
            "pair": wording.find_worst_pair(stage) if stage.pairs else None,
            "cells": [
                _build_cell(stage, name, growths[name][at], report.limit)
                for name in report.subjects
            ],
        }


def _build_cell(
    stage: PointResult, name: str, growth: float | None, limit: float
) -> dict[str, Any]:
    result = stage.subjects.get(name)
    is_missing = result is None or result.status is Status.MISSING
    isolated = stage.isolated.get(name)
    return {
        "name": name,
        "result": None if is_missing else result,
        "non_finite": result is not None and not is_missing and not math.isfinite(result.rel_l2),
        "bar": 0 if result is None or is_missing else _bar_percentage(result, limit),
        "growth": growth,
        "isolated": None if isolated is None or isolated.status is Status.MISSING else isolated,
    }


def _bar_percentage(result: SubjectResult, limit: float) -> int:
    """Return the length of a cell's bar in percent: 50 at the limit, 100 at 1000 limits."""
    ratio = wording.larger_ratio(result) / limit
    if ratio <= 1.0:
        return round(50 * ratio)
    return 100 if ratio == math.inf else round(min(50 + 50 * math.log10(ratio) / 3, 100))


def _list_failures(report: Report) -> list[tuple[PointResult, str, SubjectResult, str]]:
    """Return the failing values, in execution order."""
    failures = [
        (stage, name, stage.subjects[name], wording.describe_origin(stage, name))
        for stage in report.stages
        for name in report.subjects
        if name in stage.subjects and stage.subjects[name].status.is_failure
    ]
    return failures[:_MAX_FAILURES]


def _describe_profile(profile: ErrorMap, limit: float) -> str:
    """Return the profile as a sentence."""
    allowed = profile.floor_max * limit
    above = sum(error > allowed for error in profile.channels)
    parts = [f"{above} of {len(profile.channels)} channels are above {limit:g}× the floor"]
    if profile.spatial and min(map(min, profile.spatial)) > allowed:
        parts.append("every position is above it")
    if profile.spatial:
        last = (len(profile.spatial) - 1, len(profile.spatial[0]) - 1)
        edge, inside = 0.0, 0.0
        for y, line in enumerate(profile.spatial):
            for x, error in enumerate(line):
                if y in (0, last[0]) or x in (0, last[1]):
                    edge = max(edge, error)
                else:
                    inside = max(inside, error)
        parts.append(
            f"the largest error on the border is {wording.format_number(edge)}, "
            f"inside it {wording.format_number(inside)}"
        )
    return "; ".join(parts) + "."
