"""What goes wrong in an export."""


class ExportError(Exception):
    """A model that could not be exported; says which op, layer or file, and leaves no file."""


def first_line(error: BaseException) -> str:
    """What an error of a library says, without its advice and traces."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
