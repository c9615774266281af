"""Runtimes that fail on request, served by the real worker."""
