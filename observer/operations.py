"""One request carried out: who may, on which session, and what is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from observer.callers import Caller
from observer.errors import Failed
from observer.limits import not_enforced, parse_limits
from observer.protocol import OPERATIONS, WITH_SESSION, Request
from observer.sessions import END_SECONDS, Session, Sessions
from observer.stats import Ended, to_json


@dataclass(frozen=True, slots=True)
class Done:
    """What to answer, which session it was about (if that was found), and whether it is a new one."""

    payload: Mapping[str, object]
    session: Session | None = None
    opened: bool = False


_OK: Mapping[str, object] = {"status": "ok"}


def perform(sessions: Sessions, request: Request, caller: Caller, now: float) -> Done:
    """Do what is asked. Raises ObserverError. ``now`` is a monotonic time."""
    if request.operation not in OPERATIONS:
        raise Failed("unknown operation")
    if request.operation == "":
        return Done({"sessions": len(sessions), "status": "ok"})
    if request.operation == "open" or (request.operation == "attach" and not request.session_id):
        return _open(sessions, request, caller, now)
    session = sessions.allow(caller, request)
    if request.operation == "stats":
        return Done({**to_json(sessions.stats(request.session_id, now)), **_OK}, session)
    if session is None:
        if request.operation in ("close", "kill"):  # as often as one likes
            return Done(_OK)
        raise Failed("the session has ended")
    if request.operation == "close":
        sessions.close(session, now, Ended.CLOSED)
        return Done(_OK, session)
    if session.over(now):
        raise Failed("the session has ended")
    return Done(_MOST[request.operation](sessions, session, request, caller), session)


def _open(sessions: Sessions, request: Request, caller: Caller, now: float) -> Done:
    session = sessions.open(caller, now)
    if request.operation == "attach":
        try:
            sessions.attach(session, caller)
        except Failed:
            sessions.close(session, now, Ended.CLOSED)
            raise
    return Done({"session_id": session.id, "secret": sessions.secret(session.id), **_OK}, session, opened=True)


def _attach(sessions: Sessions, session: Session, request: Request, caller: Caller) -> Mapping[str, object]:
    sessions.attach(session, caller)
    return _OK


def _detach(sessions: Sessions, session: Session, request: Request, caller: Caller) -> Mapping[str, object]:
    sessions.detach(session, caller)
    return _OK


def _limits(sessions: Sessions, session: Session, request: Request, caller: Caller) -> Mapping[str, object]:
    sessions.limit(session, parse_limits(request.limits))
    others = not_enforced(request.limits)
    return {**_OK, "not_enforced": list(others)} if others else _OK


def _freeze(sessions: Sessions, session: Session, request: Request, caller: Caller) -> Mapping[str, object]:
    try:
        session.box.freeze()
    except OSError as error:  # TimeoutError is one of them
        raise Failed(f"freeze: {error.strerror or error}") from error
    session.frozen = True
    return _OK


def _thaw(sessions: Sessions, session: Session, request: Request, caller: Caller) -> Mapping[str, object]:
    try:
        session.box.thaw()
    except OSError as error:
        raise Failed(f"thaw: {error.strerror}") from error
    session.frozen = False
    return _OK


def _kill(sessions: Sessions, session: Session, request: Request, caller: Caller) -> Mapping[str, object]:
    """Whoever comes into a frozen session afterwards is frozen as before."""
    if not session.box.end(END_SECONDS):
        raise Failed("some processes cannot be ended now")
    if session.frozen:
        session.box.hold(True)
    return _OK


_MOST: dict[str, Callable[[Sessions, Session, Request, Caller], Mapping[str, object]]] = {
    "attach": _attach,
    "detach": _detach,
    "limits": _limits,
    "freeze": _freeze,
    "thaw": _thaw,
    "kill": _kill,
}
assert set(_MOST) | {"stats", "close"} == WITH_SESSION | {"attach"}  # noqa: S101 - every operation has its verb
