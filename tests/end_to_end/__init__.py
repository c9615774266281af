"""The command line from outside: real processes, real frameworks, real files."""
