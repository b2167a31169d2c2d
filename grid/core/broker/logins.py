"""Users of a broker of the Redis protocol: each node has one of its own, which opens its own queue and no other node's.

Nothing of it is stored: a password is derived from the server's secret key and the node's token, and the users are made
anew from the tokens whenever the broker has lost them. Where the broker has no such users (RabbitMQ, a hosted Redis
without ACL, GRID_BROKER_USERS=false) nodes share the server's own address of the broker.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
from base64 import urlsafe_b64encode
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.db.models import Q
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry

from grid.celery import hostname_of, queue_of
from grid.core.conf import GridSettings, conf
from grid.core.models import Node, Token
from tasks.views import Finding, Level

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 1.0
SETTLE_EVERY = 5
"""Of so many ticks one compares the broker's users with the tokens; so much longer a revoked token opens the broker."""

# Stands between the name of a queue and a priority in the keys of kombu.
_PRIORITY = "\x06\x16"
_AWAY = (ConnectionError, TimeoutError, OSError)
# What a broker says while it can do nothing for anybody; a full disk makes it refuse even a PING.
_TROUBLED = ("MISCONF", "MASTERDOWN", "BUSY", "TRYAGAIN")
# What kombu's worker needs. Of what is refused SCAN and RANDOMKEY would tell the names of other nodes' keys; the
# dangerous commands are KEYS, FLUSHALL, CLIENT, CONFIG, MIGRATE and their like. A worker reads INFO when it connects.
_COMMANDS = ("-@all", "+@all", "-@admin", "-@dangerous", "-scan", "-randomkey", "-swapdb", "+info")


class BrokerUsers:
    """The users of the nodes on one broker. Only the dispatcher that leads settles them; every server may admit."""

    def __init__(self, broker_url: str, allowed: bool = True) -> None:
        self._url = broker_url
        self._wanted = allowed and broker_url.startswith(("redis://", "rediss://"))
        self._client: Redis | None = None
        self._settled = False
        self._ticks = 0
        self._lock = threading.Lock()
        self.refused = ""
        """Why the broker makes no users; empty when it does, or has not been asked yet."""

    @property
    def possible(self) -> bool:
        """Whether nodes get users of their own, for all that is known by now."""
        return self._wanted and not self.refused

    # ------------------------------------------------------------------------------------------------ for one node
    def admit(self, node: str, key: str) -> str:
        """The user part ``NAME:PASSWORD`` for a node whose token has the hash ``key``; empty where it has to share.

        A broker that is away is not waited for: the dispatcher makes the user when it is back.
        """
        if not self.possible:
            return ""
        password = password_of(key)
        with self._lock:
            try:
                _ask(self._connected(), "ACL", "SETUSER", self._user(node), f"#{_digest(password)}", *self._rules(node))
            except _AWAY:
                self._drop()
            except ResponseError as error:
                if not _will_pass(error):
                    self._refuse(error)
                    return ""
                self._drop()
        return f"{self._user(node)}:{password}"

    # ----------------------------------------------------------------------------------------------- for all of them
    def tick(self, now: datetime) -> None:
        """Settle the users now and then, and at once when the broker was away: it may have forgotten them."""
        if not self.possible:
            return
        with self._lock:
            self._ticks += 1
            try:
                if self._settled and self._ticks % SETTLE_EVERY:
                    self._connected().ping()
                else:
                    self._settle(wanted(now))
                    self._settled = True
            except _AWAY:
                self._drop()
            except ResponseError as error:
                if _will_pass(error):
                    self._drop()
                else:
                    self._refuse(error)

    def close(self) -> None:
        """Close the connection; the next call makes a new one."""
        with self._lock:
            self._drop()

    def _settle(self, tokens: Mapping[str, Iterable[str]]) -> None:
        """Make the broker's users those of the tokens: new ones, other passwords, and none for nodes that are gone."""
        client = self._connected()
        found = self._found(client)
        pipe = client.pipeline(transaction=False)
        ended = sorted(set(found) - {self._user(node) for node in tokens})
        if ended:
            # Redis ends the connections of a user that it forgets.
            _ask(pipe, "ACL", "DELUSER", *ended)
        for node, keys in tokens.items():
            user = self._user(node)
            digests = {_digest(password_of(key)) for key in keys}
            if self._settled and found.get(user) == digests:
                continue
            passwords = [f"#{digest}" for digest in sorted(digests)]
            _ask(pipe, "ACL", "SETUSER", user, "resetpass", *passwords, *self._rules(node))
            if found.get(user, set()) - digests:
                # Of the node's connections some have come with the password that is worth nothing now.
                _ask(pipe, "CLIENT", "KILL", "USER", user)
        pipe.execute()
        if ended:
            said = {"action": "broker_users_ended"}
            logger.info("the broker knows %s no more", ", ".join(ended), extra=said)

    def _found(self, client: Redis) -> dict[str, set[str]]:
        """Our users on the broker, with the digests of their passwords."""
        lines = [line.decode() if isinstance(line, bytes) else str(line) for line in _ask(client, "ACL", "LIST")]
        words = [line.split() for line in lines]
        return {
            known[1]: {word[1:] for word in known if word.startswith("#")}
            for known in words
            if known[1].startswith(self._user(""))
        }

    @property
    def _number(self) -> str:
        """The number of the database; users are the whole broker's, queues are a database's."""
        return urlsplit(self._url).path.strip("/") or "0"

    def _user(self, node: str) -> str:
        return f"grid-{self._number}-{node}"

    def _rules(self, node: str) -> tuple[str, ...]:
        """Its queue with the keys beside it, what workers share, and the channels of control and events."""
        queue, mailbox = queue_of(node), f"{hostname_of(node)}.celery.pidbox"
        # A bare queue* would open the queue of every node whose name begins like this one's.
        own = (queue, f"{queue}{_PRIORITY}*", f"{queue}:*", mailbox, f"{mailbox}{_PRIORITY}*")
        keys = (*own, "_kombu.binding*", "*.reply.celery.pidbox*")
        # A pattern can be subscribed to only if the rule is the very same text.
        channels = (f"/{self._number}.celery.pidbox", f"/{self._number}.celeryev/*")
        return (
            *("on", "resetkeys", "resetchannels"),
            *(f"~{key}" for key in keys),
            *(f"&{channel}" for channel in channels),
            *_COMMANDS,
        )

    def _connected(self) -> Redis:
        if self._client is None:
            self._client = Redis.from_url(
                self._url,
                socket_connect_timeout=PATIENCE_SECONDS,
                socket_timeout=PATIENCE_SECONDS,
                # A connection that broke has to be noticed: the broker behind the next one may be empty.
                retry=Retry(NoBackoff(), 0),
            )
        return self._client

    def _drop(self) -> None:
        self._settled = False
        if self._client is not None:
            self._client.close()
            self._client = None

    def _refuse(self, error: RedisError) -> None:
        self.refused = str(error)
        said = {"action": "broker_users_refused"}
        logger.warning("the broker makes no users, so that nodes share the server's address: %s", error, extra=said)


_known: dict[tuple[str, bool], BrokerUsers] = {}
_guard = threading.Lock()


def broker_users(given: GridSettings) -> BrokerUsers:
    """The users on this process's broker."""
    with _guard:
        return _known.setdefault(
            (given.broker_url, given.broker_users), BrokerUsers(given.broker_url, given.broker_users)
        )


def url_for(node: Node, key: str) -> str:
    """The address of the broker for a node that came with the token of the hash ``key``."""
    shared = conf().broker_for_nodes
    user = broker_users(conf()).admit(node.name, key) if key else ""
    if not user:
        return shared
    parts = urlsplit(shared)
    return urlunsplit(parts._replace(netloc=f"{user}@{parts.netloc.rpartition('@')[2]}"))


def wanted(now: datetime) -> dict[str, list[str]]:
    """The nodes that may have a user, with the hashes of their tokens that are good now."""
    good = Q(expires_at__isnull=True) | Q(expires_at__gt=now)
    rows = Token.objects.filter(good, node__isnull=False, node__removed_at=None, owner__is_active=True)
    found: dict[str, list[str]] = defaultdict(list)
    for name, digest in rows.values_list("node__name", "hash"):
        found[name].append(digest)
    return found


def password_of(key: str) -> str:
    """The password that belongs to the token with the hash ``key``: whoever has not the secret key cannot guess it."""
    secret = hashlib.sha256(b"celery-grid broker users\0" + settings.SECRET_KEY.encode()).digest()
    return urlsafe_b64encode(hmac.digest(secret, key.encode(), "sha256")).decode().rstrip("=")


def look(given: GridSettings) -> Iterator[Finding]:
    """What is to be said of the users: whether nodes have their own, and whether the broker asks for a password."""
    name = "broker-users"
    if not given.broker_url.startswith(("redis://", "rediss://")) or not given.broker_users:
        why = (
            "GRID_BROKER_USERS is false" if not given.broker_users else "the grid makes users on Redis and Valkey only"
        )
        detail = f"{why}: all nodes share one address, and each of them can read and empty the queues of the others"
        hint = "trust your nodes alike, or take a Redis or Valkey of version 6.2 or newer; no task's data is in there"
        yield Finding(name=name, level=Level.WARN, detail=detail, hint=hint)
        return
    client = Redis.from_url(given.broker_url, socket_connect_timeout=PATIENCE_SECONDS, socket_timeout=PATIENCE_SECONDS)
    with closing(client):
        try:
            _ask(client, "ACL", "LIST")
        except ResponseError as error:
            hint = (
                "allow the server's user the command ACL, or say GRID_BROKER_USERS=false; nodes share one address now"
            )
            yield Finding(name=name, level=Level.WARN, detail=f"the broker makes no users: {error}", hint=hint)
            return
        except (RedisError, OSError):
            return
    yield Finding(name=name, level=Level.PASS, detail="each node has its own, for its own queue only")
    if _opens_without_password(given.broker_url):
        hint = "set requirepass, and write it into GRID_BROKER_URL"
        yield Finding(name="broker-password", level=Level.FAIL, detail="the broker asks for none", hint=hint)


def _opens_without_password(url: str) -> bool:
    parts = urlsplit(url)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    with closing(
        Redis.from_url(bare, socket_connect_timeout=PATIENCE_SECONDS, socket_timeout=PATIENCE_SECONDS)
    ) as client:
        try:
            client.ping()
        except (AuthenticationError, RedisError, OSError):
            return False
    return True


def _will_pass(error: ResponseError) -> bool:
    """Whether the broker is in trouble, rather than one that has no users: then it is asked again."""
    return isinstance(error, OutOfMemoryError | ReadOnlyError) or str(error).startswith(_TROUBLED)


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def _ask(client: Redis, *words: str) -> Any:
    # Not typed by the library.
    execute: Callable[..., Any] = client.execute_command
    return execute(*words)
