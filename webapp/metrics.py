"""Figures for Prometheus. A scrape needs a token with the scope ``read`` (``authorization: credentials_file`` there).

Loopback alone is no proof: behind a proxy on the same machine everybody seems to come from there. The figures are of
the whole grid; they name nodes, states and verdicts, never tasks or people.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from django.db.models import Count, Min
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from grid.core import nodes
from grid.core.models import Attempt, Event, Lock, Task
from grid.core.tokens import Scope
from grid.core.wake import DISPATCHER
from tasks.errors import GridError
from tasks.states import AttemptState, TaskState
from tasks.views import NodeStatus
from webapp.auth import Allow
from webapp.problems import problem_of

Metric = GaugeMetricFamily | CounterMetricFamily
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
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class Figures(Collector):
    """Reads all figures of one scrape."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names are known only by reading."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All figures."""
        yield from self._tasks()
        yield self._attempts()
        yield from self._dispatcher()
        yield from _nodes(nodes.status(self._now))

    def _tasks(self) -> Iterator[Metric]:
        counted = Task.objects.filter(state__in=_OPEN_STATES).values_list("state").annotate(Count("id")).order_by()
        counts = {**dict.fromkeys(_OPEN_STATES, 0), **dict(counted)}
        tasks = GaugeMetricFamily("grid_tasks", "Tasks that are not final, by state.", labels=["state"])
        for state, count in counts.items():
            tasks.add_metric([str(state)], count)
        yield tasks
        first = Task.objects.filter(state=TaskState.QUEUED).aggregate(first=Min("id"))["first"]
        oldest = Task.objects.filter(id=first).values_list("queued_at", flat=True).first() if first else None
        yield GaugeMetricFamily(
            "grid_queue_oldest_seconds", "How long the oldest queued task has waited.", value=self._since(oldest)
        )

    def _attempts(self) -> Metric:
        ended = Attempt.objects.filter(state=AttemptState.ENDED).values_list("verdict", "verdict_class")
        metric = CounterMetricFamily("grid_attempts", "Attempts that have ended.", labels=["verdict", "class"])
        for verdict, kind, count in ended.annotate(Count("id")).order_by():
            metric.add_metric([verdict, kind], count)
        return metric

    def _dispatcher(self) -> Iterator[Metric]:
        lock = Lock.objects.filter(name=DISPATCHER).first()
        left = (lock.until - self._now).total_seconds() if lock and lock.until else 0.0
        yield GaugeMetricFamily("grid_dispatcher_acts", "1 while a dispatcher holds the role.", value=float(left > 0))
        yield GaugeMetricFamily(
            "grid_dispatcher_overdue_seconds", "Since when the dispatcher's lease has lapsed.", value=max(0.0, -left)
        )
        yield CounterMetricFamily(
            "grid_dispatcher_changes", "Changes of the acting dispatcher.", value=lock.fence if lock else 0
        )
        waiting = Attempt.objects.filter(state=AttemptState.ASSIGNED).aggregate(first=Min("assigned_at"))["first"]
        yield GaugeMetricFamily(
            "grid_assigned_oldest_seconds",
            "How long the oldest attempt waits for its node.",
            value=self._since(waiting),
        )
        newest = Event.objects.order_by("-id").values_list("id", flat=True).first()
        yield CounterMetricFamily("grid_events", "Events written.", value=newest or 0)

    def _since(self, moment: datetime | None) -> float:
        return max(0.0, (self._now - moment).total_seconds()) if moment else 0.0


def _nodes(found: list[NodeStatus]) -> Iterator[Metric]:
    yield _of_nodes("grid_node_online", "1 while the node is heard of.", {one.name: float(one.online) for one in found})
    yield _of_nodes("grid_node_ready", "1 while the node takes tasks.", {one.name: float(one.ready) for one in found})
    yield _of_nodes("grid_node_running", "Attempts on the node.", {one.name: one.running for one in found})
    yield _of_nodes("grid_node_free_slots", "Free slots.", {one.name: one.slots - one.running for one in found})
    yield _of_nodes("grid_node_free_cpus", "Free processors.", {one.name: one.cpus - one.cpus_used for one in found})
    yield _of_nodes(
        "grid_node_free_memory_bytes", "Free memory.", {one.name: one.memory - one.memory_used for one in found}
    )


def _of_nodes(name: str, text: str, values: dict[str, float]) -> Metric:
    metric = GaugeMetricFamily(name, text, labels=["node"])
    for node, value in values.items():
        metric.add_metric([node], value)
    return metric
