"""What goes wrong in an export."""


class ExportError(Exception):
    """A model that could not be exported; says which op, layer or file, and leaves no file."""
