"""The node's side: its agent joins, renews leases, takes orders, moves files and logs, reports outcomes."""

from __future__ import annotations

from typing import Annotated

from django.http import FileResponse, HttpResponse
from django.utils import timezone
from ninja import Header, Path, Query, Router

from grid.core import nodes, outcomes
from grid.core.models import Node
from grid.core.people.tokens import Scope
from tasks.errors import Conflict, NotAllowed, TooLarge
from tasks.model import Record
from tasks.order import Heartbeat, HeartbeatReply, Hello, Order, Session, Welcome
from tasks.outcome import Outcome
from tasks.states import Phase
from webapp.api.answers import Accepted, answer, download
from webapp.api.blobs import Kept, Sha256, body_of, kept
from webapp.auth import Allow, Request

LOG_PART_BYTES = 8 * 1024**2
AttemptId = Annotated[str, Path(pattern=r"^[0-9A-Za-z_.-]{1,64}$")]
AttemptToken = Annotated[str, Header(alias="Grid-Attempt-Token", max_length=200)]

router = Router(tags=["node"], auth=Allow(Scope.NODE))


class TakeBody(Record):
    """Who takes the attempt up, and the word from the broker's message that opens the order."""

    session: Session
    nonce: str


class PhaseBody(Record):
    """What the node is doing with the attempt."""

    token: str
    phase: Phase


class LogSize(Record):
    """How much of a log the server has."""

    size: int


@router.post("/hello", response=Welcome)
def hello(request: Request, body: Hello) -> HttpResponse:
    """An agent has started."""
    return answer(nodes.hello(_node(request), body, timezone.now(), request.auth.key))


@router.post("/heartbeat", response=HeartbeatReply)
def heartbeat(request: Request, body: Heartbeat) -> HttpResponse:
    """An agent lives; 409 when another one has taken over its name."""
    return answer(nodes.heartbeat(_node(request), body, timezone.now()))


@router.post("/attempts/{attempt_id}/order", response=Order)
def take(request: Request, attempt_id: AttemptId, body: TakeBody) -> HttpResponse:
    """Take an attempt up; 409 when it is not, or no longer, this session's."""
    return answer(nodes.take(_node(request), attempt_id, body.session, body.nonce, timezone.now()))


@router.post("/attempts/{attempt_id}/phase", response=Accepted)
def phase(request: Request, attempt_id: AttemptId, body: PhaseBody) -> HttpResponse:
    """An attempt is in another phase."""
    nodes.report_phase(_node(request), attempt_id, body.token, body.phase, timezone.now())
    return answer(Accepted())


@router.get("/attempts/{attempt_id}/blobs/{sha256}")
def input_file(request: Request, attempt_id: AttemptId, sha256: Sha256, token: AttemptToken) -> FileResponse:
    """An input file of the attempt."""
    return download(nodes.attempt_blob(_node(request), attempt_id, token, sha256), sha256)


@router.put("/attempts/{attempt_id}/blobs/{sha256}", response={201: Kept})
def output_file(request: Request, attempt_id: AttemptId, sha256: Sha256, token: AttemptToken) -> HttpResponse:
    """An output file of the attempt, as the raw body."""
    chunks = body_of(request)
    return kept(nodes.upload_blob(_node(request), attempt_id, token, sha256, chunks, timezone.now()))


@router.post("/attempts/{attempt_id}/logs/{stream}", response=LogSize)
def log(
    request: Request,
    attempt_id: AttemptId,
    stream: Annotated[str, Path(pattern="^(stdout|stderr)$")],
    offset: Annotated[int, Query(ge=0)],
    token: AttemptToken,
) -> HttpResponse:
    """Captured output that begins at ``offset``, as the raw body; 409 when there is a gap before it."""
    data = request.read(LOG_PART_BYTES + 1)
    if len(data) > LOG_PART_BYTES:
        raise TooLarge(f"a part of a log has at most {LOG_PART_BYTES} bytes")
    return answer(LogSize(size=nodes.append_log(_node(request), attempt_id, token, stream, offset, data)))


@router.post("/attempts/{attempt_id}/outcome", response=Accepted)
def outcome(request: Request, attempt_id: AttemptId, body: Outcome) -> HttpResponse:
    """How the attempt ended; 409 with ``missing`` when contents have to be uploaded first."""
    if body.attempt != attempt_id:
        raise Conflict(f"the outcome is of the attempt {body.attempt}, the address names {attempt_id}")
    outcomes.accept(_node(request), body, timezone.now())
    return answer(Accepted())


def _node(request: Request) -> Node:
    node = request.auth.node
    if node is None:
        raise NotAllowed("this needs the token of a node")
    return node
