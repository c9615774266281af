"""The messages between a parent and its child process: one JSON object on each line.

    {"id": 1, "op": "load", "args": {...}}                            a request
    {"id": 1, "result": {...}}                                        its response
    {"id": 1, "error": {"type": ..., "message": ..., "traceback": ...}}

Arrays are files, whose paths are among the arguments. A child whose input is closed ends with an
empty line.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from parity import errors
from parity.errors import ChildError, ParityError

MAX_MESSAGE = 2000
"""Characters of an error's message; frameworks write whole graphs into theirs."""


GOODBYE = "\n"
"""The line after which a child does nothing any more; its process ends soon."""


class ProtocolError(ValueError):
    """A line is not a valid request or response."""


@dataclass(frozen=True, slots=True)
class OperationRequest:
    """One operation for a child to execute; `identity` is repeated in its response."""

    identity: int
    operation: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def to_line(self) -> str:
        """Return the request as one line of JSON, with its line break."""
        data = {"id": self.identity, "op": self.operation, "args": dict(self.arguments)}
        return json.dumps(data) + "\n"

    @classmethod
    def from_line(cls, line: str) -> OperationRequest:
        """Parse a line of `to_line`; raises `ProtocolError`."""
        data = _read_object(line)
        try:
            return cls(data["id"], data["op"], data["args"])
        except KeyError as error:
            raise ProtocolError(f"a request without {error}") from error


@dataclass(frozen=True, slots=True)
class OperationFailure:
    """An exception of a child: the name of its class, its message on one line, its traceback.

    `attributes` are those that one of parity's own errors has beside its message, all texts.
    """

    type: str
    message: str
    traceback: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_exception(cls, error: BaseException) -> OperationFailure:
        """Describe an exception; its message is put on one line and shortened."""
        message = " ".join(str(error).split()) or type(error).__name__
        text = "".join(traceback.format_exception(error))
        attributes = {
            name: value
            for name, value in vars(error).items()
            if isinstance(error, ParityError) and isinstance(value, str)
        }
        return cls(type(error).__name__, message[:MAX_MESSAGE], text, attributes)

    def to_exception(self, child: str) -> ParityError:
        """Return the exception for the parent, with the child's traceback as a note.

        One of parity's own errors keeps its class; any other is a `ChildError` that names the
        child and the class.
        """
        error_class = getattr(errors, self.type, None)
        if isinstance(error_class, type) and issubclass(error_class, ParityError):
            error = error_class(self.message)
            vars(error).update(self.attributes)
        else:
            error = ChildError(f"{child}: {self.type}: {self.message}")
        error.add_note(self.traceback)
        return error


@dataclass(frozen=True, slots=True)
class OperationResponse:
    """A child's response to the request of this identity: a result or a failure."""

    identity: int
    result: Mapping[str, Any] = field(default_factory=dict)
    failure: OperationFailure | None = None

    def to_line(self) -> str:
        """Return the response as one line of JSON, with its line break."""
        data: dict[str, Any] = {"id": self.identity}
        if self.failure is None:
            data["result"] = dict(self.result)
        else:
            # A failure without further attributes is written as it always was.
            error = asdict(self.failure)
            data["error"] = {name: value for name, value in error.items() if value != {}}
        return json.dumps(data) + "\n"

    @classmethod
    def from_line(cls, line: str) -> OperationResponse:
        """Parse a line of `to_line`; raises `ProtocolError`."""
        data = _read_object(line)
        try:
            if "error" in data:
                return cls(data["id"], failure=OperationFailure(**data["error"]))
            return cls(data["id"], data["result"])
        except (KeyError, TypeError) as error:
            raise ProtocolError(f"a response with a wrong or missing field: {error}") from error


def _read_object(line: str) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not a line of JSON: {error}") from error
    if not isinstance(data, dict):
        raise ProtocolError(f"expected a JSON object, found {type(data).__name__}")
    return data
