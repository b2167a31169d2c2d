"""The operator's verbs on nodes: add, remove, cordon, drain, resume; `grid.core.nodes` has those of nodes."""

from __future__ import annotations

import logging
from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction

from grid.core import offers, wake
from grid.core.models import Attempt, Node, Token
from grid.core.people import audit, tokens
from grid.core.people.tokens import Scope
from tasks.errors import Conflict, Fault, NotFound, SpecError
from tasks.names import node_name_fault
from tasks.states import AttemptState, NodeMode

logger = logging.getLogger(__name__)


def find(name: str) -> Node:
    """The node of this name; raises NotFound when there is none, or none any more."""
    node = Node.objects.filter(name=name, removed_at=None).first()
    if node is None:
        raise NotFound(f'there is no node "{name}"')
    return node


def enlist(name: str, now: datetime) -> Node:
    """The node of this name, made if it is not there; raises SpecError when no node can be called so."""
    if fault := node_name_fault(name):
        raise SpecError([Fault("name", fault)])
    node, _ = Node.objects.get_or_create(name=name, defaults={"created_at": now})
    if Node.objects.filter(pk=node.pk, removed_at__isnull=False).update(removed_at=None, created_at=now, facts={}):
        node.refresh_from_db()
    return node


def add(name: str, *, by: User, renew: bool, now: datetime) -> tuple[Node, str]:
    """Make a node and its token, whose clear text is returned this once.

    ``renew`` takes the tokens of a node that is there away, and gives it a new one. Raises SpecError for a name that
    cannot be one, and Conflict when there is such a node and nobody said ``renew``.
    """
    with transaction.atomic():
        if not renew and Node.objects.filter(name=name, removed_at=None).exists():
            raise Conflict(f"there is a node {name} already; renew its token, or choose another name")
        node = enlist(name, now)
        Token.objects.filter(node=node).delete()
        _, clear = tokens.create(owner=by, name=f"node {name}", scopes=(Scope.NODE,), node=node, now=now)
        audit.note("node_renewed" if renew else "node_added", f"node {name}", now, by=by.username)
    tokens.forget()
    logger.info("node %s was added by %s", name, by.username, extra={"action": "node_added", "node": name})
    return node, clear


def remove(name: str, *, by: str, now: datetime) -> None:
    """Take a node out of the grid together with its tokens; the records of what it ran stay.

    Raises NotFound, and Conflict while there is something on it: an attempt that has not ended.
    """
    with transaction.atomic():
        node = find(name)
        # Whoever places something there at this moment is either seen here, or finds the node gone and takes it back.
        Node.objects.filter(pk=node.pk).update(
            removed_at=now, session="", lease_until=None, ready=False, **_mode(NodeMode.OPEN, "", "", None)
        )
        held = Attempt.objects.filter(node=node).exclude(state=AttemptState.ENDED).count()
        if held:
            raise Conflict(f"node {name} is not empty ({held} on it); drain it first: grid node drain {name}")
        Token.objects.filter(node=node).delete()
        audit.note("node_removed", f"node {name}", now, by=by)
    tokens.forget()
    offers.forget()
    logger.info("node %s was removed by %s", name, by, extra={"action": "node_removed", "node": name})


def cordon(name: str, *, by: str, reason: str, now: datetime) -> Node:
    """Give a node nothing new; what runs there goes on. Raises NotFound."""
    return _set(name, _mode(NodeMode.CORDONED, by, reason, now), now)


def drain(name: str, *, by: str, reason: str, now: datetime, until: datetime | None = None) -> Node:
    """Empty a node: nothing new, and what runs there may finish. Raises NotFound.

    What still runs at ``until`` is ended by the node and tried elsewhere, free of charge; None lets it run to its end.
    """
    return _set(name, {**_mode(NodeMode.DRAINING, by, reason, now), "drain_until": until}, now)


def resume(name: str, *, by: str, reason: str, now: datetime) -> Node:
    """Let a node take work again. Raises NotFound."""
    return _set(name, _mode(NodeMode.OPEN, by, reason, now), now)


def _mode(mode: NodeMode, by: str, reason: str, now: datetime | None) -> dict[str, object]:
    words = {"mode_by": by[:150], "mode_reason": " ".join(reason.split())[:500]}
    return {"mode": mode, "mode_at": now, "drain_until": None, **words}


def _set(name: str, fields: dict[str, object], now: datetime) -> Node:
    """Only these fields, for heartbeats write others at the same time; the dispatcher looks at once."""
    if not Node.objects.filter(name=name, removed_at=None).update(**fields):
        raise NotFound(f'there is no node "{name}"')
    mode, by, reason = (str(fields[one]) for one in ("mode", "mode_by", "mode_reason"))
    audit.note("node_mode", f"node {name}", now, by=by, mode=mode, reason=reason)
    said = {"action": "node_mode", "node": name}
    logger.info("node %s: %s by %s", name, fields["mode"], fields["mode_by"], extra=said)
    wake.dispatcher()
    return find(name)
