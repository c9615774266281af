"""Where work runs: child processes, their interpreters and cards, and the cache."""
