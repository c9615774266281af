"""The command line, which only the entry point imports; `command` finds its modules."""
