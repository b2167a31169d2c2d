"""The server as a node speaks to it: one pooled HTTP client, typed verbs, retries where a repetition does no harm."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Protocol, TypeVar

import httpx
from pydantic import ValidationError

from grid.problems import error_from_response, missing_blobs, unreachable
from tasks.errors import Conflict, Stale, Unavailable
from tasks.model import Record
from tasks.order import Heartbeat, HeartbeatReply, Hello, Order, Welcome
from tasks.outcome import Outcome

CHUNK_BYTES = 256 * 1024
# Short on purpose: whoever calls has a longer memory (the spool, the next heartbeat) than this client.
_PAUSES_SECONDS = (0.0, 0.1, 0.3, 0.6)
# The first repetition comes at once: it is for kept-alive connections that the server has closed in the meantime.
_ONCE_MORE = _PAUSES_SECONDS[:1]
_TRY_LATER = frozenset({429, 502, 503, 504})
_JSON = {"Content-Type": "application/json"}
_BYTES = {"Content-Type": "application/octet-stream"}

_Answer = TypeVar("_Answer", bound=Record)


class Home(Protocol):
    """What running an attempt takes of a server: where its inputs come from, and where its output goes meanwhile."""

    def blob(self, attempt: str, token: str, sha256: str) -> AbstractContextManager[Iterator[bytes]]:
        """The content of an input in chunks."""

    def send_log(self, attempt: str, token: str, stream: str, offset: int, data: bytes) -> int:
        """Append to a captured stream; return how many bytes of it are there now."""


class Server:
    """The verbs of the node API under ``/api/v1/node``; thread-safe.

    Each raises ``NotAllowed``, ``NotFound``, ``Conflict``, ``Stale`` or another ``Refused`` as the server answers, and
    ``Unavailable`` when it does not, after a second or so of trying.
    """

    def __init__(self, address: str, token: str, *, timeout_seconds: float = 30.0) -> None:
        self.address = address.rstrip("/")
        self._closed = threading.Event()
        self.clock_offset_seconds: float | None = None
        """How far this machine's clock is ahead of the server's, by its latest answer; None while there was none."""
        self._client = httpx.Client(
            base_url=f"{self.address}/api/v1/node",
            event_hooks={"response": [self._note_date]},
            headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(timeout_seconds, connect=5.0),
            # Servers close idle connections after 5 s as a rule; we do it first.
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=4.0),
        )

    def close(self) -> None:
        """Close the connections; calls under way give up soon."""
        self._closed.set()
        self._client.close()

    def _note_date(self, answer: httpx.Response) -> None:
        try:
            date = parsedate_to_datetime(answer.headers.get("Date", ""))
        except ValueError:  # a proxy that does not tell the time
            return
        self.clock_offset_seconds = time.time() - date.timestamp()

    def hello(self, hello: Hello) -> Welcome:
        """Join, or join again."""
        return _parse(Welcome, self._call(lambda: self._post("/hello", hello)))

    def heartbeat(self, beat: Heartbeat, timeout_seconds: float) -> HeartbeatReply:
        """Renew the leases of the attempts in ``beat``. Raises ``Conflict`` when another session has the name."""
        send = lambda: self._post("/heartbeat", beat, timeout=timeout_seconds)  # noqa: E731 - read best beside its use
        return _parse(HeartbeatReply, self._call(send, _ONCE_MORE))

    def take(self, attempt: str, session: str, nonce: str) -> Order:
        """Take an attempt up. Raises ``Stale`` when it is not (or no longer) this node's to run."""
        body = {"session": session, "nonce": nonce}
        try:
            return _parse(Order, self._call(lambda: self._client.post(f"/attempts/{attempt}/order", json=body)))
        except Conflict as error:
            raise Stale(str(error)) from error

    @contextmanager
    def blob(self, attempt: str, token: str, sha256: str) -> Iterator[Iterator[bytes]]:
        """The content of an input blob in chunks; not repeated, and ``Unavailable`` may come half-way too."""
        headers = {"Grid-Attempt-Token": token}
        try:
            with self._client.stream("GET", f"/attempts/{attempt}/blobs/{sha256}", headers=headers) as answer:
                if answer.is_error:
                    raise error_from_response(answer.status_code, answer.read(), answer.headers)
                yield answer.iter_raw(CHUNK_BYTES)
        except httpx.TransportError as error:
            raise unreachable(self.address, error) from error

    def put_blob(self, attempt: str, token: str, sha256: str, path: Path) -> None:
        """Upload the file at ``path`` as an output blob."""
        headers = {"Grid-Attempt-Token": token, "Content-Length": str(path.stat().st_size), **_BYTES}
        url = f"/attempts/{attempt}/blobs/{sha256}"
        self._call(lambda: self._client.put(url, content=_chunks(path), headers=headers))

    def send_log(self, attempt: str, token: str, stream: str, offset: int, data: bytes) -> int:
        """Append to a stream of the live log; return how many bytes the server has now.

        Raises ``Conflict`` when ``offset`` lies beyond what the server has.
        """
        headers = {"Grid-Attempt-Token": token, **_BYTES}
        url = f"/attempts/{attempt}/logs/{stream}"
        send = lambda: self._client.post(url, params={"offset": offset}, content=data, headers=headers)  # noqa: E731
        return int(self._call(send, _ONCE_MORE).json()["size"])

    def report(self, outcome: Outcome) -> tuple[str, ...]:
        """Report an outcome; return the sha256 of blobs that the server wants first, none when it has accepted.

        Raises ``Stale`` when the attempt is no longer this node's and the outcome is to be dropped.
        """
        answer = self._answer(lambda: self._post(f"/attempts/{outcome.attempt}/outcome", outcome), _PAUSES_SECONDS)
        if answer.status_code in (409, 422) and (missing := missing_blobs(answer.content)):
            return missing
        if answer.status_code == 409:
            raise Stale(str(error_from_response(409, answer.content)))
        _refuse(answer)
        return ()

    def _post(self, path: str, record: Record, timeout: float | None = None) -> httpx.Response:
        limit = self._client.timeout if timeout is None else timeout
        return self._client.post(path, content=record.model_dump_json(), headers=_JSON, timeout=limit)

    def _call(self, send: Callable[[], httpx.Response], pauses: tuple[float, ...] = _PAUSES_SECONDS) -> httpx.Response:
        answer = self._answer(send, pauses)
        _refuse(answer)
        return answer

    def _answer(self, send: Callable[[], httpx.Response], pauses: tuple[float, ...]) -> httpx.Response:
        """The first answer that does not ask to come again, or the last one; ``pauses`` are seconds between tries."""
        for pause in (*pauses, None):
            try:
                answer = send()
            except httpx.TransportError as error:
                if pause is None or self._closed.wait(pause):
                    raise unreachable(self.address, error) from error
                continue
            if answer.status_code not in _TRY_LATER or pause is None or self._closed.wait(pause):
                return answer
        raise AssertionError("the last try returns or raises")


def _refuse(answer: httpx.Response) -> None:
    if answer.is_error:
        raise error_from_response(answer.status_code, answer.content, answer.headers)


def _parse(kind: type[_Answer], answer: httpx.Response) -> _Answer:
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        raise Unavailable(f"the server's answer to {answer.url.path} is not a {kind.__name__}: {error}") from error


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
