"""The agent of a node: takes attempts up, keeps their leases, ends them when told, adopts those of a former start."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Collection
from uuid import uuid4

from nodes.attempt import AttemptFolder, Running, folders_in
from nodes.config import NodeConfig, OnStop
from nodes.health import Health
from nodes.journal import event
from nodes.leases import Leases
from nodes.logs import LogFiles
from nodes.reporter import Reporter
from nodes.runner import Runner
from nodes.server import Server
from nodes.spool import Spool
from tasks.errors import Conflict, GridError, NodeFault, NotAllowed, NotFound, Refused, Stale, Unavailable
from tasks.order import Heartbeat, HeartbeatReply, Hello, Order, WaitingOrder, Welcome
from tasks.outcome import Evidence, NodeFaultEvidence, Outcome
from tasks.states import Phase, StopCause

# Until the server has said how long leases are, attempts of a former start may go on for this long.
FIRST_LEASE_SECONDS = 30.0
# How long containers may take to be gone when the node ends them.
END_SECONDS = 5.0
# How long a closing node waits until the server has heard of it.
FAREWELL_SECONDS = 2.0
CLOSING = "it is shutting down"
HELLO_PAUSES_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
_TICK_SECONDS = 0.5
# It becomes part of addresses and of paths, and whoever reaches the broker can write messages.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)

_log = logging.getLogger(__name__)


class Agent:
    """One node at work; thread-safe.

    ``on_fatal(reason)`` is called once when the node must not go on, ``on_unread()`` whenever an order has to be taken
    up whose message was not read.
    """

    def __init__(
        self,
        config: NodeConfig,
        server: Server,
        runner: Runner,
        health: Health,
        on_fatal: Callable[[str], None],
        on_unread: Callable[[], None] = lambda: None,
    ) -> None:
        self.session = uuid4().hex
        self._config = config
        self._server = server
        self._runner = runner
        self._health = health
        self._on_fatal = on_fatal
        self._on_unread = on_unread
        self._leases = Leases()
        self._reporter = Reporter(server, Spool(config.spool), self._settled)
        self._welcome: Welcome | None = None
        self._refusing = threading.Event()
        self._farewell = threading.Event()
        self._closing = threading.Event()
        self._nudge = threading.Event()
        self._hurry = threading.Event()
        self._active = 0
        self._idle = threading.Condition()
        self._beats = threading.Thread(target=self._beat_loop, name="heartbeat", daemon=True)

    # ------------------------------------------------------------------------------------------------------ joining

    def join(self) -> Welcome:
        """Go on with what a former start left, sweep the rest away, and join the grid; tries until the server answers.

        Raises ``Refused`` when the server does not want this node.
        """
        self._recover()
        for tries in range(1_000_000):
            try:
                welcome = self._hello()
                break
            except Unavailable as error:
                _log.warning(event("hello_later", message=str(error)))
                self._end_lapsed(time.monotonic())
                if self._closing.wait(HELLO_PAUSES_SECONDS[min(tries, len(HELLO_PAUSES_SECONDS) - 1)]):
                    raise
        self._runner.start()
        self._reporter.start()
        self._health.start()
        self._beats.start()
        return welcome

    def _hello(self) -> Welcome:
        held = self._leases.attempts()
        sent = time.monotonic()
        welcome = self._server.hello(
            Hello(session=self.session, home=self._config.home, facts=self._health.facts(), adopted=held)
        )
        if self._welcome is not None and welcome.broker_url != self._welcome.broker_url:
            self._fatal("the server has moved to another broker; start the node again")
        self._welcome = welcome
        self._leases.renew_all(sent, without=welcome.drop)
        self._lose(welcome.drop, "the server has given it to another node")
        _log.info(event("joined", node=welcome.node, adopted=len(held), dropped=len(welcome.drop)))
        return welcome

    def _recover(self) -> None:
        now = time.monotonic()
        for entry in self._reporter.pending():
            self._leases.hold(entry.outcome.attempt, entry.outcome.token, None, now)
        found: list[Running] = []
        for folder in folders_in(self._config.attempts):
            order = folder.order()
            if order is not None and self._leases.claim(order.attempt):
                running = Running(order, folder, now)
                self._leases.hold(order.attempt, order.token, running, now)
                found.append(running)
        for running in found:
            self._runner.adopt(running)
        self._runner.sweep(self._leases.attempts(), running=[running.attempt for running in found])
        for running in found:
            _log.info(event("adopted", attempt=running.attempt, task=running.order.task))
            threading.Thread(target=self._work_on, args=(running,), name=running.attempt, daemon=True).start()

    # ------------------------------------------------------------------------------------------------------ attempts

    def work(self, attempt: str, nonce: str) -> dict[str, object]:
        """Run one attempt from its order to its report and say in a few words what became of it.

        A repeated, forged or late message does nothing. Raises ``GridError`` when the order cannot be had.
        """
        if not _ID.fullmatch(attempt):
            _log.warning(event("ignored", message="a message with something that is not the id of an attempt"))
            return {"ignored": "not the id of an attempt"}
        if self._refusing.is_set() or not self._leases.claim(attempt):
            _log.info(event("ignored", attempt=attempt, message="it is or was here, or the node is closing"))
            return {"ignored": "it is or was here, or the node is closing"}
        asked = time.monotonic()
        try:
            order = self._server.take(attempt, self.session, nonce)
            folder = self._keep(order)
        except (Stale, NotFound) as error:
            self._leases.release(attempt)
            _log.warning(event("ignored", attempt=attempt, message=str(error)))
            return {"ignored": str(error)}
        except BaseException:
            self._leases.release(attempt)
            raise
        running = Running(order, folder, time.monotonic())
        self._leases.hold(attempt, order.token, running, asked)
        _log.info(event("taken", attempt=attempt, task=order.task, seconds=time.monotonic() - asked))
        return self._work_on(running)

    def _keep(self, order: Order) -> AttemptFolder:
        """Write an order down; when the disk is full, the server hears of it at once and tries elsewhere."""
        folder = AttemptFolder(self._config.attempts / order.attempt)
        try:
            folder.keep(order)
        except OSError as error:
            folder.remove()
            fault = NodeFaultEvidence(kind="node_disk", message=f"cannot write into {folder.path}: {error.strerror}")
            self._server.report(Outcome(attempt=order.attempt, token=order.token, evidence=Evidence(fault=fault)))
            self._health.look_now()
            raise NodeFault(fault.kind, fault.message) from error
        return folder

    def _work_on(self, running: Running) -> dict[str, object]:
        order = running.order
        logs = LogFiles(order.attempt, order.token, {})
        with self._idle:
            self._active += 1
        try:
            entry = self._runner.run(running, logs)
            if entry is None:
                _log.warning(event("lease_lost", attempt=order.attempt, task=order.task, message=running.stop.reason))
                self._leases.give_up(order.attempt)
                self._runner.clean(order.attempt)
                return {"lost": running.stop.reason}
            running.enter(Phase.UPLOADING, time.monotonic())
            self._leases.ended(order.attempt)
            reported = self._reporter.report(entry, logs)
            evidence = entry.outcome.evidence
            fault = evidence.fault.kind if evidence.fault else None
            return {"exit_code": evidence.exit_code, "fault": fault, "stopped": evidence.stopped, "reported": reported}
        finally:
            with self._idle:
                self._active -= 1
                self._idle.notify_all()

    def knows(self, attempt: str) -> bool:
        """Whether the attempt is here: what there is of any other was left behind."""
        return self._leases.knows(attempt)

    def cancel(self, attempt: str, reason: str) -> bool:
        """End a running attempt; False when it does not run here, or is being ended already."""
        return any(
            running.stop.request(StopCause.CANCELLED, reason) for running in self._leases.running(frozenset((attempt,)))
        )

    def _settled(self, attempt: str) -> None:
        """The server wants nothing more to do with ``attempt``: clean up in the background."""
        self._leases.release(attempt)
        self._runner.clean(attempt)

    def _lose(self, attempts: Collection[str], why: str) -> None:
        for running in self._leases.running(attempts):
            running.stop.request(StopCause.LEASE_LOST, why)
        if attempts:
            # Those that have ended already: the server will refuse their outcomes, which settles them.
            self._reporter.wake()

    # ---------------------------------------------------------------------------------------------------- heartbeats

    def _beat_loop(self) -> None:
        due = time.monotonic()
        while not self._closing.is_set():
            self._nudge.wait(min(_TICK_SECONDS, self._heartbeat_seconds / 2))
            self._nudge.clear()
            now = time.monotonic()
            unsaid = self._refusing.is_set() and not self._farewell.is_set()
            if now >= due or unsaid or self._leases.untold(now) or self._health.changed:
                self._beat(now)
                due = now + self._heartbeat_seconds
            self._end_lapsed(time.monotonic())

    def _beat(self, now: float) -> None:
        pulses = self._leases.pulses()
        state = self._health.state()
        leaving = self._refusing.is_set()
        problem = CLOSING if leaving else state.problem
        beat = Heartbeat(
            session=self.session,
            attempts=pulses,
            ready=not problem,
            not_ready_reason=problem,
            images=state.new_images,
            registry=state.new_registry,
            details=state.new_details,
            foreign=state.foreign,
        )
        try:
            reply = self._server.heartbeat(beat, timeout_seconds=max(self._heartbeat_seconds, 1.0))
        except Unavailable as error:
            _log.warning(event("heartbeat_unanswered", message=str(error)))
        except Conflict as error:
            self._fatal(f"another node agent has joined under this name: {error}")
        except Refused as error:
            _log.error(event("heartbeat_refused", message=str(error)))
        else:
            self._health.told(state)
            if leaving:
                self._farewell.set()
            self._leases.renew([pulse for pulse in pulses if pulse.attempt not in reply.stale], now)
            self._obey(reply)

    def _obey(self, reply: HeartbeatReply) -> None:
        for order in reply.cancel:
            if self.cancel(order.attempt, order.reason):
                _log.info(event("cancelled", attempt=order.attempt, message=order.reason))
        self._take_up([order for order in reply.waiting if not self._leases.knows(order.attempt)])
        for order in reply.hand_back:
            self._hand_back((order.attempt,), order.reason)
        self._lose(reply.stale, "the server says that it is no longer this node's")
        if reply.hello:
            try:
                self._hello()
            except (Unavailable, NotAllowed) as error:
                _log.warning(event("hello_later", message=str(error)))

    def _take_up(self, orders: Collection[WaitingOrder]) -> None:
        """Work on what the server had to name itself, because its message did not come."""
        for order in orders:
            _log.warning(event("unread", attempt=order.attempt, message="the broker's message for it did not come"))
            args = (order.attempt, order.nonce)
            threading.Thread(target=self._work_unread, args=args, name=order.attempt, daemon=True).start()
        if orders:
            self._on_unread()

    def _work_unread(self, attempt: str, nonce: str) -> None:
        try:
            self.work(attempt, nonce)
        except GridError as error:  # the next heartbeat's answer names it again
            _log.warning(event("not_taken", attempt=attempt, message=str(error)))

    def _end_lapsed(self, now: float) -> None:
        for running in self._leases.lapsed(now, self._lease_seconds):
            if running.stop.request(StopCause.LEASE_LOST, f"no word from the server for {self._lease_seconds:g} s"):
                _log.warning(event("lease_lapsed", attempt=running.attempt, task=running.order.task))

    # ------------------------------------------------------------------------------------------------------- leaving

    def close_door(self) -> None:
        """Take nothing up any more, and tell the server so; what runs goes on, and so do the heartbeats for it."""
        self._refusing.set()
        self._nudge.set()

    def shut_down(self, seconds: float) -> bool:
        """Wait at most ``seconds`` for what runs; True when nothing is left running here.

        What is left goes on in its containers, to be adopted by the next start within the lease; or, as the
        configuration has it, it is ended now and handed back, and the server tries it elsewhere at once.
        """
        self.close_door()
        if self._beats.is_alive():
            # Before anything is handed back: it must not be sent here again.
            self._farewell.wait(FAREWELL_SECONDS)
        idle = self._wait_idle(seconds, self._hurry)
        if not idle and self._config.on_stop is not OnStop.KEEP:
            self._hand_back(self._leases.attempts(), CLOSING)
            idle = self._wait_idle(END_SECONDS)
        self._closing.set()
        self._nudge.set()
        self._reporter.close()
        self._health.close()
        self._runner.close()
        _log.info(event("closed", left_running=self._active))
        return idle

    def hurry(self) -> None:
        """Somebody does not want to wait for what runs: shut down as if the time for it was over."""
        with self._idle:
            self._hurry.set()
            self._idle.notify_all()

    def _wait_idle(self, seconds: float, unless: threading.Event | None = None) -> bool:
        """Wait until nothing runs here, at most so long, or until ``unless`` is set; True when nothing runs."""
        with self._idle:
            self._idle.wait_for(lambda: self._active == 0 or (unless is not None and unless.is_set()), seconds)
            return self._active == 0

    def _hand_back(self, attempts: Collection[str], why: str) -> None:
        """End attempts so that they are tried elsewhere; those whose program has ended are on their way home."""
        for running in self._leases.running(attempts):
            if running.stop.request(StopCause.HANDED_BACK, why):
                _log.info(event("handed_back", attempt=running.attempt, task=running.order.task, message=why))

    def _fatal(self, reason: str) -> None:
        _log.critical(event("fatal", message=reason))
        # Nobody listens to this session any more.
        self._farewell.set()
        for running in self._leases.running():
            running.stop.request(StopCause.LEASE_LOST, reason)
        self._on_fatal(reason)

    @property
    def _lease_seconds(self) -> float:
        return self._welcome.lease_seconds if self._welcome else FIRST_LEASE_SECONDS

    @property
    def _heartbeat_seconds(self) -> float:
        return self._welcome.heartbeat_seconds if self._welcome else FIRST_LEASE_SECONDS / 3
