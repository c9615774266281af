"""Studies: measurements by hand, each one command."""
