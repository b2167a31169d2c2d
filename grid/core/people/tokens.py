"""Bearer tokens: made once in clear text, kept as a hash, limited by scopes and time."""

from __future__ import annotations

import copy
import hashlib
import secrets
import threading
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from enum import StrEnum

from django.contrib.auth.models import User
from django.db.models import Q, QuerySet

from grid.core.models import Node, Token
from tasks.accounts import NewToken, TokenBody, TokenPage
from tasks.errors import Fault, NotAllowed, NotFound, SpecError
from tasks.views import TokenView

USED_SECONDS = 300.0
REMEMBER_SECONDS = 2.0
MOST_REMEMBERED = 10_000

_lock = threading.Lock()
_known: dict[str, tuple[datetime, Token]] = {}


class Scope(StrEnum):
    """What a token opens: reading, submitting and cancelling, a node's own side of the API, the operator's verbs."""

    READ = "read"
    SUBMIT = "submit"
    NODE = "node"
    ADMIN = "admin"


def create(
    *,
    owner: User,
    name: str,
    scopes: Iterable[Scope],
    now: datetime,
    node: Node | None = None,
    expires_at: datetime | None = None,
) -> tuple[Token, str]:
    """Make a token; the clear text is returned this once. 192 random bits need no slow hash."""
    clear = f"grid_{secrets.token_urlsafe(24)}"
    token = Token.objects.create(
        owner=owner,
        name=name,
        hash=_hash(clear),
        scopes=sorted(scope.value for scope in scopes),
        node=node,
        created_at=now,
        expires_at=expires_at,
    )
    return token, clear


def issue(owner: User, wish: TokenBody, now: datetime, *, most: Collection[Scope], until: datetime | None) -> NewToken:
    """Make a token that opens at most what ``most`` says and lives no longer than ``until``.

    So nobody makes more of a token than it is. Raises SpecError.
    """
    scopes = [Scope(word) for word in wish.scopes]
    faults = [
        Fault("scopes", f'you do not have "{one}" yourself, and cannot give it') for one in scopes if one not in most
    ]
    ends = now + timedelta(days=wish.days) if wish.days is not None else until
    if until is not None and ends is not None and ends > until:
        faults.append(Fault("days", f"the token that you came with expires before, at {until:%Y-%m-%d %H:%M} UTC"))
    if faults:
        raise SpecError(faults)
    token, clear = create(owner=owner, name=wish.name, scopes=set(scopes), now=now, expires_at=ends)
    return NewToken(token=clear, view=view(token))


def view(token: Token) -> TokenView:
    """A token as it is listed."""
    return TokenView(
        id=token.pk,
        name=token.name,
        owner=token.owner.username,
        scopes=tuple(token.scopes),
        node=token.node.name if token.node else "",
        created_at=token.created_at,
        expires_at=token.expires_at,
        last_used_at=token.last_used_at,
    )


def authenticate(clear: str, now: datetime) -> Token:
    """The token for a clear text; raises NotAllowed when it is unknown, expired, or its owner is not active."""
    token, fresh = _remembered(_hash(clear), now)
    if token is None:
        raise NotAllowed("the token is not known here; it may have been revoked")
    if token.expires_at is not None and token.expires_at <= now:
        raise NotAllowed(f"the token expired at {token.expires_at:%Y-%m-%d %H:%M} UTC; make a new one")
    if not token.owner.is_active:
        raise NotAllowed("the account of this token is closed")
    _note_use(token, now)
    # Most nodes say something less often than tokens are looked up: then the node came with its token.
    return token if fresh or token.node_id is None else _with_node(token, token.node_id)


def _with_node(token: Token, node_id: int) -> Token:
    """The token is remembered, its node is not: a node's row changes with every heartbeat."""
    node = Node.objects.filter(pk=node_id).first()
    if node is None:
        raise NotAllowed("the node of this token was removed")
    token = copy.copy(token)
    token.node = node
    return token


def _remembered(digest: str, now: datetime) -> tuple[Token | None, bool]:
    """The row of a hash, and whether it was read now, with its node.

    It is looked up once in a while: a revoked token dies that much later, a busy one costs nothing.
    """
    with _lock:
        known = _known.get(digest)
        if known is not None and abs((now - known[0]).total_seconds()) < REMEMBER_SECONDS:
            return known[1], False
    token = Token.objects.select_related("owner", "node").filter(hash=digest).first()
    with _lock:
        if len(_known) >= MOST_REMEMBERED:
            _known.clear()
        if token is not None:
            _known[digest] = (now, token)
        else:
            _known.pop(digest, None)
    return token, True


def visible(user: User) -> QuerySet[Token]:
    """The tokens that ``user`` may see and revoke, the newest first: staff all, others their own."""
    mine = Token.objects.all() if user.is_staff else Token.objects.filter(owner=user)
    return mine.select_related("owner", "node").order_by("-id")


def page(user: User, *, owner: str = "", after: str = "", limit: int) -> TokenPage:
    """A page of the tokens that ``user`` may see, those of one ``owner`` if wished, behind the cursor ``after``."""
    rows = visible(user).filter(owner__username=owner) if owner else visible(user)
    found = list((rows.filter(pk__lt=int(after)) if after else rows)[: limit + 1])
    more = str(found[limit - 1].pk) if len(found) > limit else ""
    return TokenPage(items=tuple(view(token) for token in found[:limit]), next=more)


def revoke(user: User, token_id: int) -> None:
    """Make a token worthless; raises NotFound also when it is somebody else's."""
    if not visible(user).filter(pk=token_id).delete()[0]:
        raise NotFound(f"there is no token {token_id}, or it is not yours")
    forget()


def forget() -> None:
    """Look every token up again; who revokes one calls it."""
    with _lock:
        _known.clear()


def _note_use(token: Token, now: datetime) -> None:
    """Note the use, at most once in some minutes: a heartbeat must not cost a write for it."""
    old = now - timedelta(seconds=USED_SECONDS)
    if token.last_used_at is None or token.last_used_at < old:
        unused = Q(last_used_at__isnull=True) | Q(last_used_at__lt=old)
        Token.objects.filter(unused, pk=token.pk).update(last_used_at=now)


def _hash(clear: str) -> str:
    return hashlib.sha256(clear.encode()).hexdigest()
