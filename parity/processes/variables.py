"""The environment variables that a child process is started with."""

from __future__ import annotations

import os
from pathlib import Path

from parity.defaults import THREADS_VARIABLE
from parity.processes import registry, zoos
from parity.processes.subjects import ChildName

_THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
)
"""What NumPy, PyTorch and TensorFlow read. ONNX Runtime reads none; its sessions are told."""

_MEMORY_VARIABLES = {
    "MALLOC_MMAP_THRESHOLD_": str(64 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
}
"""What glibc's allocator reads: the block size, in bytes, from which a block is returned to the
system as soon as it is freed, and the bytes of other free memory that are kept. By default nearly
every array of a model is returned, and its pages are made and zeroed again for the next one."""


def thread_variables(count: int) -> dict[str, str]:
    """Return the environment variables that limit a process and its children to `count` threads."""
    return dict.fromkeys((THREADS_VARIABLE, *_THREAD_VARIABLES), str(count))


def child_variables(child: ChildName, *, own_interpreter: bool, gpu: bool) -> dict[str, str]:
    """Return all environment variables of a child, including those of this process.

    Every child gets the variables of all runtimes, since a user's file may import several
    frameworks. GPUs are hidden from a child that needs none: a framework takes memory on every GPU
    that it sees, and may compute there.

    With `own_interpreter` the child imports this `parity`. Another interpreter must have its own:
    with our folder on its path it could import packages that were built for this interpreter.
    """
    variables = {**os.environ, "PYTHONSAFEPATH": "1"}
    # Idle OpenMP threads would spin on the cores that the other children compute on.
    variables.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name, value in _MEMORY_VARIABLES.items():
        variables.setdefault(name, value)
    if not gpu:
        variables["CUDA_VISIBLE_DEVICES"] = "-1"
    for info in registry.all_runtimes().values():
        variables.update(info.variables)
        variables.update(info.gpu_variables if gpu else info.cpu_variables)
        if info.backend_variable is not None:
            chosen = child.backend if info.name == child.runtime else None
            variables[info.backend_variable] = chosen or info.backends[0].name
    for zoo in zoos.all_zoos().values():
        variables.update(zoo.variables)
    if own_interpreter:
        root = str(Path(__file__).resolve().parents[2])
        inherited_paths = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        variables["PYTHONPATH"] = os.pathsep.join([root, *inherited_paths])
    return variables
