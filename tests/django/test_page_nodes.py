"""The pages of nodes: what each has and runs, how busy it was, the operator's buttons, the command to join."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from grid.core.models import Node, NodeSample, Token
from grid.core.people import tokens
from grid.core.upkeep import heat
from grid.core.upkeep.heat import KEPT, SLICE, Moment, Sampler, slice_of
from tests.django import builders as given
from tests.django import doors

pytestmark = pytest.mark.django_db


@pytest.fixture
def now() -> datetime:
    return timezone.now()


@pytest.fixture
def noon() -> datetime:
    """A moment at which ten minutes begin."""
    return slice_of(timezone.now())


class TestHistory:
    def test_a_sample_is_the_mean_of_a_look_each_minute(self, noon: datetime) -> None:
        sampler = Sampler()
        node = given.a_node(noon)
        assert sampler.step(noon) == 1
        given.assigned(given.a_task(noon, limits={"cpus": 2, "memory": "1G"}), node, noon)
        assert sampler.step(noon + timedelta(seconds=30)) == 0
        assert sampler.step(noon + timedelta(seconds=60)) == 1
        Node.objects.update(lease_until=noon)
        sampler.step(noon + timedelta(seconds=120))
        sampler.step(noon + timedelta(seconds=180))

        sample = NodeSample.objects.get()
        assert (sample.at, sample.looks) == (noon, 4)
        assert (sample.online, sample.running, sample.cpus, sample.memory) == (0.25, 0.75, 0.375, 0.0938)

    def test_the_next_ten_minutes_have_a_row_of_their_own_and_old_ones_go(self, noon: datetime) -> None:
        node, sampler = given.a_node(noon), Sampler()
        for age in (KEPT + SLICE, KEPT - SLICE):
            a_sample(node, noon - age)
        sampler.step(noon)
        sampler.step(noon + SLICE)
        assert list(NodeSample.objects.order_by("at").values_list("at", flat=True)) == [
            noon - KEPT + SLICE,
            noon,
            noon + SLICE,
        ]

    def test_a_dispatcher_that_takes_over_goes_on_in_the_same_row(self, noon: datetime) -> None:
        given.a_node(noon)
        Sampler().step(noon)
        Sampler().step(noon + timedelta(seconds=60))
        assert NodeSample.objects.count() == 1

    def test_the_strip_tells_of_each_half_hour(self, noon: datetime) -> None:
        def seen(age: timedelta, **values: float) -> Moment:
            usual = {"online": 1.0, "ready": 1.0, "cpus": 0.0, "memory": 0.0}
            return Moment(noon - age, 10, **{**usual, **values})

        found = heat.strip(
            [
                seen(timedelta(hours=30), cpus=1.0),
                seen(timedelta(hours=12), cpus=0.2, memory=0.95),
                seen(timedelta(hours=6), online=0.0),
                seen(timedelta(hours=3), ready=0.0, cpus=0.5),
                seen(timedelta(0), cpus=1.0),
            ],
            noon,
        )
        assert [(cell.place, cell.kind, cell.level) for cell in found.cells] == [
            (23, "busy", 9),
            (35, "away", 0),
            (41, "closed", 5),
            (47, "busy", 9),
        ]
        assert "offline for 25% of the time" in found.words
        assert [cell.width for cell in found.cells] == [1, 1, 1, 1]
        assert heat.strip([], noon).words == "nothing is known of the last day yet"

    def test_neighbours_that_look_the_same_are_one(self, noon: datetime) -> None:
        day = [Moment(noon - number * SLICE, 10, 1.0, 1.0, 0.5 if number < 36 else 0.0, 0.0) for number in range(144)]
        found = heat.strip(day, noon).cells
        assert [(cell.place, cell.width, cell.level) for cell in found] == [(0, 36, 0), (36, 12, 5)]

    def test_the_api_tells_it(self, now: datetime) -> None:
        node = given.a_node(now)
        a_sample(node, now - timedelta(hours=2), cpus=0.5)
        a_sample(node, now - timedelta(hours=30))
        reader = doors.api_of(given.a_user())
        assert [one["cpus"] for one in reader.get("/api/v1/nodes/alpha/history").json()] == [0.5]
        assert len(reader.get("/api/v1/nodes/alpha/history?hours=48").json()) == 2
        assert reader.get("/api/v1/nodes/nobody/history").status_code == 404
        assert reader.get("/api/v1/nodes/alpha/history?hours=0").status_code == 422


class TestList:
    def test_each_node_has_its_day_and_all_are_summed_up(self, now: datetime) -> None:
        a_sample(given.a_node(now), now, cpus=0.5)
        gone = given.a_node(now, "beta")
        Node.objects.filter(pk=gone.pk).update(lease_until=now)
        page = read("/nodes/")
        assert "1 of 2</b> ready, 1 offline" in page
        assert "50% busy on average" in page
        assert "nothing is known of the last day yet" in page
        assert 'href="/node/alpha/"' in page

    def test_a_long_list_comes_in_pages_and_asks_no_more_for_it(self, now: datetime) -> None:
        def asked() -> int:
            with CaptureQueriesContext(connection) as questions:
                read("/nodes/")
            return len(questions)

        for number in range(2):
            given.a_node(now, f"n{number:03}")
        read("/nodes/")
        few = asked()
        for number in range(2, 28):
            given.a_node(now, f"n{number:03}")
        read("/nodes/")
        assert asked() == few
        assert "n024" in read("/nodes/")
        assert "n025" not in read("/nodes/").partition("</table>")[0]
        rest = read("/nodes/?after=n024")
        assert "n025" in rest
        assert 'rel="next"' not in rest


class TestNode:
    def test_it_shows_what_it_is_and_what_runs_and_ran_on_it(self, now: datetime) -> None:
        node = given.a_node(now, tags=("ssd",), details={"image cache": "3 images"})
        over = given.a_task(now, name="over and done")
        given.finished(given.taken(given.assigned(over, node, now), now), node, now)
        given.taken(given.assigned(given.a_task(now, name="at work"), node, now), now)

        page = read("/node/alpha/")
        at_work, _, ran = page.partition("Ran here last")
        assert "at work" in at_work
        assert "over and done" in ran
        assert "at work" not in ran
        for words in ("ssd", "3 images", "busybox:latest", "grid node check"):
            assert words in page

    def test_tasks_of_others_are_a_number(self, now: datetime) -> None:
        node = given.a_node(now)
        given.assigned(given.a_task(now, given.a_user("bob"), name="private business"), node, now)
        page = read("/node/alpha/")
        assert "private business" not in page
        assert "1 task of other people" in page
        assert "private business" in read("/node/alpha/", staff=True)

    def test_a_node_that_has_never_joined_has_a_page(self, now: datetime) -> None:
        Node.objects.create(name="new", created_at=now)
        assert "it has never joined" in read("/node/new/")

    def test_there_is_none_for_a_node_that_was_removed(self, now: datetime) -> None:
        given.a_node(now)
        root = doors.browser_of(given.a_user("root", staff=True))
        assert root.post("/nodes/alpha/remove/").status_code == 302
        assert root.get("/node/alpha/").status_code == 404

    def test_one_at_work_is_not_removed(self, now: datetime) -> None:
        node = given.a_node(now)
        given.assigned(given.a_task(now), node, now)
        root = doors.browser_of(given.a_user("root", staff=True))
        assert "is not empty" in root.post("/nodes/alpha/remove/", {"page": "node"}, follow=True).content.decode()
        assert Node.objects.get().removed_at is None

    def test_the_buttons_lead_back_to_where_they_were_pressed(self, now: datetime) -> None:
        given.a_node(now)
        root = doors.browser_of(given.a_user("root", staff=True))
        assert (
            root.post("/nodes/alpha/cordon/", {"page": "node", "reason": "disk"}).headers["location"] == "/node/alpha/"
        )
        assert root.post("/nodes/alpha/resume/").headers["location"] == "/nodes/"


class TestJoin:
    def test_the_command_has_a_token_that_works_and_is_shown_once(self, now: datetime) -> None:
        root = doors.browser_of(given.a_user("root", staff=True))
        answer = root.post("/nodes/join/", {"name": "lab7"})
        page = answer.content.decode()
        found = re.search(r"grid node start --server (\S+) --name lab7 --token (\S+?)<", page)
        assert found is not None
        token = tokens.authenticate(found[2], now)
        assert token.node is not None
        assert token.node.name == "lab7"
        assert "no-store" in answer.headers["Cache-Control"]
        assert found[2] not in root.get("/nodes/").content.decode()

    def test_a_name_that_is_there_gets_a_new_token_only_if_wished(self, now: datetime) -> None:
        root = doors.browser_of(given.a_user("root", staff=True))
        root.post("/nodes/join/", {"name": "lab7"})
        before = Token.objects.get(node__name="lab7").pk
        assert (
            "there is a node lab7 already" in root.post("/nodes/join/", {"name": "lab7"}, follow=True).content.decode()
        )
        assert root.post("/nodes/join/", {"name": "lab7", "renew": "on"}).status_code == 200
        assert Token.objects.get(node__name="lab7").pk != before

    def test_a_name_that_cannot_be_one_is_refused(self) -> None:
        root = doors.browser_of(given.a_user("root", staff=True))
        assert "No node was made" in root.post("/nodes/join/", {"name": "a/b c"}, follow=True).content.decode()
        assert not Node.objects.exists()

    def test_it_is_for_operators_and_for_forms_of_ours(self) -> None:
        assert doors.browser_of(given.a_user()).post("/nodes/join/", {"name": "lab7"}).status_code == 403
        root = doors.browser_of(given.a_user("root", staff=True), csrf=True)
        assert root.post("/nodes/join/", {"name": "lab7"}).status_code == 403
        assert not Node.objects.exists()
        assert "Join a node" not in read("/nodes/")


def a_sample(node: Node, at: datetime, **values: float) -> None:
    usual = {"online": 1.0, "ready": 1.0, "running": 0.0, "cpus": 0.0, "memory": 0.0, "others": 0.0}
    NodeSample.objects.create(node=node, at=slice_of(at), looks=10, **{**usual, **values})


def read(path: str, *, staff: bool = False) -> str:
    user = given.a_user("root", staff=True) if staff else given.a_user()
    answer = doors.browser_of(user).get(path)
    assert answer.status_code == 200
    return answer.content.decode()
