"""Webhooks as values: how deliveries are signed (Standard Webhooks), when they are tried again, where they may go.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from tasks.errors import NotAllowed

PREFIX = "whsec_"
TOLERANCE_SECONDS = 300.0
"""How far the time of a delivery may be from the receiver's clock: a delivery that was recorded opens nothing later."""

FIRST_DELAY_SECONDS = 5.0
DELAY_FACTOR = 4.0
MOST_DELAY_SECONDS = 6 * 3600.0

GONE = 410
_NAT64 = IPv6Network("64:ff9b::/96")

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one try: the receiver's status, or why there was none; ``retry_after`` in seconds if it said so."""

    status: int | None = None
    error: str = ""
    retry_after: float | None = None

    @property
    def accepted(self) -> bool:
        """Whether the receiver has taken it."""
        return self.status is not None and 200 <= self.status < 300


def new_secret(random: bytes) -> str:
    """The text of a signing secret made of random bytes."""
    return PREFIX + base64.b64encode(random).decode()


def signature(secret: str, event_id: str, at: datetime, body: bytes) -> str:
    """One signature: ``v1,`` and the base64 of HMAC-SHA256 over id, time in whole seconds, and body."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = f"{event_id}.{int(at.timestamp())}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def headers(secrets: Iterable[str], event_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The headers of a delivery; while a secret is being replaced it is signed with both."""
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signature(secret, event_id, at, body) for secret in secrets),
    }


def verify(secret: str, received: Mapping[str, str], body: bytes, now: datetime) -> str:
    """The event id of a genuine delivery; raises NotAllowed for any other. ``received`` has names in lower case."""
    try:
        event_id, at = received["webhook-id"], datetime.fromtimestamp(int(received["webhook-timestamp"]), UTC)
        given = received["webhook-signature"].split()
        expected = signature(secret, event_id, at, body)
    except (KeyError, ValueError, OverflowError, OSError, binascii.Error):
        raise NotAllowed("the delivery is not signed, or the secret is none") from None
    if abs((now - at).total_seconds()) > TOLERANCE_SECONDS:
        raise NotAllowed("the delivery is not of this moment")
    if not any(hmac.compare_digest(expected.encode(), one.encode()) for one in given):
        raise NotAllowed("the signature of the delivery is wrong")
    return event_id


def delay_seconds(tried: int, answer: Answer, first_seconds: float = FIRST_DELAY_SECONDS) -> float | None:
    """How long to wait after the ``tried``-th try that was not accepted; None when the receiver wants no more of it."""
    if answer.status == GONE:
        return None
    backed_off = min(MOST_DELAY_SECONDS, first_seconds * DELAY_FACTOR ** min(tried - 1, 20))
    return max(backed_off, min(answer.retry_after or 0.0, MOST_DELAY_SECONDS))


def is_public(text: str) -> bool:
    """Whether an address belongs to the open internet: not private, loopback, link-local, shared, multicast, reserved.

    Addresses that carry an IPv4 address in them are judged by that one too.
    """
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return all(one.is_global and not one.is_multicast and not one.is_reserved for one in _within(address))


def _within(address: Address) -> list[Address]:
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    carried = [*(address.teredo or ()), *([address.sixtofour] if address.sixtofour else [])]
    return [address, *carried]
