"""The errors that a user sees as one line, each with the exit code of the command."""


class ParityError(Exception):
    """An error whose message is one line: what, where, expected against found, the remedy."""

    exit_code = 2


class UsageError(ParityError):
    """The parameters contradict one another, or name something that does not exist."""


class WrongFrameworkError(UsageError):
    """A name in the user's code is a model of another framework, `framework`."""

    def __init__(self, message: str, framework: str = "") -> None:
        super().__init__(message)
        self.framework = framework


class ArchitectureError(ParityError):
    """The architecture is unknown, or cannot have these sizes."""


class TableError(ParityError):
    """A layer table is malformed, or does not fit the model that it describes."""


class GraphError(ParityError):
    """A graph of operations is inconsistent, or a model did not run as its graph says."""


class AlignmentError(ParityError):
    """No layer of a model has a partner in the other model."""


class WeightError(ParityError):
    """A weight is missing, unused, mis-shaped, ambiguous or not finite."""


class UnpairedWeightError(WeightError):
    """A weight of one model has no partner in the other, so that it cannot be converted."""

    exit_code = 1


class InputError(ParityError):
    """The input is not an image, or not an array of the shape that the model takes."""


class CaptureError(ParityError):
    """A capture is truncated, edited, foreign, or belongs to another comparison."""


class ModelExportError(ParityError):
    """A model cannot be exported to ONNX, or the exported file failed its verification."""


class OutputError(ParityError):
    """An output file cannot be written."""


class RequirementError(ParityError):
    """A framework, device or library that is needed is missing."""

    exit_code = 3


class ProviderFallbackError(RequirementError):
    """ONNX Runtime created a session on another execution provider than the requested one."""


class ChildError(ParityError):
    """A child process died, hung, or failed for a reason that is not the user's input."""

    exit_code = 3


class NativeFaultError(ChildError):
    """A child process was ended by a fault of native code, such as SIGSEGV."""


class UnsupportedRequestError(ChildError):
    """A runtime does not implement an operation that a command needs."""


class IncompatibleWeightsError(ChildError):
    """A model cannot take the layer table's weights, so that it cannot be compared."""


class TrainingError(ParityError):
    """A training run cannot go on: a loss or a weight is not finite, or a setting was refused."""

    exit_code = 3


class PrecisionError(ParityError):
    """A precision is not available, or a flag that controls it has another value than was set."""

    exit_code = 3


class DeviceMemoryError(ParityError):
    """A device has too little memory for the batch."""

    exit_code = 3


class InterpreterError(ParityError):
    """The Python interpreter of a runtime cannot run this version of `parity`."""

    exit_code = 3


SUBJECT_ERRORS = (
    ChildError,
    DeviceMemoryError,
    PrecisionError,
    GraphError,
    RequirementError,
    ModelExportError,
)
"""The errors that end one subject of a comparison, or one runtime, and leave the others."""
