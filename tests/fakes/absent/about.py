"""A runtime whose framework is not installed."""

from parity.processes.registry import Package, RuntimeInfo

ABOUT = RuntimeInfo(
    label="Absent",
    packages=(Package("no_such_framework"),),
    main_package="no_such_framework",
    extra="absent",
    holds_models=True,
)
