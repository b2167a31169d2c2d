"""The server looks at itself: what is right, what is wrong, and what an operator can do about it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from grid.core import logs, nodes
from grid.core.broker import condition, logins
from grid.core.broker.publisher import Publisher
from grid.core.conf import conf
from grid.core.contents import storecheck
from grid.core.dispatcher import LOCK_SECONDS
from grid.core.models import Attempt, Lock, Task
from grid.core.reading import explain, lag
from grid.core.wake import DISPATCHER
from tasks.dialects.kolejka_foremen import KOLEJKA
from tasks.states import AttemptState, NodeMode, TaskState
from tasks.units import human_seconds, human_size
from tasks.views import Finding, Level, NodeStatus

SLOW_DATABASE_SECONDS = 0.5
LEAST_FREE_BYTES = 1024**3
FEW_FREE_BYTES = 5 * 1024**3
LEAST_FREE_FILES = 10_000
# How much later than its time a deadline may be enforced before something is wrong with whoever does it.
LATE_SECONDS = 10.0
LOGS_LOOKED_AT = 20
# From here on a task's wait is worth a line, even when it is only that the grid is busy.
LONG_WAIT_SECONDS = 3600.0
# What a node says of itself, and what is to be done there.
_MENDS = {
    "clock": "set its clock right (systemd-timesyncd, chrony)",
    "free on the disk": "make room there (docker image prune), or give it another --dir",
    "more files fit": "delete small files there, or give it another --dir",
    "ngine": "start Docker there (systemctl start docker)",
}


def examine(now: datetime) -> tuple[Finding, ...]:
    """Everything that the server can see from where it stands; changes nothing."""
    found = [_database()]
    if found[0].level is not Level.FAIL:
        looks: tuple[Callable[[datetime], Iterator[Finding]], ...] = (_dispatcher, _deadlines, _queue, _nodes, _logs)
        found += [one for look in looks for one in look(now)]
    return (*found, *_broker(), _store(), *_disk(), *_directory())


def _database() -> Finding:
    begun = time.monotonic()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        hint = "is it running, and is GRID_DATABASE_URL right?"
        return Finding(name="database", level=Level.FAIL, detail=f"{type(error).__name__}: {error}", hint=hint)
    if missing:
        detail = f"{len(missing)} migrations are not applied, the first is {missing[0][0]}"
        return Finding(name="database", level=Level.FAIL, detail=detail, hint="run manage.py migrate, then restart")
    seconds = time.monotonic() - begun
    slow = seconds > SLOW_DATABASE_SECONDS
    return Finding(
        name="database",
        level=Level.WARN if slow else Level.PASS,
        detail=f"{connection.vendor}, its tables are up to date; it answers in {human_seconds(round(seconds, 3))}",
        hint="is its disk or its machine overloaded?" if slow else "",
    )


def _dispatcher(now: datetime) -> Iterator[Finding]:
    lock = Lock.objects.filter(name=DISPATCHER).first()
    start = "start one: manage.py rundispatcher"
    if lock is None:
        yield Finding(name="dispatcher", level=Level.FAIL, detail="none has ever been here", hint=start)
    elif lock.until is None or lock.until <= now:
        since = f" since {lock.until:%Y-%m-%d %H:%M:%S} UTC" if lock.until else ""
        detail = f"none acts{since}; the last was {lock.holder}"
        yield Finding(name="dispatcher", level=Level.FAIL, detail=detail, hint=f"{start}, and read its log")
    else:
        detail = f"{lock.holder} acts (number {lock.fence} in this role)"
        yield Finding(name="dispatcher", level=Level.PASS, detail=detail)
        ahead = (lock.until - now).total_seconds() - LOCK_SECONDS
        if ahead > 1:
            detail = f"that of {lock.holder} is {human_seconds(round(ahead))} ahead of the web server's"
            hint = "set the clocks of the servers right (systemd-timesyncd, chrony): leases are counted by them"
            yield Finding(name="clock-dispatcher", level=Level.FAIL, detail=detail, hint=hint)


def _deadlines(now: datetime) -> Iterator[Finding]:
    late = Attempt.objects.filter(
        state=AttemptState.RUNNING, lease_until__lte=now - timedelta(seconds=LATE_SECONDS)
    ).count()
    yield Finding(
        name="deadlines",
        level=Level.FAIL if late else Level.PASS,
        detail=f"{late} attempts are past their lease and nobody has ended them" if late else "none is overdue",
        hint="the dispatcher enforces them: is it running, is its log clean?" if late else "",
    )


def _queue(now: datetime) -> Iterator[Finding]:
    """Does anything wait that could run, and why does what has waited longest?"""
    late = lag.placeable_seconds(now)
    if late > LATE_SECONDS:
        detail = f"a task that fits on a node now has waited for {human_seconds(round(late))}"
        hint = "the dispatcher does not place it: is the broker well, is the dispatcher's log clean?"
        yield Finding(name="queue", level=Level.FAIL, detail=detail, hint=hint)
        return
    oldest = Task.objects.filter(state=TaskState.QUEUED).order_by("id").first()
    if oldest is None or oldest.queued_at is None:
        yield Finding(name="queue", level=Level.PASS, detail="nothing waits")
        return
    waited = (now - oldest.queued_at).total_seconds()
    view = explain.explain(oldest, now)
    detail = f"the oldest of {view.queued} tasks has waited for {human_seconds(round(waited))}: {view.summary}"
    level = Level.WARN if waited > LONG_WAIT_SECONDS or not view.can_ever_run else Level.PASS
    hint = f"grid explain {oldest.id}"
    if not view.can_ever_run:
        hint += "; no node can ever run it: add one that can, or cancel it"
    yield Finding(name="queue", level=level, detail=detail, hint="" if level is Level.PASS else hint)


def _nodes(now: datetime) -> Iterator[Finding]:
    found = nodes.status(now)
    able = [node.name for node in found if node.ready]
    yield Finding(
        name="nodes",
        level=Level.PASS if able else Level.FAIL,
        detail=f"{len(able)} of {len(found)} take tasks" if found else "there is none, so that tasks wait",
        hint="" if able else "add one: grid node add NAME; or mend those below" if found else "grid node add NAME",
    )
    for node in found:
        if not node.ready:
            yield _not_ready(node)


def _not_ready(node: NodeStatus) -> Finding:
    """A node that takes nothing: by the operator's word, or because something is wrong."""
    name, reason = f"node {node.name}", node.not_ready_reason
    if node.mode is not NodeMode.OPEN:
        state = "" if node.online else "; it is offline"
        hint = f"when that is over: grid node resume {node.name}"
        return Finding(name=name, level=Level.WARN, detail=reason + state, hint=hint)
    if node.version == KOLEJKA:
        # It is never ready: it asks by itself.
        hint = "" if node.online else f"start kolejka's foreman there, or remove it: grid node remove {node.name}"
        return Finding(name=name, level=Level.PASS if node.online else Level.WARN, detail=reason, hint=hint)
    if node.last_seen is None:
        hint = f"start it, or remove it: grid node remove {node.name}"
        return Finding(name=name, level=Level.WARN, detail=reason, hint=hint)
    if not node.online:
        hint = (
            f"is the machine up, does its agent run, does it reach the server? Start it: grid nodes restart {node.name}"
        )
        return Finding(name=name, level=Level.FAIL, detail=reason, hint=hint)
    advice = next((advice for word, advice in _MENDS.items() if word in reason), "mend this on the node")
    hint = f"{advice} (grid node check says more); it takes tasks again by itself"
    return Finding(name=name, level=Level.FAIL, detail=reason, hint=hint)


def _broker() -> Iterator[Finding]:
    publisher = Publisher(conf().broker_url)
    begun = time.monotonic()
    try:
        good = publisher.answers()
    finally:
        publisher.close()
    if not good:
        hint = "start it (valkey-server, redis-server), or set GRID_BROKER_URL; no task is lost meanwhile"
        yield Finding(name="broker", level=Level.FAIL, detail=publisher.down, hint=hint)
        return
    detail = f"it answers in {human_seconds(round(time.monotonic() - begun, 3))}"
    yield Finding(name="broker", level=Level.PASS, detail=detail)
    yield from condition.look(conf().broker_url)
    yield from logins.look(conf())


def _directory() -> Iterator[Finding]:
    """Where people log in by one."""
    if conf().ldap_url:
        # Its package is here only where it is used.
        from grid.core.people import ldapserver

        yield ldapserver.look(conf())


def _store() -> Finding:
    if problem := storecheck.problem():
        hint = "submits and results are refused until it can be written to: is the disk full, or read-only?"
        return Finding(name="store", level=Level.FAIL, detail=f"nothing can be stored: {problem}", hint=hint)
    return Finding(name="store", level=Level.PASS, detail="it can be written to")


def _logs(now: datetime) -> Iterator[Finding]:
    """Several servers on one database have to share the folder of logs."""
    looked, gone = logs.missing(now - timedelta(days=1), LOGS_LOOKED_AT)
    words = f"of the last {looked} attempts that said something, {gone} have no log in {conf().dir / 'logs'}"
    hint = "do all servers of this database share that folder? Else nodes cannot report to each of them"
    yield Finding(name="logs", level=Level.FAIL if gone else Level.PASS, detail=words, hint=hint if gone else "")


def _disk() -> Iterator[Finding]:
    folder = conf().dir
    try:
        disk = os.statvfs(folder)
    except OSError as error:
        detail = f"{folder}: {error.strerror}"
        yield Finding(name="disk", level=Level.FAIL, detail=detail, hint="is GRID_DIR right, is the disk mounted?")
        return
    free = disk.f_bavail * disk.f_frsize
    level = Level.FAIL if free < LEAST_FREE_BYTES else Level.WARN if free < FEW_FREE_BYTES else Level.PASS
    hint = "" if level is Level.PASS else "make room, or move GRID_DIR to a larger disk"
    yield Finding(name="disk", level=level, detail=f"{human_size(free)} are free for {folder}", hint=hint)
    # Some file systems have no fixed number of files, and say 0 of 0.
    if disk.f_files and disk.f_favail < LEAST_FREE_FILES:
        detail = f"only {disk.f_favail} more files fit on the disk of {folder}"
        yield Finding(name="disk-files", level=Level.FAIL, detail=detail, hint="delete small files there")
