"""Where work runs: child processes, their interpreters, the GPU, and the cache."""
