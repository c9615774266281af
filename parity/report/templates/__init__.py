"""The templates of the pages, their style and script, and the environment that renders them."""

from __future__ import annotations

import json
import math
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from parity.report import reliability, wording

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def build_environment() -> Environment:
    """Return the Jinja2 environment of the report's pages."""
    # Imported late: every command lists the formats, and few need Jinja2.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("parity.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": wording.format_number,
        "times": wording.format_ratio,
        "shape": wording.format_shape,
        "seconds": lambda value: f"{value:.2f} s",
        "ratio": lambda value: "∞" if value == math.inf else f"{value:.2g}",
        "percent": lambda value: f"{100 * value:.4g}%",
        "value": _format_setting,
        "listed": wording.join_names,
        "probability": reliability.format_probability,
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
    }
    environment.globals |= {
        "symbols": wording.SYMBOLS,
        "describe_error": wording.describe_error,
        "larger_ratio": wording.larger_ratio,
    }
    return environment


def read_resource(name: str) -> str:
    """Return a file of the templates: the style or the script that pages share."""
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def _format_setting(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
