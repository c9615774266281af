"""The documentation's page of a cause: its file, its address, and its first two sentences.

`cause_pages.json` is made of the causes' modules by `python -m tests.site_pages`, with the pages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.resources import files

INFERENCE, TRAINING = "inference", "training"

_FOLDER = "docs/causes"


@dataclass(frozen=True, slots=True)
class CausePage:
    """A page: how the cause shows (`symptom`) and is proved (`proof`).

    `address` is the page's address on the documentation's site; None if this installation knows no
    site.
    """

    file: str
    symptom: str
    proof: str
    address: str | None


def find_pages(names: Iterable[str], kind: str = INFERENCE) -> dict[str, CausePage]:
    """Return {cause: its page} in the order of the names; what is no cause has none."""
    known, site = _read_pages()[kind], find_site()
    found = {}
    for name in dict.fromkeys(names):
        if name in known:
            page, symptom, proof = (known[name][key] for key in ("page", "symptom", "proof"))
            address = None if site is None else f"{site}/causes/{page}/"
            found[name] = CausePage(f"{_FOLDER}/{page}.md", symptom, proof, address)
    return found


def find_site() -> str | None:
    """Return the address of the documentation's site, as the installed distribution states it.

    That is `Documentation` of the table [project.urls]; None where there is none.
    """
    try:
        stated = metadata.metadata("parity").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return None
    for each in stated:
        label, _, address = each.partition(",")
        if label.strip().lower() == "documentation" and address.strip().startswith("https://"):
            return str(address.strip().rstrip("/"))
    return None


@cache
def _read_pages() -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    text = files("parity.report").joinpath("cause_pages.json").read_text(encoding="utf-8")
    pages: Mapping[str, Mapping[str, Mapping[str, str]]] = json.loads(text)
    return pages
