"""The records under any order of events: submits, placements, lost nodes, stale reports, cancels, and time.

Hypothesis makes up the stories; after each step the promises of ``tests.django.invariants`` are checked, and at the end
of each story the grid is healed and every task has to become final. ``SOAK_EXAMPLES=2000`` tells more stories.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection, transaction
from hypothesis import HealthCheck
from hypothesis import Phase as Step
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from grid.core import ending, locks, nodes, records
from grid.core.conf import conf
from grid.core.dispatcher import Dispatcher
from grid.core.models import Attempt, Node, Task
from grid.core.reconciler import Reconciler
from grid.core.wake import DISPATCHER
from tasks.errors import Conflict, Stale
from tasks.limits import Limits
from tasks.order import Capacity, Hello, Order
from tasks.outcome import Evidence, Usage
from tasks.states import FINAL_STATES, AttemptState, Phase
from tasks.verdicts import judge
from tests.django import builders as given
from tests.django.invariants import Watch, check_deadlines, is_final
from tests.support.publishers import RecordingPublisher

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)

SOAK = "SOAK_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("SOAK_EXAMPLES", "40"))
STEPS = 30
MOST_TASKS = 10
LICENCES = {"matlab": 1}
GIB = 1024**3
NODES = {
    "alpha": Capacity(cpus=2, memory=GIB, storage=8 * GIB, slots=3),
    "beta": Capacity(cpus=1, memory=4 * GIB, storage=8 * GIB, slots=2),
    "gamma": Capacity(cpus=4, memory=GIB // 2, storage=8 * GIB, slots=8),
}
TAGS = {"gamma": ("fast",)}

demands = st.sampled_from(
    [
        {"limits": {"cpus": 1, "memory": "128M"}},
        {"limits": {"cpus": 0.5, "memory": "64M"}},
        {"limits": {"cpus": 2, "memory": "256M"}},
        {"limits": {"cpus": 1, "memory": "2G"}},
        {"limits": {"memory": "64M"}, "requires": ["fast"]},
        {"limits": {"memory": "64M"}, "exclusive": True},
        {"limits": {"memory": "64M"}, "singleton": "one"},
        {"limits": {"memory": "64M"}, "resources": {"matlab": 1}},
    ]
)
wishes = st.fixed_dictionaries(
    {},
    optional={
        "expires": st.sampled_from(["5s", "60s", "10min"]),
        "priority": st.sampled_from([-5, 0, 10]),
        "retry": st.sampled_from(
            [
                {"attempts": 2, "on": ["exit_code"]},
                {"attempts": 3, "on": ["user"], "delay": "20s", "backoff": 2},
            ]
        ),
    },
)
evidence = st.sampled_from(
    [
        {"exit_code": 0},
        {"exit_code": 0},
        {"exit_code": 0},
        {"exit_code": 1},
        {"exit_code": 1},
        {"exit_code": 137, "oom_kills": 1},
        {"exit_code": 143, "stopped": "time_limit"},
        {"exit_code": 143, "stopped": "cancelled"},
        {"exit_code": 143, "stopped": "lease_lost"},
        {"exit_code": None, "fault": {"kind": "node_disk", "message": "no space"}},
        {"exit_code": None, "fault": {"kind": "engine_restarted", "message": "it went away"}},
        {"exit_code": None, "fault": {"kind": "image_not_found", "message": "no such image"}},
    ]
)
STORIES = hypothesis_settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    # Making a failing story shorter takes minutes.
    phases=[Step.reuse, Step.generate, *([Step.shrink] if SOAK else [])],
)
numbers = st.integers(0, 9)
times = st.sampled_from([0.5, 2, 4, 4, 11, 11, 25, 31, 61, 400])
holes = st.one_of(st.just(frozenset[int]()), st.frozensets(st.integers(0, 5)))
afters: st.SearchStrategy[list[int]] = st.one_of(
    st.just([]), st.just([]), st.just([]), st.lists(numbers, min_size=1, max_size=2)
)
mostly = st.sampled_from([True, True, True, False])
phases = st.sampled_from(list(Phase))
owners = st.sampled_from(["ada", "bob"])
names = st.sampled_from(sorted(NODES))
leaders = st.sampled_from(["one", "two"])


class Grid(RuleBasedStateMachine):
    """The grid's server as its users, nodes, dispatchers and the clock see it; each story is undone at its end.

    Hypothesis switches rules off at random, so there are few of them, each with its variants as arguments; things are
    picked by numbers, so that nearly every step finds something to do.
    """

    def __init__(self) -> None:
        super().__init__()
        self._story = transaction.atomic()
        self._story.__enter__()
        self.now = NOW
        self.publisher = RecordingPublisher()
        self.dispatchers = {name: Dispatcher(conf(), self.publisher, name, "") for name in ("one", "two")}
        self.reconcilers = {
            name: Reconciler(conf(), dispatcher, self.publisher) for name, dispatcher in self.dispatchers.items()
        }
        self.held: dict[str, dict[str, Order]] = {name: {} for name in NODES}
        self.orders: list[tuple[str, Order]] = []
        self.tasks: list[tuple[str, str]] = []
        self.keys: dict[tuple[str, str], tuple[dict[str, Any], str]] = {}
        self.watch = Watch(LICENCES)

    def teardown(self) -> None:
        """Heal the grid and wait: everything ends."""
        try:
            self.heal()
            connection.check_constraints()
        finally:
            transaction.set_rollback(True)
            self._story.__exit__(None, None, None)

    @initialize(first=st.lists(demands, min_size=1, max_size=4))
    def begin(self, first: list[dict[str, Any]]) -> None:
        """All nodes join, and some work is under way."""
        for name in NODES:
            self.hello(name)
        self.submit("ada", [(demand, {}, []) for demand in first])
        self.serve("one", careful=True, tick=False)
        self.take(frozenset(), again=False)

    def hello(self, name: str, adopted: Sequence[str] = ()) -> None:
        """A node's agent starts, and would like to keep some containers."""
        node, _ = Node.objects.get_or_create(name=name, defaults={"created_at": self.now})
        facts = given.facts(capacity=NODES[name], tags=TAGS.get(name, ()))
        said = Hello(session=secrets.token_hex(4), home=name, facts=facts, adopted=tuple(adopted))
        welcome = nodes.hello(node, said, self.now)
        self.held[name] = {one: self.held[name][one] for one in adopted if one not in welcome.drop}

    # ------------------------------------------------------------------------------------------------------------ users
    @precondition(lambda self: len(self.tasks) < MOST_TASKS)
    @rule(owner=owners, some=st.lists(st.tuples(demands, wishes, afters), min_size=1, max_size=3))
    def submit(self, owner: str, some: list[tuple[dict[str, Any], dict[str, Any], list[int]]]) -> None:
        """Some tasks, a few of them after others."""
        for demand, wish, after in some:
            own = [task for whose, task in self.tasks if whose == owner]
            needs = sorted({own[-1 - number % len(own)] for number in after}) if own else []
            task = given.a_task(self.now, given.a_user(owner), **demand, **wish, after=needs)
            self.tasks.append((owner, task.id))

    @rule(owner=owners, demand=demands, key=st.sampled_from(["k1", "k2"]))
    def submit_with_key(self, owner: str, demand: dict[str, Any], key: str) -> None:
        """The same key gives the same task, and is refused for another one."""
        before = Task.objects.count()
        spec, known = self.keys.get((owner, key), (demand, ""))
        if spec != demand:
            with pytest.raises(Conflict):
                given.a_task(self.now, given.a_user(owner), key, **demand)
            assert Task.objects.count() == before
            return
        task = given.a_task(self.now, given.a_user(owner), key, **demand)
        assert (Task.objects.count() == before) == bool(known)
        assert task.id == (known or task.id)
        self.keys[owner, key] = (demand, task.id)

    @rule(number=numbers)
    def cancel(self, number: int) -> None:
        """In whatever state it is."""
        before = Task.objects.get(id=self.tasks[-1 - number % len(self.tasks)][1])
        after = records.cancel(before, by="ada", reason="", now=self.now)
        assert is_final(after.state) == (before.state != "running")

    # ----------------------------------------------------------------------------------------------------- dispatchers
    @rule(who=leaders, careful=mostly, tick=st.booleans())
    def serve(self, who: str, careful: bool, tick: bool) -> None:
        """A round of a dispatcher; one that is not careful slept, and does not look whether it still leads."""
        dispatcher = self.dispatchers[who]
        if careful and not dispatcher.lead(self.now):
            return
        if tick and careful:
            self.reconcilers[who].tick(self.now)
            self.reconcilers[who].cancels(self.now)
            check_deadlines(self.now)
        lease = locks.acquire(DISPATCHER, "nobody", "", now=self.now, seconds=0)
        with contextlib.suppress(Stale):
            assert not dispatcher.dispatch(lambda: self.now) or lease is None

    @rule(who=leaders, broken=st.booleans())
    def operate(self, who: str, broken: bool) -> None:
        """The broker goes or comes, a dispatcher steps down."""
        self.publisher.broken = broken
        self.dispatchers[who].step_down()

    @rule(seconds=times, who=leaders, silent=st.sets(names), goes_on=mostly)
    def time_passes(self, seconds: float, who: str, silent: set[str], goes_on: bool) -> None:
        """Leases lapse and delays end; mostly the grid goes on with its work meanwhile."""
        self.now = given.later(self.now, seconds)
        if goes_on:
            for name in sorted(set(NODES) - silent):
                self.heartbeat(name, frozenset(), Phase.EXECUTING, ready=True)
            self.serve(who, careful=True, tick=True)
            self.take(frozenset(), again=False)

    # ----------------------------------------------------------------------------------------------------------- nodes
    @rule(late=holes, again=st.booleans())
    def take(self, late: frozenset[int], again: bool) -> None:
        """Nodes read their messages, but for those that are late; what is not confirmed comes ``again``."""
        sent = self.publisher.sent
        for message in [message for number, message in enumerate(sent) if number not in late]:
            if not again:
                sent.remove(message)
            self.take_up(message)

    def take_up(self, message: Attempt) -> None:
        """A message opens its order once, and again only for the session that opened it."""
        node = Node.objects.get(pk=message.node_id)
        before = Attempt.objects.get(id=message.id)
        for session, nonce in (("old", message.nonce), (node.session, "guessed")):
            with pytest.raises(Stale):
                nodes.take(node, message.id, session, nonce, self.now)
        own = before.state == AttemptState.RUNNING and before.session == node.session
        if before.state != AttemptState.ASSIGNED and not own:
            with pytest.raises(Stale):
                nodes.take(node, message.id, node.session, message.nonce, self.now)
            return
        order = nodes.take(node, message.id, node.session, message.nonce, self.now)
        assert order.token == before.token
        self.held[node.name][message.id] = order
        self.orders.append((node.name, order))

    @rule(silent=st.sets(names), lost=holes, phase=phases, ready=mostly)
    def heartbeats(self, silent: set[str], lost: frozenset[int], phase: Phase, ready: bool) -> None:
        """Nodes live and name the attempts that they hold, but for some."""
        for name in sorted(set(NODES) - silent):
            self.heartbeat(name, lost, phase, ready)

    def heartbeat(self, name: str, lost: frozenset[int], phase: Phase, ready: bool) -> None:
        """One of these heartbeats."""
        node = Node.objects.get(name=name)
        known = [order for number, order in enumerate(self.held[name].values()) if number not in lost]
        reply = nodes.heartbeat(node, given.a_beat(node, *known, phase=phase, ready=ready), self.now)
        for stale in reply.stale:
            assert not Attempt.objects.filter(id=stale, state=AttemptState.RUNNING, session=node.session).exists()
            del self.held[name][stale]

    @rule(name=names, lost=holes)
    def restart(self, name: str, lost: frozenset[int]) -> None:
        """A node's agent starts anew and finds its containers, but for some."""
        self.hello(name, [attempt for number, attempt in enumerate(self.held[name]) if number not in lost])

    @precondition(lambda self: self.orders)
    @rule(some=st.lists(st.tuples(numbers, evidence), min_size=1, max_size=3), live=mostly, phase=phases)
    def report(self, some: list[tuple[int, dict[str, Any]]], live: bool, phase: Phase) -> None:
        """Nodes tell of a phase and the end, perhaps long after the attempt was given up, and more than once."""
        for number, saw in some:
            self.tell(number, live, phase, saw)

    def tell(self, number: int, live: bool, phase: Phase, saw: dict[str, Any]) -> None:
        """One of these reports."""
        going_on = [(name, order) for name, held in self.held.items() for order in held.values()]
        known = going_on if live and going_on else self.orders
        name, order = known[number % len(known)]
        node = Node.objects.get(name=name)
        running = Attempt.objects.filter(id=order.attempt, state=AttemptState.RUNNING).exists()
        with contextlib.nullcontext() if running else pytest.raises(Stale):
            nodes.report_phase(node, order.attempt, order.token, phase, self.now)
        with contextlib.nullcontext() if running else pytest.raises(Stale):
            given.finished(order, node, self.now, **saw)
        assert Attempt.objects.get(id=order.attempt).state == AttemptState.ENDED
        self.held[name].pop(order.attempt, None)

    @precondition(lambda self: self.orders)
    @rule(number=numbers)
    def forge(self, number: int) -> None:
        """Words with a wrong token, session or node change nothing."""
        name, order = self.orders[number % len(self.orders)]
        node, other = Node.objects.get(name=name), Node.objects.exclude(name=name)[0]
        nonce = Attempt.objects.values_list("nonce", flat=True).get(id=order.attempt)
        with pytest.raises(Stale):
            nodes.take(other, order.attempt, other.session, nonce, self.now)
        for teller, token in ((node, "guessed"), (other, order.token)):
            with pytest.raises(Stale):
                given.finished(order.model_copy(update={"token": token}), teller, self.now)
        with pytest.raises(Conflict):
            nodes.heartbeat(node, given.a_beat(node, session="old"), self.now)

    # ----------------------------------------------------------------------------------- moves that meet each other
    @precondition(lambda self: Attempt.objects.exists())
    @rule(
        number=numbers,
        live=mostly,
        meanwhile=st.data(),
        act=st.sampled_from(["lost", "lost", "end", "end", "returned", "start"]),
    )
    def act_late(self, number: int, live: bool, meanwhile: st.DataObject, act: str) -> None:
        """A process reads an attempt and is slow: another one moves it, and the first acts on what it saw."""
        rows = Attempt.objects.select_related("node", "task").order_by("-id")
        if live and not rows.exclude(state=AttemptState.ENDED).exists():
            self.time_passes(4, "one", set(), goes_on=True)
        known = list(rows.exclude(state=AttemptState.ENDED)) if live else []
        known = known or list(rows)
        seen = known[number % len(known)]
        other = meanwhile.draw(st.sampled_from(["cancel", "cancel", "start", "lost", "nothing"]), label="meanwhile")
        if other == "cancel":
            records.cancel(Task.objects.get(id=seen.task_id), by="ada", reason="", now=self.now)
        elif other != "nothing":
            self.act(other, rows.get(id=seen.id))
        state = Attempt.objects.get(id=seen.id).state
        done = self.act(act, seen)
        if act in ("lost", "end"):
            assert done == (state != AttemptState.ENDED)
        else:
            assert done == (state == AttemptState.ASSIGNED) or seen.task.cancel_requested_at is not None

    def act(self, act: str, seen: Attempt) -> bool:
        """Move an attempt by the row that the caller has in its hands; whether it was moved."""
        if act == "start":
            return records.start(seen, seen.node.session, self.now, conf().lease_seconds, conf().staging_seconds)
        if act == "returned":
            return ending.returned(seen, "it was not taken up", self.now)
        if act == "lost":
            return ending.lost(seen, "it was not heard of", self.now)
        with transaction.atomic():
            return ending.judged(seen, judge(Evidence(exit_code=1), Usage(), Limits(), ()), {"exit_code": 1}, self.now)

    @invariant()
    def promises(self) -> None:
        self.watch.check()

    def heal(self) -> None:
        """A healthy grid brings everything to its end; nothing waits for somebody who is not there."""
        self.publisher.broken = False
        for _ in range(200):
            if not Task.objects.exclude(state__in=FINAL_STATES).exists():
                break
            self.healthy_round()
        self.watch.check()
        left = Task.objects.exclude(state__in=FINAL_STATES).values_list("id", "state", "attempts_made", "avoid")
        assert not left, list(left)

    def healthy_round(self) -> None:
        """The nodes live, the dispatcher acts, and what was placed is run to its end."""
        self.now = given.later(self.now, 20)
        for node in Node.objects.all():
            nodes.heartbeat(node, given.a_beat(node), self.now)
        if not self.dispatchers["one"].lead(self.now):
            return
        self.reconcilers["one"].tick(self.now)
        self.reconcilers["one"].cancels(self.now)
        self.dispatchers["one"].dispatch(lambda: self.now)
        for attempt in self.publisher.sent:
            node = Node.objects.get(pk=attempt.node_id)
            with contextlib.suppress(Stale):
                given.finished(nodes.take(node, attempt.id, node.session, attempt.nonce, self.now), node, self.now)
        self.publisher.sent = []


@pytest.mark.timeout(0 if SOAK else 120)
def test_whatever_happens_the_promises_hold_and_every_task_ends(settings: LazySettings) -> None:
    settings.GRID = settings.GRID.model_copy(update={"licences": LICENCES})
    # A statement costs PostgreSQL twice the time, and the moves are the same: there half as many stories.
    few = connection.vendor == "postgresql" and not SOAK
    stories = hypothesis_settings(STORIES, max_examples=EXAMPLES // 2) if few else STORIES
    run_state_machine_as_test(Grid, settings=stories)
