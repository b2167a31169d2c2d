"""A small real server that speaks the node API from memory, so that a node can be tested without a database."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tasks.limits import Limits
from tasks.order import CancelOrder, Heartbeat, HeartbeatReply, Hello, Order, StagedFile, WaitingOrder, Welcome
from tasks.outcome import Outcome
from tasks.spec import TaskSpec

_ATTEMPT = re.compile(r"/attempts/([^/]+)/(order|outcome|blobs/\w+|logs/\w+)$")


def sha256(content: bytes) -> str:
    """The name of a blob."""
    return hashlib.sha256(content).hexdigest()


def order(attempt: str, *args: str, **changes: Any) -> Order:
    """An order to run ``args`` in busybox; ``files`` maps paths to contents that travel in the order."""
    files: dict[str, bytes] = changes.pop("files", {})
    spec: dict[str, Any] = changes.pop("spec", {})
    limits = {"memory": "64M", "time": "20s", "output": "1M", **changes.pop("limits", {})}
    staged = tuple(StagedFile(path=path, sha256=sha256(data), size=len(data)) for path, data in files.items())
    inline = {sha256(data): base64.b64encode(data).decode() for data in files.values()}
    return Order(
        **{
            "attempt": attempt,
            "task": f"task-{attempt}",
            "number": 1,
            "token": f"token-{attempt}",
            "spec": TaskSpec.model_validate({"image": "busybox:local", "args": args, **spec}),
            "limits": Limits.model_validate(limits),
            "files": staged,
            "inline": inline,
            **changes,
        }
    )


class Gone(Exception):
    """The server drops the connection instead of answering."""


@dataclass
class NodeApi:
    """What the server knows and what nodes have told it. ``away`` makes it cut every connection.

    It takes no file of more than ``most_bytes``.
    """

    node: str = "n1"
    broker_url: str = "redis://127.0.0.1:1/0"
    lease_seconds: float = 30.0
    heartbeat_seconds: float = 0.2
    token: str = "secret"
    orders: dict[str, Order] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    logs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    beats: list[Heartbeat] = field(default_factory=list)
    hellos: list[Hello] = field(default_factory=list)
    cancels: dict[str, str] = field(default_factory=dict)
    hand_back: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    stale: set[str] = field(default_factory=set)
    away: bool = False
    most_bytes: int | None = None
    # Requests whose path contains the text are cut off after they were carried out: the answer is lost.
    lose_answer: str = ""
    # Requests whose path contains the text wait until it is empty; ``held`` counts them.
    hold: str = ""
    held: int = 0
    session: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def answer(self, method: str, url: str, body: bytes, headers: Any) -> tuple[int, bytes]:
        """Carry out one request."""
        path = urlsplit(url).path.removeprefix("/api/v1/node")
        if self.hold and self.hold in path:
            self.held += 1
            eventually(lambda: not self.hold)
        with self.lock:
            if self.away:
                raise Gone
            self.requests[f"{method} {path}"] += 1
            if headers.get("Authorization") != f"Bearer {self.token}":
                return _problem(401, "this token is not known")
            found = self._answer(method, path, url, body)
            if self.lose_answer and self.lose_answer in path:
                self.lose_answer = ""
                raise Gone
            return found

    def _answer(self, method: str, path: str, url: str, body: bytes) -> tuple[int, bytes]:
        if path == "/hello":
            return self._hello(Hello.model_validate_json(body))
        if path == "/heartbeat":
            return self._heartbeat(Heartbeat.model_validate_json(body))
        match = _ATTEMPT.search(path)
        if match is None:
            return _problem(404, f"no such address: {path}")
        attempt, what = match.groups()
        if attempt in self.stale or attempt not in self.orders:
            return _problem(409, f"the attempt {attempt} is not yours", title="Stale")
        if what == "order":
            return self._take(attempt, json.loads(body))
        if what == "outcome":
            return self._outcome(Outcome.model_validate_json(body))
        kind, name = what.split("/")
        if kind == "logs":
            return self._log(attempt, name, int(parse_qs(urlsplit(url).query)["offset"][0]), body)
        return self._blob(method, name, body)

    def _hello(self, hello: Hello) -> tuple[int, bytes]:
        self.hellos.append(hello)
        self.session = hello.session
        drop = tuple(one for one in hello.adopted if one in self.stale or one not in self.orders)
        welcome = Welcome(
            node=self.node,
            broker_url=self.broker_url,
            queue=f"node.{self.node}",
            lease_seconds=self.lease_seconds,
            heartbeat_seconds=self.heartbeat_seconds,
            drop=drop,
        )
        return 200, welcome.model_dump_json().encode()

    def _heartbeat(self, beat: Heartbeat) -> tuple[int, bytes]:
        self.beats.append(beat)
        if beat.session != self.session:
            if not self.session:
                return 200, HeartbeatReply(hello=True).model_dump_json().encode()
            return _problem(409, "another session has this name")
        held = {pulse.attempt for pulse in beat.attempts}
        reply = HeartbeatReply(
            waiting=tuple(WaitingOrder(attempt=one, nonce="nonce") for one in self.waiting if one not in self.taken),
            cancel=_orders(self.cancels, held),
            hand_back=_orders(self.hand_back, held),
            stale=tuple(sorted(held & (self.stale | set(self.outcomes)))),
        )
        return 200, reply.model_dump_json().encode()

    def _take(self, attempt: str, asked: dict[str, str]) -> tuple[int, bytes]:
        if asked["nonce"] != "nonce" or asked["session"] != self.session:
            return _problem(409, "that is not your attempt", title="Stale")
        self.taken[attempt] += 1
        return 200, self.orders[attempt].model_dump_json().encode()

    def _outcome(self, outcome: Outcome) -> tuple[int, bytes]:
        if outcome.attempt in self.outcomes:
            return _problem(409, "it has ended before", title="Stale")
        for name, text in outcome.inline.items():
            self.blobs[name] = base64.b64decode(text)
        missing = [file.sha256 for file in outcome.files if file.sha256 not in self.blobs]
        if missing:
            return _problem(409, "contents are missing", missing=missing)
        for stream, tail in outcome.log_tails.items():
            self._log(outcome.attempt, stream, tail.offset, base64.b64decode(tail.data))
        self.outcomes[outcome.attempt] = outcome
        return 200, b'{"accepted": true}'

    def _log(self, attempt: str, stream: str, offset: int, data: bytes) -> tuple[int, bytes]:
        known = self.logs.get((attempt, stream), b"")
        if offset > len(known):
            return _problem(409, f"the log has {len(known)} bytes")
        self.logs[attempt, stream] = known + data[len(known) - offset :]
        return 200, json.dumps({"size": len(self.logs[attempt, stream])}).encode()

    def _blob(self, method: str, name: str, body: bytes) -> tuple[int, bytes]:
        if method == "PUT":
            if sha256(body) != name:
                return _problem(422, "the content is another")
            if self.most_bytes is not None and len(body) > self.most_bytes:
                return _problem(413, f"the file has {len(body)} bytes; the most that is taken here is less")
            self.blobs[name] = body
            return 201, b"{}"
        return (200, self.blobs[name]) if name in self.blobs else _problem(404, "no such blob")

    def file(self, attempt: str, path: str) -> bytes:
        """The content of a file of an accepted outcome. Raises KeyError when there is none of that name."""
        return self.blobs[{one.path: one.sha256 for one in self.outcomes[attempt].files}[path]]


def _orders(wanted: dict[str, str], held: set[str]) -> tuple[CancelOrder, ...]:
    return tuple(CancelOrder(attempt=one, reason=why) for one, why in wanted.items() if one in held)


def _problem(status: int, detail: str, **more: Any) -> tuple[int, bytes]:
    return status, json.dumps(
        {"type": "about:blank", "title": "no", "status": status, "detail": detail, **more}
    ).encode()


@contextmanager
def serving(api: NodeApi) -> Iterator[str]:
    """Serve ``api`` on a free port of the loopback; gives the address."""
    with _Quiet(("127.0.0.1", 0), _handler(api)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed cuts its connections; that is what some tests are about."""


def _handler(api: NodeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def _serve(self) -> None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                raise AssertionError("a node says how long its bodies are")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                status, content = api.answer(self.command, self.path, body, self.headers)
            except Gone:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()

        do_GET = do_POST = do_PUT = _serve

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    return Handler


def eventually(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until ``condition`` holds; fails after ``seconds``. It is asked ever more rarely: asking costs time too."""
    deadline = time.monotonic() + seconds
    pause = 0.02
    while not condition():
        assert time.monotonic() < deadline, f"it did not become true within {seconds:g} s"
        time.sleep(pause)
        pause = min(pause * 1.2, 0.2)
