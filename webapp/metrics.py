"""Figures for Prometheus. A scrape needs a token with the scope ``read`` (``authorization: credentials_file`` there).

Loopback alone is no proof: behind a proxy on the same machine everybody seems to come from there. The figures are of
the whole grid; they name nodes, states and verdicts, never tasks or people. Only those of requests and of the process
are this server's own.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from django.db.models import Count, Min, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from grid.core import nodes
from grid.core.conf import conf
from grid.core.models import Attempt, Blob, Event, Lock, Node, Task
from grid.core.people.tokens import Scope
from grid.core.reading import lag
from grid.core.wake import DISPATCHER
from tasks.errors import GridError
from tasks.states import AttemptState, Phase, TaskState
from tasks.verdicts import CLASS_OF, Verdict
from tasks.views import NodeStatus
from webapp.auth import Allow
from webapp.problems import problem_of
from webapp.timing import requests_seconds

Metric = GaugeMetricFamily | CounterMetricFamily
T = TypeVar("T")

REST = 50.0
"""What took a while to count rests so many times as long: scrapes cost the database 2 % of its time at most."""

_OPEN_STATES = [state for state in TaskState if not state.final]


@csrf_exempt
@never_cache
@require_safe
def scrape(request: HttpRequest) -> HttpResponse:
    """The figures of this moment, read from the database."""
    try:
        Allow(Scope.READ)(request)
    except GridError as error:
        return problem_of(error)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(timezone.now()))
    registry.register(requests_seconds)
    ProcessCollector(registry=registry)
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class Kept(Generic[T]):
    """A count that grows slow with the number of rows: made anew when it has rested, by one thread at a time."""

    def __init__(self, count: Callable[[], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._clock = clock
        self._lock = threading.Lock()
        self._found: T | None = None
        self._until = float("-inf")

    def __call__(self) -> T:
        """The count, at most ``REST`` times as old as it took to make."""
        with self._lock:
            begun = self._clock()
            if self._found is None or begun >= self._until:
                self._found = self._count()
                ended = self._clock()
                self._until = ended + REST * (ended - begun)
            return self._found

    def forget(self) -> None:
        """Count anew the next time."""
        with self._lock:
            self._found = None


def _count_tasks() -> dict[str, int]:
    counted = Task.objects.filter(state__in=_OPEN_STATES).values_list("state").annotate(Count("id")).order_by()
    return {**dict.fromkeys(map(str, _OPEN_STATES), 0), **dict(counted)}


def _count_attempts() -> list[tuple[str, str, int]]:
    # By the verdict alone, which its index holds; those that have not ended have none.
    found = Attempt.objects.exclude(verdict="").values_list("verdict").annotate(number=Count("*")).order_by()
    return [(verdict, str(CLASS_OF[Verdict(verdict)]), count) for verdict, count in found]


def _count_blobs() -> tuple[int, int]:
    found = Blob.objects.aggregate(number=Count("sha256"), size=Sum("size"))
    return found["number"], found["size"] or 0


_tasks, _ended, _blobs = Kept(_count_tasks), Kept(_count_attempts), Kept(_count_blobs)


def forget() -> None:
    """Count everything anew at the next scrape."""
    for kept in (_tasks, _ended, _blobs):
        kept.forget()


def _held() -> QuerySet[Attempt]:
    """Attempts on nodes, in the words of their index and of that of states: SQLite has one of them to use, whatever
    statistics it has.
    """
    held = [AttemptState.ASSIGNED, AttemptState.RUNNING]
    return Attempt.objects.exclude(state=AttemptState.ENDED).filter(state__in=held)


class Figures(Collector):
    """Reads all figures of one scrape."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names are known only by reading."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All figures."""
        yield from self._queue()
        yield from self._attempts()
        yield from self._dispatcher()
        yield from self._store()
        yield from _nodes(nodes.status(self._now))
        yield from self._heard_of()

    def _queue(self) -> Iterator[Metric]:
        tasks = GaugeMetricFamily("grid_tasks", "Tasks that are not final, by state.", labels=["state"])
        for state, count in _tasks().items():
            tasks.add_metric([state], count)
        yield tasks
        first = Task.objects.filter(state=TaskState.QUEUED).aggregate(first=Min("id"))["first"]
        oldest = Task.objects.filter(id=first).values_list("queued_at", flat=True).first() if first else None
        yield _one("grid_queue_oldest_seconds", "How long the oldest queued task has waited.", self._since(oldest))

    def _attempts(self) -> Iterator[Metric]:
        metric = CounterMetricFamily("grid_attempts", "Attempts that have ended.", labels=["verdict", "class"])
        for verdict, kind, count in _ended():
            metric.add_metric([verdict, kind], count)
        yield metric
        # One look for both: for a least value alone SQLite would go through all attempts in search of an order.
        found = _held().values_list("state", "phase").annotate(number=Count("*"), first=Min("assigned_at"))
        held = list(found.order_by())
        counts = {("assigned", ""): 0, **{("running", str(phase)): 0 for phase in Phase}}
        counts |= {(state, phase): count for state, phase, count, _ in held}
        active = GaugeMetricFamily(
            "grid_attempts_active", "Attempts on nodes, by state and phase.", labels=["state", "phase"]
        )
        for labels, count in counts.items():
            active.add_metric(list(labels), count)
        yield active
        waiting = min((first for state, _, _, first in held if state == AttemptState.ASSIGNED), default=None)
        text = "How long the oldest attempt waits for its node."
        yield _one("grid_assigned_oldest_seconds", text, self._since(waiting))

    def _dispatcher(self) -> Iterator[Metric]:
        lock = Lock.objects.filter(name=DISPATCHER).first() or Lock(name=DISPATCHER)
        left = (lock.until - self._now).total_seconds() if lock.until else 0.0
        yield _one("grid_dispatcher_acts", "1 while a dispatcher holds the role.", float(left > 0))
        text = "Since when the dispatcher's lease has lapsed."
        yield _one("grid_dispatcher_overdue_seconds", text, max(0.0, -left))
        text = "Since when the acting dispatcher has not renewed its role, which it does between rounds."
        yield _one("grid_dispatcher_renewed_seconds", text, lag.renewed_seconds(lock, self._now))
        text = "How long the oldest task has been queued that could be placed now."
        yield _one("grid_dispatcher_lag_seconds", text, lag.placeable_seconds(self._now))
        yield _one("grid_dispatcher_fence", "Number of the acting dispatcher in its role.", lock.fence)
        text = "Changes of the acting dispatcher."
        yield CounterMetricFamily("grid_dispatcher_changes", text, value=lock.fence)
        newest = Event.objects.order_by("-id").values_list("id", flat=True).first()
        yield CounterMetricFamily("grid_events", "Events written.", value=newest or 0)

    def _store(self) -> Iterator[Metric]:
        number, size = _blobs()
        yield _one("grid_blobs", "Contents in the blob store.", number)
        yield _one("grid_blob_bytes", "Bytes of all contents in the blob store.", size)
        free = GaugeMetricFamily("grid_server_disk_free_bytes", "Free bytes on the disk of the server's folder.")
        with contextlib.suppress(OSError):  # that it is not there is told by /health and the doctor
            disk = os.statvfs(conf().dir)
            free.add_metric([], disk.f_bavail * disk.f_frsize)
        yield free

    def _heard_of(self) -> Iterator[Metric]:
        """How fresh each node's word is; only of those that have ever joined."""
        seen = Node.objects.filter(removed_at=None, last_seen__isnull=False).values_list("name", "last_seen")
        ages = {name: self._since(moment) for name, moment in seen}
        yield _of_nodes("grid_node_heartbeat_age_seconds", "Since the node was last heard of.", ages)
        running = _held().filter(state=AttemptState.RUNNING).values_list("node__name").order_by()
        given = timedelta(seconds=conf().lease_seconds)
        oldest = {name: self._since(until - given) for name, until in running.annotate(Min("lease_until"))}
        text = "Since the oldest lease of a running attempt was renewed; it lapses at the length of a lease."
        yield _of_nodes("grid_node_lease_age_seconds", text, {**dict.fromkeys(ages, 0.0), **oldest})
        yield _one("grid_lease_seconds", "Length of a lease.", conf().lease_seconds)

    def _since(self, moment: datetime | None) -> float:
        return max(0.0, (self._now - moment).total_seconds()) if moment else 0.0


def _nodes(found: list[NodeStatus]) -> Iterator[Metric]:
    figures: dict[str, tuple[str, Callable[[NodeStatus], float]]] = {
        "online": ("1 while the node is heard of.", lambda node: node.online),
        "ready": ("1 while the node takes tasks.", lambda node: node.ready),
        "running": ("Attempts on the node.", lambda node: node.running),
        "free_slots": ("Free slots.", lambda node: node.slots - node.running),
        "free_cpus": ("Free processors.", lambda node: node.cpus - node.cpus_used),
        "free_memory_bytes": ("Free memory.", lambda node: node.memory - node.memory_used),
        "free_disk_bytes": ("Free room for workspaces.", lambda node: node.storage - node.storage_used),
    }
    for name, (text, figure) in figures.items():
        yield _of_nodes(f"grid_node_{name}", text, {one.name: float(figure(one)) for one in found})
    modes = GaugeMetricFamily("grid_node_mode", "1 for what the operator lets the node do.", labels=["node", "mode"])
    for one in found:
        modes.add_metric([one.name, str(one.mode)], 1)
    yield modes


def _one(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _of_nodes(name: str, text: str, values: dict[str, float]) -> Metric:
    metric = GaugeMetricFamily(name, text, labels=["node"])
    for node, value in values.items():
        metric.add_metric([node], value)
    return metric
