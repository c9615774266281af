"""The errors that a user sees as one line, each with the exit code it ends the command with."""


class ParityError(Exception):
    """What went wrong, where, expected against found, and the remedy, in one line."""

    exit_code = 2


class UsageError(ParityError):
    """The request contradicts itself or asks for what does not exist."""


class SpecError(ParityError):
    """No such architecture, or sizes that it cannot have."""


class TableError(ParityError):
    """A layer table that is malformed, or that does not fit the model it describes."""


class WeightError(ParityError):
    """A weight is missing, unused, mis-shaped, ambiguous or not finite."""


class InputError(ParityError):
    """The input is no image or array of the shape that the model takes."""


class CaptureError(ParityError):
    """A capture is truncated, edited, foreign, or belongs to another comparison."""


class ExportFailed(ParityError):
    """A model cannot be exported to ONNX, or its export did not hold what it must."""


class OutputError(ParityError):
    """A file asked for cannot be written."""


class RuntimeMissing(ParityError):
    """A framework, device or library that was asked for is not there."""

    exit_code = 3


class ProviderFallback(RuntimeMissing):
    """ONNX Runtime made a session, but not on the execution provider that was asked for."""


class ChildError(ParityError):
    """A child process died, hung, or failed in a way that is not the user's doing."""

    exit_code = 3


class WeightsRefused(ChildError):
    """A model takes other weights than the table's, so that nothing it computes can be compared."""


class FlagError(ParityError):
    """A flag that decides the arithmetic did not take."""

    exit_code = 3


class DeviceMemory(ParityError):
    """A device has too little memory for the batch."""

    exit_code = 3


class InterpreterError(ParityError):
    """The Python that was named for a runtime cannot serve this `parity`."""

    exit_code = 3
