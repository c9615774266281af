"""The operations of a child that has one model of one framework."""

from __future__ import annotations

from parity.runtimes.export import ExportOperations
from parity.runtimes.observed_steps import ObservedStepOperations
from parity.runtimes.predict import PredictOperations
from parity.runtimes.run import RunOperations


class ModelRuntime(ObservedStepOperations, RunOperations, PredictOperations, ExportOperations):
    """One model of one framework, loaded once and run any number of times.

    A subclass implements the methods of `Framework`.
    """
