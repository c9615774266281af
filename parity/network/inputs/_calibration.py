"""The calibration batch, from which batch-norm statistics are measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parity.network.inputs._input import Shape


def make_calibration_batch(shape: Shape, *, seed: int) -> NDArray[np.float64]:
    """Return seeded pink noise, (N, C, H, W), with unit variance in each channel.

    Its amplitude falls as 1/f, as that of natural images does (Field, "Relations between the
    statistics of natural images and the response properties of cortical cells", 1987). N, between
    2 and 8, leaves some 64 positions a channel at a stride of 32. Values are multiples of 2⁻¹², so
    another build of NumPy, whose FFT rounds differently, makes the same batch.
    """
    channels, height, width = shape
    positions = max(1, height // 32) * max(1, width // 32)
    count = min(8, max(2, -(-64 // positions)))
    white = np.random.default_rng(seed).standard_normal((count, channels, height, width))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    # The mean of an image varies as much as its lowest frequency does.
    frequency[0, 0] = 1 / max(height, width)
    pink = np.fft.irfft2(np.fft.rfft2(white) / frequency, s=(height, width))
    pink -= pink.mean(axis=(0, 2, 3), keepdims=True)
    pink /= pink.std(axis=(0, 2, 3), keepdims=True)
    return np.asarray(np.rint(pink * 4096) / 4096, dtype=np.float64)
