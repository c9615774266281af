"""The runtimes: each package imports one framework and has the operations of its child process."""
