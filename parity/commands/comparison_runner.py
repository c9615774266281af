"""Comparisons one after another, in the same children where that cannot change a result."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable

from parity.commands import compare as comparing
from parity.commands import compare_graphs as graph_comparing
from parity.commands.values import Progress, no_progress
from parity.comparison.graphs.devices import plan_devices
from parity.comparison.graphs.request import GraphRequest
from parity.comparison.placement import Placement, plan_placement
from parity.comparison.request import Request
from parity.processes import zoos
from parity.processes.children import Children
from parity.processes.references import REGISTERED, ZOO, ModelReference
from parity.report.model import Report

MOST_COMPARISONS = 25
"""Comparisons in the same children; a framework may keep some memory of every model."""


class ComparisonRunner:
    """Runs comparisons in the children of the one before, so that a framework is imported once.

    Registered models and those of zoos share children, which forget their model in between.
    Comparisons with code or files of the user's get children of their own: code may change the
    state of a framework, and a module that was imported would not be read again.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._children: Children | None = None
        self._key: Hashable = None
        self._count = 0

    def run(self, request: Request | GraphRequest, progress: Progress = no_progress) -> Report:
        """Run one comparison; raises its `ParityError`."""
        if not is_shareable(request):
            return self._run_alone(request, progress)
        placement = _place(request)
        children = self._take_children(request, placement)
        try:
            report = _compare(request, children, placement, progress)
        except BaseException:
            self.close()
            raise
        if any(facts.failure for facts in report.subjects.values()):
            # A child that has failed may be dead or in an unknown state.
            self.close()
        return report

    def _run_alone(self, request: Request | GraphRequest, progress: Progress) -> Report:
        # Its children need the memory of those that are shared.
        self.close()
        if isinstance(request, GraphRequest):
            return graph_comparing.compare_graphs(request, progress=progress)
        return comparing.compare_request(request, progress=progress)

    def _take_children(self, request: Request | GraphRequest, placement: Placement) -> Children:
        """Return the children of the previous comparison, reset, or new ones."""
        key = sharing_key(request, gpu=placement.uses_gpu)
        if self._children is not None and key == self._key and self._count < MOST_COMPARISONS:
            self._count += 1
            for child in self._children:
                child.reset()
            return self._children
        self.close()
        self._key, self._count = key, 1
        self._children = self._stack.enter_context(
            Children(python=request.python, timeout=request.timeout, gpu=placement.uses_gpu)
        )
        return self._children

    def close(self) -> None:
        """End the children."""
        self._children = None
        self._stack.close()

    def __enter__(self) -> ComparisonRunner:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def is_shareable(request: Request | GraphRequest) -> bool:
    """Return whether a comparison runs no code and reads no model file of the user's."""
    if isinstance(request, GraphRequest):
        models = [reference for _, _, reference in request.name_models()]
        return request.custom_objects is None and all(map(_is_published, models))
    return not request.model_references


def _is_published(reference: ModelReference) -> bool:
    """Whether a model is a registered one, or one that a zoo has by its name."""
    if reference.form == ZOO:
        return not zoos.all_zoos()[reference.zoo].holds_folders
    return reference.form == REGISTERED


def sharing_key(request: Request | GraphRequest, *, gpu: bool) -> Hashable:
    """Return the settings that a child cannot change once it has started."""
    xla = not isinstance(request, GraphRequest) and request.xla
    python = tuple(sorted(request.python.items()))
    return (gpu, python, request.timeout, request.precision, xla)


def _place(request: Request | GraphRequest) -> Placement:
    if isinstance(request, GraphRequest):
        return plan_devices(request)
    return plan_placement(request)


def _compare(
    request: Request | GraphRequest, children: Children, placement: Placement, progress: Progress
) -> Report:
    if isinstance(request, GraphRequest):
        return graph_comparing.compare_graphs(
            request, children=children, placement=placement, progress=progress
        )
    children.start(request.runtimes)
    return comparing.compare_request(
        request, children=children, placement=placement, progress=progress
    )
