"""The lines that a parent and a child send each other, and those that are none."""

from __future__ import annotations

import json

import pytest

from parity.errors import ChildError, WeightError
from parity.processes.protocol import (
    MAX_MESSAGE,
    OperationFailure,
    OperationRequest,
    OperationResponse,
    ProtocolError,
)


def test_a_request_is_one_line_and_read_back():
    request = OperationRequest(7, "load", {"path": "a\nb", "rows": ["x"]})
    line = request.to_line()
    assert json.loads(line) == {"id": 7, "op": "load", "args": {"path": "a\nb", "rows": ["x"]}}
    assert line.count("\n") == 1
    assert OperationRequest.from_line(line) == request


@pytest.mark.parametrize(
    ("response", "data"),
    [
        (OperationResponse(1, {"seconds": 0.5}), {"id": 1, "result": {"seconds": 0.5}}),
        (
            OperationResponse(2, failure=OperationFailure("WeightError", "no such", "Traceback")),
            {
                "id": 2,
                "error": {"type": "WeightError", "message": "no such", "traceback": "Traceback"},
            },
        ),
    ],
)
def test_a_response_is_one_line_and_read_back(response, data):
    line = response.to_line()
    assert json.loads(line) == data
    assert line.count("\n") == 1
    assert OperationResponse.from_line(line) == response


@pytest.mark.parametrize("line", ["", "[1]", "{", "3", "null"])
@pytest.mark.parametrize("kind", [OperationRequest, OperationResponse])
def test_a_line_that_is_no_object(kind, line):
    with pytest.raises(ProtocolError):
        kind.from_line(line)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (OperationRequest, {"id": 1, "op": "load"}),
        (OperationRequest, {"op": "load", "args": {}}),
        (OperationResponse, {"id": 1}),
        (OperationResponse, {"result": {}}),
        (OperationResponse, {"id": 1, "error": {"type": "WeightError"}}),
        (OperationResponse, {"id": 1, "error": "broken"}),
    ],
)
def test_a_field_that_is_missing_or_wrong(kind, data):
    with pytest.raises(ProtocolError):
        kind.from_line(json.dumps(data))


def raised(error):
    try:
        raise error
    except (WeightError, ValueError) as caught:
        return OperationFailure.from_exception(caught)


def test_parity_s_own_errors_arrive_as_themselves_with_the_traceback():
    error = raised(WeightError("no such\n  weight")).to_exception("torch")
    assert type(error) is WeightError
    assert str(error) == "no such weight"
    assert "test_protocol.py" in error.__notes__[0]


@pytest.mark.parametrize("name", ["ZeroDivisionError", "annotations", "Exception"])
def test_any_other_error_names_the_child_and_its_class(name):
    error = OperationFailure(name, "by zero").to_exception("keras[jax]")
    assert type(error) is ChildError
    assert str(error) == f"keras[jax]: {name}: by zero"


def test_a_long_or_empty_message():
    assert len(raised(ValueError("x" * 10_000)).message) == MAX_MESSAGE
    assert raised(ValueError()).message == "ValueError"
