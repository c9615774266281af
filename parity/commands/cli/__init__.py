"""The command line, which only the entry point imports; its modules are found, see `command`."""
