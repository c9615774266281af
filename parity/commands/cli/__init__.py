"""The command line, which only the entry point imports."""
