"""What a parent and its child process send each other: one JSON object a line.

    {"id": 1, "op": "load", "args": {...}}                            a request
    {"id": 1, "result": {...}}                                        its response
    {"id": 1, "error": {"type": ..., "message": ..., "traceback": ...}}

Arrays travel as files, whose paths are among the arguments.
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
"""Characters of an error's message; frameworks put whole graphs into theirs."""


class ProtocolError(ValueError):
    """A line that is no request, or no response."""


@dataclass(frozen=True, slots=True)
class OperationRequest:
    """One operation that a child is asked to do; `identity` is repeated in its response."""

    identity: int
    operation: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def to_line(self) -> str:
        """Return the request as one line of JSON, with its line break."""
        data = {"id": self.identity, "op": self.operation, "args": dict(self.arguments)}
        return json.dumps(data) + "\n"

    @classmethod
    def from_line(cls, line: str) -> OperationRequest:
        """Read what `to_line` has written; raises `ProtocolError`."""
        data = _read_object(line)
        try:
            return cls(data["id"], data["op"], data["args"])
        except KeyError as error:
            raise ProtocolError(f"a request without {error}") from error


@dataclass(frozen=True, slots=True)
class OperationFailure:
    """An exception that was raised in a child: its class's name, one line, its traceback."""

    type: str
    message: str
    traceback: str = ""

    @classmethod
    def from_exception(cls, error: BaseException) -> OperationFailure:
        """Describe an exception; its message is put on one line, and shortened."""
        message = " ".join(str(error).split()) or type(error).__name__
        text = "".join(traceback.format_exception(error))
        return cls(type(error).__name__, message[:MAX_MESSAGE], text)

    def to_exception(self, child: str) -> ParityError:
        """Return the exception for the parent, with the child's traceback as a note.

        One of parity's own errors is of the same class again; any other is a `ChildError` that
        names the child and the class.
        """
        kind = getattr(errors, self.type, None)
        if isinstance(kind, type) and issubclass(kind, ParityError):
            raised = kind(self.message)
        else:
            raised = ChildError(f"{child}: {self.type}: {self.message}")
        raised.add_note(self.traceback)
        return raised


@dataclass(frozen=True, slots=True)
class OperationResponse:
    """What a child answers to the request of this identity: a result or a failure."""

    identity: int
    result: Mapping[str, Any] = field(default_factory=dict)
    failure: OperationFailure | None = None

    def to_line(self) -> str:
        """Return the response as one line of JSON, with its line break."""
        data: dict[str, Any] = {"id": self.identity}
        if self.failure is None:
            data["result"] = dict(self.result)
        else:
            data["error"] = asdict(self.failure)
        return json.dumps(data) + "\n"

    @classmethod
    def from_line(cls, line: str) -> OperationResponse:
        """Read what `to_line` has written; raises `ProtocolError`."""
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
    except ValueError as error:
        raise ProtocolError(f"no line of JSON: {error}") from error
    if not isinstance(data, dict):
        raise ProtocolError(f"expected a JSON object, found {type(data).__name__}")
    return data
