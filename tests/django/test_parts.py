"""The small parts of the server: ids, settings, store, tokens, locks, secrets, the hub and the waker."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.db import transaction

from grid.core import events, locks, secretbox, wake
from grid.core.conf import GridSettings, SettingsError
from grid.core.contents.store import DirectoryStore
from grid.core.ids import new_id, order_of
from grid.core.models import Token
from grid.core.people import tokens
from grid.core.reading import hub
from tasks.errors import GridError, NotAllowed, NotFound, SpecError, Stale, TooLarge
from tests.django import builders as given

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def test_ids_grow_also_within_a_millisecond() -> None:
    made = [new_id() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == 10_000
    assert all(len(one) == 32 and one[12] == "7" for one in made)
    assert [order_of(one) for one in made] == sorted(order_of(one) for one in made)


def test_settings_come_from_variables_and_files(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("hush\n")
    found = GridSettings.from_environ(
        {
            "GRID_SECRET_KEY_FILE": str(secret),
            "GRID_LEASE_SECONDS": "6",
            "GRID_DEFAULT_LIMITS": '{"memory": "64M"}',
            "GRID_LICENCES": '{"matlab": 2}',
            "GRID_SERVER": "the client's own",
            "PATH": "/bin",
        }
    )
    assert (found.secret_key, found.lease_seconds, found.heartbeat) == ("hush", 6.0, 2.0)
    assert found.default_limits.memory == 64 * 1024**2
    assert found.licences == {"matlab": 2}


def test_an_unknown_setting_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(SettingsError, match=r'"GRID_LEASE_SECOND" is not a setting; did you mean "GRID_LEASE_SECONDS"'):
        GridSettings.from_environ({"GRID_LEASE_SECOND": "6"})
    with pytest.raises(SettingsError, match="wrong value"):
        GridSettings.from_environ({"GRID_LEASE_SECONDS": "soon"})


def test_the_store_keeps_a_content_once_and_whole(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    digest = hashlib.sha256(b"hello").hexdigest()
    assert store.put([b"hel", b"lo"]) == store.put([b"hello"], digest)
    with store.open(digest) as file:
        assert file.read() == b"hello"
    store.delete(digest)
    store.delete(digest)
    assert not store.exists(digest)
    with pytest.raises(NotFound):
        store.open(digest)


def test_the_store_leaves_nothing_of_what_it_refuses(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    with pytest.raises(SpecError, match="send the file again"):
        store.put([b"hello"], "0" * 64)
    with pytest.raises(TooLarge):
        store.put([b"x" * 10] * 10, limit=50)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.django_db
def test_a_token_opens_until_it_expires_and_only_its_hash_is_kept() -> None:
    token, clear = tokens.create(
        owner=given.a_user(), name="t", scopes=[tokens.Scope.READ], now=NOW, expires_at=given.later(NOW, 60)
    )
    assert tokens.authenticate(clear, NOW) == token
    assert clear not in str(Token.objects.values().get())
    with pytest.raises(NotAllowed, match="expired"):
        tokens.authenticate(clear, given.later(NOW, 61))
    with pytest.raises(NotAllowed, match="not known"):
        tokens.authenticate("grid_guess", NOW)
    user = token.owner
    user.is_active = False
    user.save()
    with pytest.raises(NotAllowed, match="closed"):
        tokens.authenticate(clear, NOW)


@pytest.mark.django_db
def test_a_lock_has_one_holder_and_a_fence_that_grows() -> None:
    assert locks.acquire("role", "a", "", now=NOW, seconds=10) == 1
    assert locks.acquire("role", "b", "", now=NOW, seconds=10) is None
    assert locks.acquire("role", "a", "", now=given.later(NOW, 5), seconds=10) == 1
    assert locks.acquire("role", "b", "", now=given.later(NOW, 16), seconds=10) == 2
    with pytest.raises(Stale):
        locks.check("role", "a", 1)
    locks.check("role", "b", 2)


def test_a_secret_is_unreadable_without_the_key() -> None:
    sealed = secretbox.seal("hush")
    assert b"hush" not in sealed
    assert secretbox.unseal(sealed) == "hush"
    with pytest.raises(GridError, match="store it again"):
        secretbox.unseal(sealed[:-2] + b"xx")


@pytest.mark.django_db(transaction=True)
def test_the_dispatcher_is_woken_by_a_packet_after_the_commit() -> None:
    listener = wake.Listener()
    locks.acquire(wake.DISPATCHER, "here", listener.address, now=datetime.now(UTC), seconds=10)
    waker = wake.Waker()
    with transaction.atomic():
        transaction.on_commit(waker.wake)
        assert not listener.wait(0.01)
    assert listener.wait(5)
    assert not listener.wait(0.01)
    listener.close()
    waker.close()


def test_a_waiter_is_woken_by_its_own_task_only() -> None:
    async def story() -> tuple[bool, bool]:
        board = hub.Hub(lambda since: (0, set()))
        async with board.subscribe(["mine"]) as changes:
            board.publish({"other"})
            early = await changes.wait(0.02)
            board.publish({"mine"})
            return early, await changes.wait(5)

    assert asyncio.run(story()) == (False, True)


def test_a_waiter_sees_what_another_process_did() -> None:
    async def story() -> bool:
        looks = iter([(1, set()), (2, {"mine"})])
        board = hub.Hub(lambda since: next(looks, (2, set())))
        async with board.subscribe(["mine"]) as changes:
            return await changes.wait(5)

    assert asyncio.run(story())


@pytest.mark.django_db(transaction=True)
def test_an_event_is_told_only_after_its_commit() -> None:
    task = given.a_task(NOW)
    told: list[str] = []

    class Listening(hub.Subscription):
        def __init__(self) -> None:
            self.tasks = None

        def tell(self, changed: set[str]) -> None:
            told.extend(changed)

    listening = Listening()
    hub.hub._waiting.add(listening)
    try:
        with transaction.atomic():
            events.append(task.id, "note", NOW)
            assert told == []
        assert told == [task.id]
    finally:
        hub.hub._waiting.discard(listening)
