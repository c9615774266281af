"""The runtimes of `parity`, which can also be given a fault and be mended again."""
