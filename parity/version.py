"""The version of parity, which the package's metadata also use."""

__version__ = "0.1.0"
