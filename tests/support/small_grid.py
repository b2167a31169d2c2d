"""A real HTTP server in a thread that speaks just enough of the grid's API for the client, and fails on demand.

Faults are asked for by request, so that a test can say what happens to the answer: lost, refused for a while, or cut.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, unquote, urlsplit

from tasks.result import Provenance, Result, ResultFile
from tasks.states import TaskState
from tasks.verdicts import Verdict, VerdictClass
from tasks.views import TaskView

TOKEN = "small-grid-token"
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Seen:
    """A request as the server saw it."""

    method: str
    path: str
    query: dict[str, str]
    headers: Message
    body: bytes


@dataclass
class Reply:
    """An answer; ``lost``: it is never sent, ``cut_at``: the connection breaks after so many bytes of the body."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    lost: bool = False
    cut_at: int | None = None


@dataclass
class Fault:
    """What happens to the next request that matches: ``before`` it is acted on (503, 500...), or to its answer."""

    method: str
    path: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    lost: bool = False
    cut_at: int | None = None


def view(number: int, **facts: Any) -> TaskView:
    """A task as the server shows it, queued unless told otherwise."""
    known: dict[str, Any] = {
        "id": f"{number:08x}" + "0" * 24,
        "name": f"task {number}",
        "owner": "ann",
        "state": TaskState.QUEUED,
        "image": "busybox",
        "created_at": START,
    }
    return TaskView(**{**known, **facts})


def ended(task: TaskView, verdict: Verdict = Verdict.SUCCEEDED, **facts: Any) -> tuple[TaskView, Result]:
    """The task with a final state, and a result of it."""
    good = verdict is Verdict.SUCCEEDED
    known: dict[str, Any] = {
        "id": task.id,
        "name": task.name,
        "verdict": verdict,
        "verdict_class": VerdictClass.SUCCESS if good else VerdictClass.USER,
        "reason": "exit 0 after 1s" if good else f"{verdict} happened",
        "result": 0,
        "queued_at": "2026-01-01T00:00:00.000Z",
        "finished_at": "2026-01-01T00:00:02.000Z",
        "provenance": Provenance(spec_hash="0" * 64),
    }
    result = Result(**{**known, **facts})
    state = TaskState.SUCCEEDED if good else TaskState.FAILED
    if result.verdict_class is VerdictClass.CANCELLED:
        state = TaskState.CANCELLED
    about = {"state": state, "verdict": result.verdict, "verdict_class": result.verdict_class, "reason": result.reason}
    return task.model_copy(update={**about, "exit_code": result.exit_code}), result


class SmallGrid:
    """The server; ``tasks``, ``results``, ``blobs``, ``logs``, ``outputs`` are its records, ``seen`` its requests."""

    def __init__(self, port: int = 0) -> None:
        self.tasks: dict[str, TaskView] = {}
        self.specs: dict[str, dict[str, Any]] = {}
        self.results: dict[str, Result] = {}
        self.outputs: dict[tuple[str, str], bytes] = {}
        self.logs: dict[tuple[str, str], bytes] = {}
        self.attempts: dict[str, str] = {}
        self.blobs: dict[str, bytes] = {}
        self.keys: dict[str, str] = {}
        self.secrets: dict[str, str] = {}
        self.nodes: list[dict[str, Any]] = []
        self.seen: list[Seen] = []
        self.faults: deque[Fault] = deque()
        self.changed = threading.Condition()
        self.port = port
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Begin to listen; a stopped server comes back on the same port with all it knew."""
        handler = type("Handler", (_Handler,), {"owner": self})

        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening, as a server does that is being restarted."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def add(self, task: TaskView) -> TaskView:
        """Make the task known."""
        with self.changed:
            self.tasks[task.id] = task
            self.changed.notify_all()
        return task

    def finish(self, task_id: str, files: Mapping[str, bytes] | None = None, **facts: Any) -> None:
        """End the task with a result that has these files."""
        listed = {
            path: ResultFile(reference=sha256(content).hexdigest(), size=len(content))
            for path, content in (files or {}).items()
        }
        final, result = ended(self.tasks[task_id], **{"files": listed, **facts})
        for path, content in (files or {}).items():
            self.outputs[task_id, path] = content
        self.results[task_id] = result
        self.add(final)

    def requests(self, method: str, pattern: str) -> list[Seen]:
        """The requests so far whose path matches."""
        return [one for one in self.seen if one.method == method and re.fullmatch(pattern, one.path)]

    def fault_for(self, seen: Seen) -> Fault | None:
        """The fault that is due for this request."""
        if self.faults and self.faults[0].method == seen.method and re.fullmatch(self.faults[0].path, seen.path):
            return self.faults.popleft()
        return None

    # ------------------------------------------------------------------------------------------------- the API
    def answer(self, seen: Seen) -> Reply:
        """Act on a request."""
        if seen.headers.get("Authorization") != f"Bearer {TOKEN}":
            return problem(401, "no valid token came with the request")
        for method, pattern, verb in self.ROUTES:
            found = re.fullmatch(pattern, seen.path)
            if found and method == seen.method:
                reply: Reply = getattr(self, verb)(seen, *map(unquote, found.groups()))
                return reply
        return problem(404, f"no such thing: {seen.path}")

    ROUTES: ClassVar = [
        ("POST", "/tasks", "_create"),
        ("POST", "/tasks/bulk", "_create_many"),
        ("GET", "/tasks", "_list"),
        ("GET", "/tasks/([^/]+)", "_view"),
        ("GET", "/tasks/([^/]+)/result/wait", "_wait"),
        ("GET", "/tasks/([^/]+)/result", "_result"),
        ("GET", "/tasks/([^/]+)/files/(.+)", "_file"),
        ("GET", "/tasks/([^/]+)/logs/(stdout|stderr)", "_log"),
        ("GET", "/tasks/([^/]+)/explain", "_explain"),
        ("GET", "/tasks/([^/]+)/spec", "_spec"),
        ("POST", "/tasks/([^/]+)/cancel", "_cancel"),
        ("POST", "/tasks/(cancel|retry)", "_many"),
        ("POST", "/blobs/missing", "_missing"),
        ("PUT", "/blobs/([0-9a-f]+)", "_put_blob"),
        ("GET", "/nodes", "_nodes"),
        ("GET", "/secrets", "_secrets"),
        ("PUT", "/secrets/([^/]+)", "_put_secret"),
        ("DELETE", "/secrets/([^/]+)", "_delete_secret"),
    ]

    def _create(self, seen: Seen) -> Reply:
        key = seen.headers["Idempotency-Key"]
        if key in self.keys:
            return model(self.tasks[self.keys[key]])
        body = json.loads(seen.body)
        for name, content in body["blobs"].items():
            self.blobs[name] = base64.b64decode(content)
        unknown = [
            one["reference"] for one in body["spec"].get("files", {}).values() if one.get("reference") not in self.blobs
        ]
        if unknown:
            return problem(422, "faults", faults=[{"path": "files", "message": f"unknown blob {unknown[0]}"}])
        task = view(len(self.tasks) + 1, name=body["spec"].get("name") or body["name"])
        self.specs[task.id] = body["spec"]
        self.keys[key] = task.id
        return model(self.add(task), 201)

    def _create_many(self, seen: Seen) -> Reply:
        key = seen.headers["Idempotency-Key"]
        wishes = json.loads(seen.body)["tasks"]
        fresh = f"{key}/0" not in self.keys
        for number, wish in enumerate(wishes if fresh else []):
            task = view(len(self.tasks) + 1, name=wish["spec"].get("name") or wish["name"])
            self.specs[task.id] = wish["spec"]
            self.keys[f"{key}/{number}"] = self.add(task).id
        made = [self.tasks[self.keys[f"{key}/{number}"]] for number in range(len(wishes))]
        return as_json([one.model_dump(mode="json") for one in made], 201 if fresh else 200)

    def _list(self, seen: Seen) -> Reply:
        newest = sorted(self.tasks.values(), key=lambda one: one.id, reverse=True)
        wanted = seen.query.get("state")
        chosen = [one for one in newest if one.id < seen.query.get("after", "~") and wanted in (None, one.state)]
        page = chosen[: int(seen.query["limit"])]
        more = page[-1].id if len(page) < len(chosen) else ""
        return as_json({"items": [one.model_dump(mode="json") for one in page], "next": more})

    def _view(self, seen: Seen, task_id: str) -> Reply:
        return model(self.tasks[task_id]) if task_id in self.tasks else problem(404, f"there is no task {task_id}")

    def _wait(self, seen: Seen, task_id: str) -> Reply:
        deadline = time.monotonic() + float(seen.query["timeout"])
        with self.changed:
            while not self.tasks[task_id].state.final and time.monotonic() < deadline:
                self.changed.wait(max(0.0, min(0.05, deadline - time.monotonic())))
        return model(self.results[task_id]) if self.tasks[task_id].state.final else model(self.tasks[task_id], 202)

    def _result(self, seen: Seen, task_id: str) -> Reply:
        return model(self.results[task_id]) if task_id in self.results else problem(409, "it has not ended")

    def _file(self, seen: Seen, task_id: str, path: str) -> Reply:
        return Reply(body=self.outputs[task_id, path], headers={"Content-Type": "application/octet-stream"})

    def _log(self, seen: Seen, task_id: str, stream: str) -> Reply:
        deadline = time.monotonic() + min(0.2, float(seen.query.get("wait", "0")))
        offset = int(seen.query["offset"])
        while True:
            known = self.logs.get((task_id, stream), b"")
            final = self.tasks[task_id].state.final
            if known[offset:] or final or time.monotonic() >= deadline:
                break
            time.sleep(0.01)
        headers = {
            "Grid-Log-Size": str(len(known)),
            "Grid-Log-Complete": "true" if final else "false",
            "Grid-Log-Attempt": self.attempts.get(task_id, ""),
        }
        return Reply(body=known[offset:], headers=headers)

    def _explain(self, seen: Seen, task_id: str) -> Reply:
        reasons = [{"node": "alpha", "fits_now": False, "fits_ever": True, "reasons": ["2 of 2 slots are taken"]}]
        about = {"state": "queued", "summary": "1 task is before it", "position": 2, "queued": 5, "nodes": reasons}
        return as_json({"task": task_id, **about})

    def _spec(self, seen: Seen, task_id: str) -> Reply:
        return as_json(self.specs[task_id])

    def _cancel(self, seen: Seen, task_id: str) -> Reply:
        if self.tasks[task_id].state.final:
            return problem(409, f"task {task_id} has ended")
        why = f"cancelled by ann: {json.loads(seen.body)['reason']}"
        cancelled = VerdictClass.CANCELLED
        self.finish(task_id, verdict=Verdict.CANCELLED, verdict_class=cancelled, reason=why, result=None)
        return model(self.tasks[task_id])

    def _many(self, seen: Seen, verb: str) -> Reply:
        """A cancel takes what has not ended, a retry what has."""
        items: list[dict[str, object]] = []
        for task_id in json.loads(seen.body)["ids"]:
            task = self.tasks[task_id]
            if task.state.final == (verb == "cancel"):
                items.append({"task": task_id, "name": task.name, "done": False, "reason": f"it is {task.state}"})
                continue
            made = self.add(view(len(self.tasks) + 1, name=task.name)).id if verb == "retry" else ""
            items.append({"task": task_id, "name": task.name, "done": True, "made": made})
        done = sum(item["done"] is True for item in items)
        return as_json({"done": done, "refused": len(items) - done, "items": items})

    def _missing(self, seen: Seen) -> Reply:
        return as_json({"missing": [one for one in json.loads(seen.body)["sha256"] if one not in self.blobs]})

    def _put_blob(self, seen: Seen, name: str) -> Reply:
        if sha256(seen.body).hexdigest() != name:
            return problem(422, "the content has another hash")
        self.blobs[name] = seen.body
        return as_json({"sha256": name, "size": len(seen.body)}, 201)

    def _nodes(self, seen: Seen) -> Reply:
        return as_json(self.nodes)

    def _secrets(self, seen: Seen) -> Reply:
        return as_json([{"name": name} for name in sorted(self.secrets)])

    def _put_secret(self, seen: Seen, name: str) -> Reply:
        self.secrets[name] = json.loads(seen.body)["value"]
        return as_json({"name": name})

    def _delete_secret(self, seen: Seen, name: str) -> Reply:
        return Reply(204) if self.secrets.pop(name, None) is not None else problem(404, f"there is no secret {name}")


def as_json(value: object, status: int = 200) -> Reply:
    """An answer with a JSON body."""
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


def model(record: TaskView | Result, status: int = 200) -> Reply:
    """An answer with a record."""
    return Reply(status, record.model_dump_json().encode(), {"Content-Type": "application/json"})


def problem(status: int, detail: str, **more: object) -> Reply:
    """A refusal."""
    body = json.dumps({"title": "no", "status": status, "detail": detail, **more}).encode()
    return Reply(status, body, {"Content-Type": "application/problem+json"})


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of what is tested; all else must be seen."""
        if not isinstance(sys.exception(), ConnectionError):
            raise


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: ClassVar[SmallGrid]

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_DELETE = do_GET

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        seen = Seen(self.command, parts.path.removeprefix("/api/v1"), query, self.headers, body)
        self.owner.seen.append(seen)
        fault = self.owner.fault_for(seen)
        if fault and fault.status:
            reply = problem(fault.status, "not now")
            reply.headers |= fault.headers
        else:
            reply = self.owner.answer(seen)
        if fault:
            reply.lost, reply.cut_at = fault.lost, fault.cut_at
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        self.close_connection = self.close_connection or reply.lost or reply.cut_at is not None
        if reply.lost:
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body if reply.cut_at is None else reply.body[: reply.cut_at])

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the requests are in ``seen``."""
