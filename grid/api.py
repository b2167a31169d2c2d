"""Every verb of the server's REST API as a typed method."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from grid import config
from grid.transport import PATIENCE_SECONDS, Answer, Ask, Body, Transport
from tasks.accounts import (
    AccountView,
    GroupDetail,
    GroupView,
    NewPerson,
    NewPersonBody,
    NewToken,
    PeoplePage,
    PersonChange,
    PersonDetail,
    TokenBody,
    TokenPage,
)
from tasks.errors import GridError
from tasks.result import Result as ResultRecord
from tasks.terms import Rules
from tasks.views import (
    AttemptView,
    BulkBody,
    CheckView,
    DoctorView,
    EventView,
    ExplainView,
    ManyBody,
    ManyView,
    NewNode,
    NodeSampleView,
    NodeStatus,
    QueueView,
    SubmitBody,
    TaskPage,
    TaskView,
)

# A server takes its time to answer a long poll; this is how much longer than asked we listen.
SLACK_SECONDS = 15.0
LOG_PART_BYTES = 1024**2

T = TypeVar("T")
_EVENTS = TypeAdapter(tuple[EventView, ...])
_ATTEMPTS = TypeAdapter(tuple[AttemptView, ...])
_NODES = TypeAdapter(tuple[NodeStatus, ...])
_PAGE = TypeAdapter(TaskPage)
_TASK = TypeAdapter(TaskView)
_CHECK = TypeAdapter(CheckView)
_TASKS = TypeAdapter(tuple[TaskView, ...])
_NODE = TypeAdapter(NodeStatus)
_SAMPLES = TypeAdapter(tuple[NodeSampleView, ...])
_QUEUE = TypeAdapter(QueueView)
_NEW_NODE = TypeAdapter(NewNode)
_TOKENS = TypeAdapter(TokenPage)
_NEW_TOKEN = TypeAdapter(NewToken)
_ACCOUNT = TypeAdapter(AccountView)
_PEOPLE = TypeAdapter(PeoplePage)
_PERSON = TypeAdapter(PersonDetail)
_NEW_PERSON = TypeAdapter(NewPerson)
_GROUPS = TypeAdapter(tuple[GroupView, ...])
_GROUP = TypeAdapter(GroupDetail)
_DOCTOR = TypeAdapter(DoctorView)
_RESULT = TypeAdapter(ResultRecord)
_EXPLAIN = TypeAdapter(ExplainView)
_MANY = TypeAdapter(ManyView)
_MISSING = TypeAdapter(dict[str, list[str]])
_SECRETS = TypeAdapter(list[dict[str, str]])
_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


@dataclass(frozen=True, slots=True)
class LogPart:
    """Bytes of a captured stream from an offset on; ``size`` is what is known now, ``complete`` says that this is all.

    ``attempt`` tells whose output it is, when the server says so: a task that is tried again begins a new log.
    """

    data: bytes
    size: int
    complete: bool
    attempt: str = ""


class Api:
    """The verbs of the server, one method each; threads may share it.

    Without arguments the address and the token come from the configuration (``grid.config``). All raise GridError:
    Unavailable when nobody answers, NotAllowed, NotFound, Conflict, TooLarge or SpecError when the server says no.
    """

    def __init__(self, server: str | None = None, token: str | None = None) -> None:
        known = config.load() if server is None or token is None else config.Config(server, token)
        if server is not None and token is None and server.rstrip("/") != known.server:
            known = config.Config(server, "")
        self._transport = Transport(
            server or known.server,
            known.token if token is None else token,
            config.no_token_advice(config.config_path()),
        )

    @property
    def server(self) -> str:
        """The address of the server, such as ``http://127.0.0.1:8080``."""
        return self._transport.server

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------ tasks
    def create_task(self, body: SubmitBody, idempotency_key: str) -> TaskView:
        """Submit a prepared task; the same key makes the task once, however often it is sent."""
        headers = {"Idempotency-Key": idempotency_key, "Content-Type": "application/json"}
        return self._get(_TASK, Ask("POST", "/tasks", headers=headers, body=body.model_dump_json().encode()))

    def create_tasks(self, body: BulkBody, idempotency_key: str) -> tuple[TaskView, ...]:
        """Submit many prepared tasks, all or none; the same key makes them once, however often it is sent."""
        headers = {"Idempotency-Key": idempotency_key, "Content-Type": "application/json"}
        content = body.model_dump_json().encode()
        return self._get(_TASKS, Ask("POST", "/tasks/bulk", headers=headers, body=content, timeout_seconds=120.0))

    def check_task(self, body: SubmitBody) -> CheckView:
        """What the server would say to a submit, and what similar tasks really used; nothing is made."""
        return self._get(_CHECK, _json_ask("POST", "/tasks/check", body.model_dump(mode="json")))

    def view(self, task_id: str) -> TaskView:
        """The task as it is now."""
        return self._get(_TASK, Ask("GET", _path("tasks", task_id)))

    def page(self, filters: Mapping[str, str] | None = None, limit: int = 50, after: str = "") -> TaskPage:
        """A page of tasks, newest first; ``filters`` are state, verdict, owner, node, label (``k=v``) and text."""
        params = {name: value for name, value in (filters or {}).items() if value} | {"limit": str(limit)}
        return self._get(_PAGE, Ask("GET", "/tasks", params=params | ({"after": after} if after else {})))

    def wait_once(
        self, task_id: str, seconds: float, patience_seconds: float = PATIENCE_SECONDS
    ) -> TaskView | ResultRecord:
        """The result as soon as the task is final, or the task as it is after ``seconds``."""
        ask = Ask(
            "GET",
            _path("tasks", task_id, "result", "wait"),
            params={"timeout": f"{seconds:.3f}"},
            timeout_seconds=seconds + SLACK_SECONDS,
            patience_seconds=patience_seconds,
        )
        found = self._transport.send(ask)
        return self._parsed(_TASK, found) if found.status == 202 else self._parsed(_RESULT, found)

    def spec(self, task_id: str) -> dict[str, Any]:
        """The description of the task, as JSON."""
        return self._get(_OBJECT, Ask("GET", _path("tasks", task_id, "spec")))

    def result(self, task_id: str) -> ResultRecord:
        """The result of a final task; Conflict while it is not final."""
        return self._get(_RESULT, Ask("GET", _path("tasks", task_id, "result")))

    def log(
        self,
        task_id: str,
        stream: str,
        offset: int,
        wait_seconds: float = 0.0,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> LogPart:
        """Captured output from ``offset`` on; with ``wait_seconds`` the answer waits until there is any."""
        params = {"offset": str(offset), "limit": str(LOG_PART_BYTES)}
        if wait_seconds:
            params["wait"] = f"{wait_seconds:g}"
        answer = self._transport.send(
            Ask(
                "GET",
                _path("tasks", task_id, "logs", stream),
                params=params,
                timeout_seconds=wait_seconds + SLACK_SECONDS,
                patience_seconds=patience_seconds,
            )
        )
        size = answer.headers.get("grid-log-size", "")
        complete = answer.headers.get("grid-log-complete", "").lower() == "true"
        known = int(size) if size.isascii() and size.isdigit() else offset + len(answer.body)
        return LogPart(answer.body, known, complete, answer.headers.get("grid-log-attempt", ""))

    def file(self, task_id: str, path: str, take: Callable[[httpx.Response], T]) -> T:
        """What ``take`` makes of the content of a result file; called anew when the connection breaks."""
        return self._transport.receive(Ask("GET", _path("tasks", task_id, "files") + "/" + quote(path)), take)

    def events(self, task_id: str) -> tuple[EventView, ...]:
        """The timeline of the task."""
        return self._get(_EVENTS, Ask("GET", _path("tasks", task_id, "events")))

    def attempts(self, task_id: str) -> tuple[AttemptView, ...]:
        """The attempts of the task, oldest first."""
        return self._get(_ATTEMPTS, Ask("GET", _path("tasks", task_id, "attempts")))

    def explain(self, task_id: str) -> ExplainView:
        """Why the task is where it is."""
        return self._get(_EXPLAIN, Ask("GET", _path("tasks", task_id, "explain")))

    def cancel(self, task_id: str, reason: str = "") -> TaskView:
        """Ask for the end of the task; a final one answers Conflict."""
        return self._get(_TASK, _json_ask("POST", _path("tasks", task_id, "cancel"), {"reason": reason}))

    def cancel_many(self, body: ManyBody) -> ManyView:
        """Ask for the end of many tasks; what was refused stands in the answer, for each."""
        return self._get(_MANY, _many_ask("cancel", body, ""))

    def retry_many(self, body: ManyBody, idempotency_key: str) -> ManyView:
        """Run many tasks again; the same key makes the same new tasks, however often it is sent."""
        return self._get(_MANY, _many_ask("retry", body, idempotency_key))

    def copy_task(self, task_id: str, spec: Mapping[str, Any] | None, idempotency_key: str) -> TaskView:
        """Run a task that the caller may see as a new one of theirs; ``spec`` replaces its description."""
        ask = _json_ask("POST", _path("tasks", task_id, "copy"), {"spec": spec}, {"Idempotency-Key": idempotency_key})
        return self._get(_TASK, ask)

    def share_task(self, task_id: str, group: str) -> TaskView:
        """Let the members of one of its owner's groups see the task; nobody any more with an empty name."""
        return self._get(_TASK, _json_ask("PUT", _path("tasks", task_id, "sharing"), {"group": group}))

    def remove_task(self, task_id: str) -> None:
        """Remove a task that has ended, with all that belongs to it; Conflict while it has not."""
        self._transport.send(Ask("DELETE", _path("tasks", task_id)))

    # ------------------------------------------------------------------------------------------------------ blobs
    def missing_blobs(self, hashes: Iterable[str]) -> list[str]:
        """Those of the blobs that have to be uploaded before a task may refer to them."""
        return self._get(_MISSING, _json_ask("POST", "/blobs/missing", {"sha256": list(hashes)}))["missing"]

    def blob(self, sha256: str, take: Callable[[httpx.Response], T]) -> T:
        """What ``take`` makes of a content that you may read; called anew when the connection breaks."""
        return self._transport.receive(Ask("GET", _path("blobs", sha256)), take)

    def put_blob(self, sha256: str, body: Body, size: int) -> None:
        """Upload a blob of ``size`` bytes; a stream is a function that begins it anew."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        self._transport.send(Ask("PUT", _path("blobs", sha256), headers=headers, body=body, timeout_seconds=120.0))

    # ------------------------------------------------------------------------------------------------------ the grid
    def nodes(self) -> tuple[NodeStatus, ...]:
        """All nodes."""
        return self._get(_NODES, Ask("GET", "/nodes"))

    def node(self, name: str) -> NodeStatus:
        """The node of this name."""
        return self._get(_NODE, Ask("GET", _path("nodes", name)))

    def node_history(self, name: str, hours: float = 24) -> tuple[NodeSampleView, ...]:
        """How busy the node was in the last hours (168 at most), in means of ten minutes, oldest first."""
        return self._get(_SAMPLES, Ask("GET", _path("nodes", name, "history"), params={"hours": str(hours)}))

    def queue(self) -> QueueView:
        """Whose turn it is, who has how much of the grid, and what has waited longest and why."""
        return self._get(_QUEUE, Ask("GET", "/queue"))

    def add_node(self, name: str, *, renew: bool = False) -> NewNode:
        """Make a node and its token; ``renew`` gives one that is there a new token. For operators."""
        return self._get(_NEW_NODE, _json_ask("POST", "/nodes", {"name": name, "renew": renew}))

    def remove_node(self, name: str) -> None:
        """Take an empty node and its tokens out of the grid; Conflict while something is on it. For operators."""
        self._transport.send(Ask("DELETE", _path("nodes", name)))

    def cordon(self, name: str, reason: str = "") -> NodeStatus:
        """Give the node nothing new; what runs there goes on. For operators, as the next two."""
        return self._get(_NODE, _json_ask("POST", _path("nodes", name, "cordon"), {"reason": reason}))

    def drain(self, name: str, reason: str = "", deadline_seconds: float | None = None) -> NodeStatus:
        """Empty the node: what runs there may finish, until the deadline if there is one (0 is at once)."""
        wish = {"reason": reason, "deadline_seconds": deadline_seconds}
        return self._get(_NODE, _json_ask("POST", _path("nodes", name, "drain"), wish))

    def resume(self, name: str, reason: str = "") -> NodeStatus:
        """Let the node take work again."""
        return self._get(_NODE, _json_ask("POST", _path("nodes", name, "resume"), {"reason": reason}))

    def token_page(self, owner: str = "", after: str = "", limit: int = 100) -> TokenPage:
        """A page of the caller's tokens, or of everybody's for operators, newest first."""
        return self._get(_TOKENS, Ask("GET", "/tokens", params={"owner": owner, "after": after, "limit": str(limit)}))

    def create_token(self, body: TokenBody) -> NewToken:
        """Make a token of the caller's, which opens no more than the one that it is made with; its text comes once."""
        return self._get(_NEW_TOKEN, _json_ask("POST", "/tokens", body.model_dump(mode="json")))

    def revoke_token(self, token_id: int) -> None:
        """Make a token worthless; NotFound when there is none of this number."""
        self._transport.send(Ask("DELETE", _path("tokens", str(token_id))))

    def account(self) -> AccountView:
        """The caller's account: groups, sharing, and what is used of the quotas that hold."""
        return self._get(_ACCOUNT, Ask("GET", "/account"))

    def share_all(self, share: bool) -> AccountView:
        """Let the caller's groups see the caller's tasks, or not any more."""
        return self._get(_ACCOUNT, _json_ask("PUT", "/account/sharing", {"share": share}))

    def users(self, after: str = "") -> PeoplePage:
        """A page of the users by name. For operators, as all up to ``decide_for_group``."""
        return self._get(_PEOPLE, Ask("GET", "/users", params={"after": after} if after else {}))

    def user(self, name: str) -> PersonDetail:
        """One user, with what is decided for them."""
        return self._get(_PERSON, Ask("GET", _path("users", name)))

    def add_user(self, body: NewPersonBody) -> NewPerson:
        """Make an account; Conflict when the name is taken."""
        return self._get(_NEW_PERSON, _json_ask("POST", "/users", body.model_dump(mode="json")))

    def change_user(self, name: str, change: PersonChange) -> PersonDetail:
        """Change groups, close or open the account, decide quotas, limits, images and retention: all or nothing."""
        given = change.model_dump(mode="json", exclude_unset=True)
        return self._get(_PERSON, _json_ask("PATCH", _path("users", name), given))

    def groups(self) -> tuple[GroupView, ...]:
        """All groups."""
        return self._get(_GROUPS, Ask("GET", "/groups"))

    def group(self, name: str) -> GroupDetail:
        """One group, with what is decided for it."""
        return self._get(_GROUP, Ask("GET", _path("groups", name)))

    def add_group(self, name: str) -> GroupDetail:
        """Make a group, unless it is there."""
        return self._get(_GROUP, _json_ask("POST", "/groups", {"name": name}))

    def decide_for_group(self, name: str, rules: Rules) -> GroupDetail:
        """Decide quotas, limits, images, retention and sharing for the members of a group together."""
        given = {"rules": rules.model_dump(mode="json", exclude_defaults=True)}
        return self._get(_GROUP, _json_ask("PATCH", _path("groups", name), given))

    def doctor(self) -> DoctorView:
        """What the server finds when it looks at itself. For operators."""
        return self._get(_DOCTOR, Ask("GET", "/doctor"))

    def whoami(self, patience_seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """``{"user", "scopes", "server_version"}`` of the caller."""
        return self._get(_OBJECT, Ask("GET", "/whoami", patience_seconds=patience_seconds))

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of ``task.json`` as the server reads it."""
        return self._get(_OBJECT, Ask("GET", "/schema"))

    def secrets(self) -> list[str]:
        """The names of the caller's secrets."""
        return [one["name"] for one in self._get(_SECRETS, Ask("GET", "/secrets"))]

    def put_secret(self, name: str, value: str) -> None:
        """Store a secret, or replace its value."""
        self._transport.send(_json_ask("PUT", _path("secrets", name), {"value": value}))

    def delete_secret(self, name: str) -> None:
        """Remove a secret; NotFound when there is none of this name."""
        self._transport.send(Ask("DELETE", _path("secrets", name)))

    def _get(self, kind: TypeAdapter[T], ask: Ask) -> T:
        return self._parsed(kind, self._transport.send(ask))

    def _parsed(self, kind: TypeAdapter[T], answer: Answer) -> T:
        try:
            return kind.validate_json(answer.body)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            at = ".".join(map(str, first["loc"]))
            why = f"{at}: {first['msg']}" if at else first["msg"]
            raise GridError(f"what answers at {self.server} is no grid, or one of another version ({why})") from error


def _path(*parts: str) -> str:
    return "".join("/" + quote(part, safe="") for part in parts)


def _json_ask(method: str, path: str, value: object, headers: Mapping[str, str] | None = None) -> Ask:
    kind = {"Content-Type": "application/json"}
    return Ask(method, path, headers={**kind, **(headers or {})}, body=json.dumps(value).encode())


def _many_ask(verb: str, body: ManyBody, key: str) -> Ask:
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    content = body.model_dump_json().encode()
    return Ask("POST", f"/tasks/{verb}", headers=headers, body=content, timeout_seconds=120.0)
