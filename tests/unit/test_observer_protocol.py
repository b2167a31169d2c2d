"""Stories of the observer's protocol: what is a request, and what is refused before anything is done."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.errors import BadRequest, Failed
from observer.limits import SessionLimits, not_enforced, parse_limits
from observer.protocol import CONTENT_TYPE, LONGEST_BODY, Request, answer, error_answer, parse_body, parse_head
from observer.units import parse_bytes, parse_count, parse_seconds, parse_whole

ID = "0123456789abcdef" * 2


def head_of(path: str, length: int = 0, kind: str = CONTENT_TYPE) -> bytes:
    return f"POST {path} HTTP/1.1\r\nContent-Type: {kind}\r\nContent-Length: {length}".encode()


def request(path: str, body: object) -> Request:
    data = json.dumps(body).encode()
    return parse_body(parse_head(head_of(path, len(data))), data)


@pytest.mark.parametrize("path", ["open", "/open", "/OPEN", "/Open/", "//open//", "/open?x=1"])
def test_the_path_is_compared_without_case_and_slashes(path: str) -> None:
    assert parse_head(head_of(path)).operation == "open"


def test_a_request_without_a_body_asks_for_nothing_more() -> None:
    head = parse_head(b"POST /attach HTTP/1.1\r\nHost: kolejka-observer")
    assert parse_body(head, b"") == Request("attach")


def test_a_body_without_a_type_is_not_looked_at() -> None:
    head = parse_head(b"POST /open HTTP/1.0\nContent-Length: 7")
    assert parse_body(head, b"no JSON") == Request("open")


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"POST",
        b"POST /open FTP/1",
        b"a b c d",
        head_of("/open", kind="application/json"),
        head_of("/open", kind="application/json; charset=UTF-8"),
        head_of("/open", LONGEST_BODY + 1),
        head_of("/open") + b"\r\ncontent-length: -1\r\nTransfer-Encoding: chunked",
        b"POST /open HTTP/1.1\r\nContent-Length: 1e3",
        b"POST /" + b"a" * 10000 + b" HTTP/1.1",
    ],
)
def test_what_is_no_request_is_refused(head: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_head(head)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"x"',
        b"[" * 60000,
        b"\xff",
        b'{"session_id": 1}',
        b'{"session_id": "../.."}',
        b'{"secret": "x y"}',
    ],
)
def test_a_body_that_is_no_object_of_the_protocol_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_body(parse_head(head_of("/attach", len(body))), body)


def test_statistics_of_no_session_are_no_request() -> None:
    with pytest.raises(BadRequest, match="session_id"):
        request("/stats", {})


def test_kolejkas_launcher_is_understood() -> None:
    given = {"session_id": ID, "secret": "ab" * 20, "status": "ok"}
    assert request("/attach", given) == Request("attach", ID, "ab" * 20)


@given(st.binary(max_size=300))
def test_no_head_breaks_the_parser(data: bytes) -> None:
    try:
        head = parse_head(b"POST " + data)
    except BadRequest:
        return
    assert 0 <= head.length <= LONGEST_BODY


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["session_id", "secret", "limits", "x"]), inner)
        ),
        max_leaves=10,
    )
)
def test_no_json_breaks_the_parser(body: object) -> None:
    try:
        found = request("/limits", body)
    except BadRequest:
        return
    try:
        parse_limits(found.limits)
    except Failed:
        return


def test_errors_are_never_taken_for_an_answer() -> None:
    reply = error_answer(Failed("memory: no"))
    assert reply.startswith(b"HTTP/1.0 500 ")
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(reply.partition(b"\r\n\r\n")[2])
    assert answer({"status": "ok"}).startswith(b"HTTP/1.0 200 OK\r\n")


@pytest.mark.parametrize(
    ("text", "size"),
    [("64M", 64 << 20), ("10kB", 10240), (64, 64), ("1.5G", 3 << 29), ("64", 64), ("67108864b", 64 << 20)],
)
def test_bytes_as_kolejka_writes_them(text: object, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("1m", 0.001), ("2M", 120), (10, 10), ("500ms", 0.5), ("1.0s", 1), ("3D", 259200)]
)
def test_times_as_kolejka_writes_them(text: object, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("value", ["", "1GiB", "nan", "-1", -1, True, None, [], float("inf"), "9" * 65, "1PPPPPPP"])
def test_what_is_no_amount_is_refused(value: object) -> None:
    for parse in (parse_bytes, parse_seconds, parse_count, parse_whole):
        with pytest.raises(ValueError, match=r"not an? |out of range"):
            parse(value)


def test_limits_are_read_and_those_of_others_named() -> None:
    given = {
        "memory": "64M",
        "pids": "8",
        "time": "2s",
        "network": False,
        "storage": "1G",
        "unheard_of": 1,
        "cpus": None,
    }
    assert parse_limits(given) == SessionLimits(memory=64 << 20, pids=8, time=2.0)
    assert not_enforced(given) == ("network", "storage")


@pytest.mark.parametrize("given", [{"memory": "much"}, {"cpus": 0}, {"cpus": "1.5"}, {"pids": -1}])
def test_a_wrong_limit_is_named(given: dict[str, object]) -> None:
    with pytest.raises(Failed, match=next(iter(given))):
        parse_limits(given)


def test_limits_that_are_not_given_stay_but_a_time_is_lifted() -> None:
    earlier = SessionLimits(memory=1, time=5.0, cgroup_depth=2)
    assert SessionLimits(pids=3).after(earlier) == SessionLimits(memory=1, pids=3, cgroup_depth=2)
