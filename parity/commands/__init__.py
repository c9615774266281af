"""The use cases, one module each; `cli` is their command line."""
