"""The operator's verbs on nodes, through the records, the API and the page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from grid.core import fleet, locks, nodes, outcomes, records, snapshot
from grid.core.broker.publisher import Publisher
from grid.core.conf import conf
from grid.core.dispatcher import LOCK_SECONDS, Dispatcher
from grid.core.models import Attempt, Node, Task, Token
from grid.core.people import tokens
from grid.core.people.tokens import Scope
from grid.core.reading import explain
from grid.core.reconciler import Reconciler
from grid.core.upkeep import doctor
from grid.core.wake import DISPATCHER
from tasks.errors import Conflict, NotAllowed, NotFound, SpecError
from tasks.states import NodeMode, Phase, StopCause
from tasks.views import Finding, Level
from tests.django import builders as given
from tests.django import doors

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
NOBODY = "redis://127.0.0.1:1/0"
"""A broker that is not there: nothing here needs one."""


def tick(now: datetime) -> None:
    """One look of the reconciler at everything that could be late."""
    publisher = Publisher(NOBODY)
    dispatcher = Dispatcher(conf(), publisher, "test", "")
    assert dispatcher.lead(now)
    Reconciler(conf(), dispatcher, publisher).tick(now)


def drained(now: datetime, seconds: float | None) -> None:
    """Node alpha is being drained by root, for a new disk."""
    until = None if seconds is None else given.later(now, seconds)
    fleet.drain("alpha", by="root", reason="new\ndisk", now=now, until=until)


@pytest.fixture
def root() -> Client:
    """An operator's program."""
    return doors.api_of(given.a_user("root", staff=True), *doors.EVERY_SCOPE)


class TestModes:
    @pytest.mark.parametrize(
        ("verb", "mode", "words"),
        [
            (fleet.cordon, NodeMode.CORDONED, "it is cordoned by root: new disk"),
            (fleet.drain, NodeMode.DRAINING, "it is being drained by root: new disk"),
        ],
    )
    def test_a_node_that_takes_nothing_says_who_when_and_why(
        self, verb: Callable[..., Node], mode: NodeMode, words: str
    ) -> None:
        given.a_node(NOW)
        task = given.a_task(NOW)
        verb("alpha", by="root", reason="new disk", now=NOW)
        (status,) = nodes.status(NOW)
        assert (status.mode, status.mode_by, status.mode_at, status.mode_reason) == (mode, "root", NOW, "new disk")
        assert (status.ready, status.online, status.not_ready_reason) == (False, True, words)
        (why,) = explain.explain(task, NOW).nodes
        assert not why.fits_now
        assert why.reasons == (f"is not ready: {words}",)

        fleet.resume("alpha", by="ada", reason="", now=NOW)
        (status,) = nodes.status(NOW)
        assert (status.mode, status.mode_by, status.ready) == (NodeMode.OPEN, "ada", True)

    def test_the_mode_outlives_a_restart_of_the_agent(self) -> None:
        given.a_node(NOW)
        fleet.cordon("alpha", by="root", reason="", now=NOW)
        given.a_node(given.later(NOW, 1))
        assert nodes.status(NOW)[0].mode is NodeMode.CORDONED

    def test_an_order_that_was_not_taken_up_is_taken_back_at_no_charge(self) -> None:
        node, task = given.a_node(NOW), given.a_task(NOW)
        attempt = given.assigned(task, node, NOW)
        fleet.cordon("alpha", by="root", reason="", now=NOW)
        tick(NOW)
        attempt.refresh_from_db()
        task.refresh_from_db()
        assert (attempt.state, attempt.verdict) == ("ended", "handed_back")
        assert attempt.reason == "node alpha takes nothing new: it is cordoned by root"
        assert (task.state, task.avoid) == ("queued", [])

    def test_what_is_taken_back_after_its_time_to_start_ends_in_the_same_look(self) -> None:
        node, task = given.a_node(NOW), given.a_task(NOW, expires="5s")
        given.assigned(task, node, NOW)
        fleet.cordon("alpha", by="root", reason="", now=NOW)
        tick(given.later(NOW, 6))
        task.refresh_from_db()
        assert (task.state, task.verdict) == ("expired", "expired")

    def test_there_is_no_such_node(self) -> None:
        for verb in (fleet.cordon, fleet.drain, fleet.resume):
            with pytest.raises(NotFound, match='no node "alpha"'):
                verb("alpha", by="root", reason="", now=NOW)


class TestDraining:
    def test_without_a_deadline_what_runs_goes_on(self) -> None:
        _, attempt, order = given.running(NOW)
        drained(NOW, None)
        reply = nodes.heartbeat(fleet.find("alpha"), given.a_beat(attempt.node, order), given.later(NOW, 20))
        assert (reply.hand_back, reply.cancel, reply.stale) == ((), (), ())
        assert not nodes.status(NOW)[0].drained
        given.finished(order, attempt.node, NOW)
        assert nodes.status(NOW)[0].drained

    def test_after_the_deadline_the_node_is_told_what_to_hand_back(self) -> None:
        _, attempt, order = given.running(NOW)
        drained(NOW, 10)
        beat = given.a_beat(attempt.node, order)
        assert nodes.heartbeat(fleet.find("alpha"), beat, given.later(NOW, 9)).hand_back == ()
        (told,) = nodes.heartbeat(fleet.find("alpha"), beat, given.later(NOW, 10)).hand_back
        assert (told.attempt, told.reason) == (attempt.id, "it is being drained by root: new disk")

    def test_what_is_handed_back_queues_again_as_if_nothing_had_been(self) -> None:
        task, attempt, order = given.running(NOW)
        back = given.an_outcome(order, stopped=StopCause.HANDED_BACK, stop_reason="it is being drained by root")
        outcomes.accept(attempt.node, back, NOW)
        task.refresh_from_db()
        attempt.refresh_from_db()
        assert (attempt.verdict, attempt.verdict_class) == ("handed_back", "infrastructure")
        assert attempt.reason == "the node gave the task back before it had ended: it is being drained by root"
        assert (task.state, task.avoid, task.not_before) == ("queued", [], None)

    def test_however_often_it_counts_for_nothing(self) -> None:
        node, task = given.a_node(NOW), given.a_task(NOW)
        for _ in range(5):
            order = given.taken(given.assigned(task, node, NOW), NOW)
            given.finished(order, node, NOW, stopped=StopCause.HANDED_BACK)
        order = given.taken(given.assigned(task, node, NOW), NOW)
        given.finished(order, node, NOW, fault={"kind": "staging", "message": "once"})
        task.refresh_from_db()
        assert (task.state, task.avoid) == ("waiting", ["alpha"])
        # As after the first fault: a second, and up to a tenth of it by chance.
        assert task.not_before is not None
        assert given.later(NOW, 1) <= task.not_before <= given.later(NOW, 1.1)
        assert task.attempts_made == 6

    def test_what_somebody_cancelled_is_not_tried_again(self) -> None:
        task, attempt, order = given.running(NOW)
        records.cancel(task, by="ada", reason="typo", now=NOW)
        given.finished(order, attempt.node, NOW, stopped=StopCause.HANDED_BACK)
        task.refresh_from_db()
        assert (task.state, task.reason) == ("cancelled", "cancelled by ada: typo")

    def test_a_node_that_hands_nothing_back_is_given_up_on(self) -> None:
        task, attempt, order = given.running(NOW)
        drained(NOW, 0)
        patience = conf().cancel_grace_seconds + conf().heartbeat
        for seconds, state in ((patience - 1, "running"), (patience, "waiting")):
            moment = given.later(NOW, seconds)
            beat = given.a_beat(attempt.node, order, phase=Phase.STAGING)
            nodes.heartbeat(fleet.find("alpha"), beat, moment)
            tick(moment)
            task.refresh_from_db()
            assert task.state == state
        attempt.refresh_from_db()
        assert attempt.reason == "node alpha is being drained and did not hand the task back"

    def test_a_program_that_has_ended_may_bring_its_results_home(self) -> None:
        task, attempt, order = given.running(NOW)
        drained(NOW, 0)
        moment = given.later(NOW, 60)
        nodes.heartbeat(fleet.find("alpha"), given.a_beat(attempt.node, order, phase=Phase.UPLOADING), moment)
        tick(moment)
        task.refresh_from_db()
        assert task.state == "running"


class TestJoining:
    def test_one_request_makes_a_node_and_a_token_that_opens_its_side(self, root: Client) -> None:
        answer = root.post("/api/v1/nodes", {"name": "lab-7"}, content_type="application/json")
        assert answer.status_code == 201
        assert answer.json()["name"] == "lab-7"
        node = Client(headers={"authorization": f"Bearer {answer.json()['token']}"})
        hello = {"session": "s", "facts": given.facts().model_dump(mode="json")}
        assert node.post("/api/v1/node/hello", hello, content_type="application/json").json()["queue"] == "node.lab-7"
        assert node.get("/api/v1/tasks").status_code == 403

    def test_a_node_that_has_not_joined_is_listed(self, root: Client) -> None:
        root.post("/api/v1/nodes", {"name": "lab-7"}, content_type="application/json")
        status = root.get("/api/v1/nodes/lab-7").json()
        assert (status["online"], status["not_ready_reason"]) == (False, "it has never joined")

    @pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "ä", "a" * 64, "../x"])
    def test_a_name_that_cannot_be_one_is_refused(self, root: Client, name: str) -> None:
        answer = root.post("/api/v1/nodes", {"name": name}, content_type="application/json")
        assert answer.status_code == 422
        assert "write letters, digits" in answer.json()["faults"][0]["message"]
        assert not Node.objects.exists()
        if name and not name.startswith("-"):
            with pytest.raises(CommandError, match="write letters, digits"):
                call_command("createtoken", "root", "--node", name)

    def test_a_second_one_of_a_name_is_refused_and_a_new_token_ends_the_old(self) -> None:
        by = given.a_user("root", staff=True)
        _, old = fleet.add("lab", by=by, renew=False, now=NOW)
        with pytest.raises(Conflict, match="a node lab already"):
            fleet.add("lab", by=by, renew=False, now=NOW)
        _, new = fleet.add("lab", by=by, renew=True, now=NOW)
        assert tokens.authenticate(new, NOW).node == fleet.find("lab")
        with pytest.raises(NotAllowed):
            tokens.authenticate(old, NOW)

    def test_only_an_empty_node_is_removed_and_then_its_token_opens_nothing(self) -> None:
        by = given.a_user("root", staff=True)
        task, attempt, order = given.running(NOW)
        _, clear = fleet.add("alpha", by=by, renew=True, now=NOW)
        with pytest.raises(Conflict, match="not empty"):
            fleet.remove("alpha", by="root", now=NOW)
        assert tokens.authenticate(clear, NOW).node == attempt.node
        assert snapshot.online(fleet.find("alpha"), NOW)

        given.finished(order, attempt.node, NOW)
        fleet.remove("alpha", by="root", now=NOW)
        assert nodes.status(NOW) == []
        assert snapshot.nodes(NOW, 0) == ()
        with pytest.raises(NotAllowed):
            tokens.authenticate(clear, NOW)
        with pytest.raises(NotFound):
            fleet.remove("alpha", by="root", now=NOW)
        assert Attempt.objects.get(task=task).node.name == "alpha"

    def test_a_removed_node_can_come_again(self) -> None:
        by = given.a_user("root", staff=True)
        given.a_node(NOW)
        fleet.cordon("alpha", by="root", reason="old", now=NOW)
        fleet.remove("alpha", by="root", now=NOW)
        fleet.add("alpha", by=by, renew=False, now=NOW)
        assert given.a_node(NOW).mode == NodeMode.OPEN
        assert nodes.status(NOW)[0].ready

    def test_a_name_of_nobody_is_no_name(self) -> None:
        with pytest.raises(SpecError):
            fleet.enlist("no spaces", NOW)


class TestTokens:
    def test_a_revoked_token_opens_nothing_and_its_text_is_never_listed(self) -> None:
        ada = given.a_user()
        clear = doors.a_token(ada, Scope.READ)
        listed = doors.api_of(ada).get("/api/v1/tokens")
        assert clear not in listed.content.decode()
        [_, first] = listed.json()["items"]
        assert "hash" not in first
        number = first["id"]
        reader = Client(headers={"authorization": f"Bearer {clear}"})
        assert reader.get("/api/v1/whoami").status_code == 200
        assert doors.api_of(ada).delete(f"/api/v1/tokens/{number}").status_code == 204
        assert reader.get("/api/v1/whoami").status_code == 401

    def test_operators_see_those_of_everybody_and_of_nodes(self, root: Client) -> None:
        ada = given.a_user()
        doors.api_of(ada)
        fleet.add("lab", by=ada, renew=False, now=NOW)
        found = {(one["owner"], one["node"]) for one in root.get("/api/v1/tokens").json()["items"]}
        assert found == {("root", ""), ("ada", ""), ("ada", "lab")}
        assert Token.objects.count() == 3


class TestPage:
    def test_operators_have_buttons_and_others_have_none(self) -> None:
        given.a_node(timezone.now())
        staff, ada = doors.browser_of(given.a_user("root", staff=True)), doors.browser_of(given.a_user())
        assert "/nodes/alpha/drain/" in staff.get("/nodes/").content.decode()
        assert "/nodes/alpha/drain/" not in ada.get("/nodes/").content.decode()
        assert ada.post("/nodes/alpha/drain/").status_code == 403
        assert fleet.find("alpha").mode == NodeMode.OPEN

    def test_a_drain_is_shown_with_who_and_why_until_it_is_over(self) -> None:
        given.running(timezone.now())
        staff = doors.browser_of(given.a_user("root", staff=True))
        assert staff.post("/nodes/alpha/drain/", {"reason": "new <disk>", "minutes": "10"}).status_code == 302
        page = staff.get("/nodes/").content.decode()
        assert ">draining</span>" in page
        assert "it is being drained by root: new &lt;disk&gt;" in page
        assert "what still runs is ended at" in page
        node = fleet.find("alpha")
        assert node.drain_until is not None
        assert node.mode_at is not None
        assert (node.drain_until - node.mode_at).total_seconds() == pytest.approx(600)

        Task.objects.all().delete()
        assert ">drained</span>" in staff.get("/nodes/").content.decode()
        staff.post("/nodes/alpha/cordon/", {})
        assert ">cordoned</span>" in staff.get("/nodes/").content.decode()
        staff.post("/nodes/alpha/resume/", {})
        assert ">ready</span>" in staff.get("/nodes/").content.decode()

    def test_what_makes_no_sense_changes_nothing(self) -> None:
        given.a_node(timezone.now())
        staff = doors.browser_of(given.a_user("root", staff=True))
        assert staff.post("/nodes/alpha/explode/").status_code == 404
        assert staff.post("/nodes/nobody/drain/").status_code == 404
        assert staff.post("/nodes/alpha/drain/", {"minutes": "soon"}).status_code == 302
        assert "Enter a number" in staff.get("/nodes/").content.decode()
        assert fleet.find("alpha").mode == NodeMode.OPEN
        browser = doors.browser_of(given.a_user("root", staff=True), csrf=True)
        assert browser.post("/nodes/alpha/drain/").status_code == 403


class TestDoctor:
    def found(self, now: datetime = NOW) -> dict[str, Finding]:
        """The findings by name."""
        conf().dir.mkdir(parents=True, exist_ok=True)
        return {one.name: one for one in doctor.examine(now)}

    def test_a_grid_without_anything_fails_with_what_to_do(self) -> None:
        found = self.found()
        assert found["database"].level is Level.PASS
        assert (found["dispatcher"].level, found["dispatcher"].hint) == (
            Level.FAIL,
            "start one: manage.py rundispatcher",
        )
        assert (found["nodes"].level, found["nodes"].hint) == (Level.FAIL, "grid node add NAME")
        assert found["broker"].level in (Level.PASS, Level.FAIL)
        assert found["disk"].level in (Level.PASS, Level.WARN, Level.FAIL)

    def test_a_dispatcher_and_a_node_that_work(self) -> None:
        given.a_node(NOW)
        locks.acquire(DISPATCHER, "host:1", "", now=NOW, seconds=LOCK_SECONDS)
        found = self.found()
        assert found["dispatcher"].detail == "host:1 acts (number 1 in this role)"
        assert (found["nodes"].level, found["nodes"].detail) == (Level.PASS, "1 of 1 take tasks")
        assert "clock-dispatcher" not in found
        assert "host:1" in self.found(given.later(NOW, 11))["dispatcher"].detail
        assert self.found(given.later(NOW, -3600))["clock-dispatcher"].level is Level.FAIL

    def test_each_node_that_takes_nothing_has_a_line_with_what_to_do(self) -> None:
        given.a_node(NOW)
        node = given.a_node(NOW, "beta")
        beat = given.a_beat(node, ready=False, not_ready_reason="only 3 MiB are free")
        nodes.heartbeat(node, beat, NOW)
        fleet.enlist("gamma", NOW)
        fleet.cordon("alpha", by="root", reason="", now=NOW)
        found = self.found()
        assert found["node alpha"].hint == "when that is over: grid node resume alpha"
        assert (found["node beta"].level, found["node beta"].detail) == (Level.FAIL, "only 3 MiB are free")
        assert (found["node gamma"].level, found["node gamma"].detail) == (Level.WARN, "it has never joined")
        assert found["nodes"].detail == "0 of 3 take tasks"
        late = self.found(given.later(NOW, 3600))
        assert "does its agent run" in late["node beta"].hint

    def test_deadlines_that_nobody_enforces(self) -> None:
        given.running(NOW)
        assert self.found()["deadlines"].level is Level.PASS
        assert self.found(given.later(NOW, 60))["deadlines"].level is Level.FAIL

    def test_operators_ask_for_it_over_http(self, root: Client) -> None:
        answer = root.get("/api/v1/doctor").json()
        assert {"database", "broker", "dispatcher", "nodes"} <= {one["name"] for one in answer["findings"]}
        assert answer["version"]
