"""Signatures, delays and addresses of webhooks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tasks import webhook
from tasks.errors import NotAllowed
from tasks.webhook import Answer

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
# The example of the libraries of Standard Webhooks.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'


def test_the_signature_is_that_of_the_standard() -> None:
    at = datetime.fromtimestamp(1614265330, UTC)
    found = webhook.signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, BODY)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_knows_a_genuine_delivery() -> None:
    headers = webhook.headers([webhook.new_secret(b"other"), SECRET], "e1", NOW, BODY)
    assert webhook.verify(SECRET, headers, BODY, NOW) == "e1"


@pytest.mark.parametrize(
    "changes",
    [
        {"webhook-id": "e2"},
        {"webhook-timestamp": str(int(NOW.timestamp()) + 1)},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": "9" * 30},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,\xe4"},
    ],
)
def test_a_receiver_refuses_what_was_changed(changes: dict[str, str]) -> None:
    headers = {**webhook.headers([SECRET], "e1", NOW, BODY), **changes}
    with pytest.raises(NotAllowed):
        webhook.verify(SECRET, headers, BODY, NOW)


def test_a_receiver_refuses_what_was_recorded_and_what_is_not_signed() -> None:
    headers = webhook.headers([SECRET], "e1", NOW, BODY)
    with pytest.raises(NotAllowed, match="not of this moment"):
        webhook.verify(SECRET, headers, BODY, NOW + timedelta(seconds=webhook.TOLERANCE_SECONDS + 1))
    with pytest.raises(NotAllowed, match="not signed"):
        webhook.verify(SECRET, {}, BODY, NOW)


def test_tries_are_further_and_further_apart_up_to_a_cap() -> None:
    found = [webhook.delay_seconds(tried, Answer(500)) for tried in range(1, 10)]
    assert found == [5, 20, 80, 320, 1280, 5120, 20480, 21600, 21600]
    assert webhook.delay_seconds(10**6, Answer(error="no route")) == 21600


def test_a_receiver_may_ask_for_more_time_or_for_nothing_more() -> None:
    assert webhook.delay_seconds(1, Answer(429, retry_after=60)) == 60
    assert webhook.delay_seconds(1, Answer(429, retry_after=1)) == 5
    assert webhook.delay_seconds(1, Answer(503, retry_after=10**9)) == 21600
    assert webhook.delay_seconds(1, Answer(410)) is None


def test_what_counts_as_taken() -> None:
    assert [Answer(status).accepted for status in (200, 204, 299, 300, 404, 500, None)] == [True] * 3 + [False] * 4


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::5db8:d70e"])
def test_addresses_of_the_open_internet(address: str) -> None:
    assert webhook.is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1"),
        *("255.255.255.255", "240.0.0.1", "::", "::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1"),
        *("64:ff9b::a00:1", "2002:a00:1::", "2001:0:a00:1::", "host", "", "0"),
    ],
)
def test_inner_addresses(address: str) -> None:
    assert not webhook.is_public(address)
