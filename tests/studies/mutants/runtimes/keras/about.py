"""The same runtime as parity's own, to its parent."""

from parity.runtimes.keras.about import ABOUT as ABOUT
