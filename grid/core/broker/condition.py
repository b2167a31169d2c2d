"""What a broker of the Redis protocol says of itself: does it keep messages, may it throw some away, has it room?

No task depends on it, for lost messages are sent again from the rows; but each costs seconds, and a broker that evicts
costs them again and again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tasks.units import human_size
from tasks.views import Finding, Level

PATIENCE_SECONDS = 2.0
FULL_SHARE = 0.9


def look(url: str) -> Iterator[Finding]:
    """What is to be said of the broker at ``url``; nothing of one that speaks another protocol or does not answer."""
    if not url.startswith(("redis://", "rediss://")):
        return
    client = Redis.from_url(url, socket_connect_timeout=PATIENCE_SECONDS, socket_timeout=PATIENCE_SECONDS)
    with closing(client):
        try:
            said: Mapping[str, Any] = client.info("memory") | client.info("persistence")
        except (RedisError, OSError) as error:
            detail = f"the broker does not tell of its memory and persistence: {error}"
            yield Finding(
                name="broker-settings", level=Level.WARN, detail=detail, hint="allow its user the command INFO"
            )
            return
    yield policy(said)
    yield persistence(said)


def policy(said: Mapping[str, Any]) -> Finding:
    """Whether it may throw messages away, and how near it is to having to."""
    name, most, used = "broker-memory", int(said.get("maxmemory", 0)), int(said.get("used_memory", 0))
    rule = str(said.get("maxmemory_policy", "noeviction"))
    words = f"{human_size(used)} of {human_size(most)} used, {rule}" if most else f"{human_size(used)} used, {rule}"
    if rule != "noeviction" and most:
        hint = "set maxmemory-policy noeviction: when it is full it throws messages away, and nodes are woken late"
        return Finding(name=name, level=Level.FAIL, detail=words, hint=hint)
    if rule != "noeviction":
        hint = "set maxmemory-policy noeviction before it is given a maxmemory"
        return Finding(name=name, level=Level.WARN, detail=words, hint=hint)
    if most and used > FULL_SHARE * most:
        hint = "raise maxmemory; at its end nothing new is placed until there is room"
        return Finding(name=name, level=Level.FAIL, detail=words, hint=hint)
    return Finding(name=name, level=Level.PASS, detail=words)


def persistence(said: Mapping[str, Any]) -> Finding:
    """Whether messages outlive its restart, and whether it can write."""
    name = "broker-persistence"
    last = {key: str(said.get(key, "ok")) for key in ("aof_last_write_status", "rdb_last_bgsave_status")}
    bad = [f"{key} is {word}" for key, word in last.items() if word != "ok"]
    if bad:
        hint = "is its disk full? Until it can write it refuses messages, and nothing new is placed"
        return Finding(name=name, level=Level.FAIL, detail=", ".join(bad), hint=hint)
    if not int(said.get("aof_enabled", 0)):
        detail = "its append-only file is off: after a restart it is empty"
        hint = "set appendonly yes; no task is lost without, but those on their way to a node start seconds late"
        return Finding(name=name, level=Level.WARN, detail=detail, hint=hint)
    return Finding(name=name, level=Level.PASS, detail="its append-only file is on, and written")
