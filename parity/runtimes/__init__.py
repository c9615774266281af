"""The runtimes: each module loads one framework and serves the child process's operations."""
