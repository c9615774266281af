"""Children that compute a linear classifier with NumPy."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def compute(images):
    """A linear classifier in float64."""
    weights = np.random.default_rng(1).standard_normal((36, 4))
    return images.reshape(len(images), -1).astype(np.float64) @ weights


class FakeChildren:
    """Children that compute with NumPy; `faults` change or end what one of them computes."""

    def __init__(self, faults=None):
        self.faults = faults or {}
        self.calls = Counter()
        self.lock = threading.Lock()

    def __getitem__(self, name):
        return FakeChild(self, name)

    @contextlib.contextmanager
    def threads(self, count):
        with ThreadPoolExecutor(count) as pool:
            yield pool


class FakeChild:
    def __init__(self, children, name):
        self.children, self.name = children, name

    def call(self, operation, *, images, out, precision="float32"):
        assert operation == "predict"
        data = np.load(images)
        with self.children.lock:
            self.children.calls[self.name, precision] += len(data)
        outputs = compute(data)
        if precision == "float32":
            outputs = outputs.astype(np.float32)
            fault = self.children.faults.get(self.name)
            if fault is not None:
                outputs = fault(data, outputs)
        np.save(out, outputs)
        return {"seconds": 0.5}
