"""An answer of the server that says no becomes the right error, whoever wrote the answer."""

from __future__ import annotations

import json

import pytest

from grid.problems import error_from_response, missing_blobs, unreachable
from tasks.errors import Conflict, GridError, NotAllowed, NotFound, Refused, SpecError, Stale, TooLarge, Unavailable


def problem(**fields: object) -> bytes:
    return json.dumps({"type": "about:blank", "title": "No", "status": 400, "detail": "no, because", **fields}).encode()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Refused),
        (401, NotAllowed),
        (403, NotAllowed),
        (404, NotFound),
        (409, Conflict),
        (413, TooLarge),
        (503, Unavailable),
    ],
)
def test_each_status_has_its_error_and_keeps_the_sentence(status: int, kind: type[GridError]) -> None:
    error = error_from_response(status, problem())
    assert type(error) is kind
    assert str(error) == "no, because"


def test_a_conflict_that_names_itself_stale_is_stale() -> None:
    assert type(error_from_response(409, problem(title="Stale"))) is Stale


def test_all_faults_of_a_description_come_back() -> None:
    faults = [
        {"path": "limits.memory", "message": "is not a size", "hint": "write 64M"},
        {"path": "x", "message": "unknown"},
    ]
    error = error_from_response(422, problem(faults=faults))
    assert isinstance(error, SpecError)
    assert str(error) == "limits.memory: is not a size; write 64M\nx: unknown"


def test_a_422_without_faults_still_says_why() -> None:
    assert str(error_from_response(422, problem())) == "no, because"


@pytest.mark.parametrize(
    ("header", "seconds"), [({"Retry-After": "7"}, 7.0), ({"retry-after": "soon"}, 1.0), ({}, 1.0)]
)
def test_the_server_says_when_to_come_back(header: dict[str, str], seconds: float) -> None:
    error = error_from_response(503, problem(), header)
    assert isinstance(error, Unavailable)
    assert error.retry_after_seconds == seconds


@pytest.mark.parametrize("body", [b"", b"<h1>Bad Gateway</h1>", b"[1, 2]", b"\xff\xfe"])
def test_a_proxy_may_answer_anything(body: bytes) -> None:
    error = error_from_response(502, body)
    assert isinstance(error, Unavailable)
    assert str(error).startswith("the server answered 502")


def test_missing_blobs_are_listed_or_there_are_none() -> None:
    assert missing_blobs(problem(missing=["aa", "bb"])) == ("aa", "bb")
    assert missing_blobs(problem()) == ()
    assert missing_blobs(b"<html>") == ()


def test_a_server_that_is_not_there_is_named_with_what_to_do() -> None:
    error = unreachable("http://127.0.0.1:1", ConnectionRefusedError("Connection refused"))
    assert "http://127.0.0.1:1 (Connection refused)" in str(error)
    assert "grid up" in str(error)
