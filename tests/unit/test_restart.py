"""Which nodes ``grid nodes restart`` goes to, how it gets there, and when it calls one back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from grid.cli import restart
from grid.cli.restart import Job, choose, job_for, wait_for
from grid.config import Config, NodesConfig, load, save
from tasks.errors import GridError, NotFound
from tasks.states import NodeMode
from tasks.views import NodeStatus

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def a_node(name: str, **changes: Any) -> NodeStatus:
    """A node that went down."""
    room = {"cpus": 4, "cpus_used": 0, "memory": 1, "memory_used": 0, "slots": 1, "running": 0}
    return NodeStatus(**{"name": name, "online": False, "ready": False, "last_seen": NOON, **room, **changes})


class TestWhich:
    NODES = (
        a_node("down"),
        a_node("up", online=True, ready=True),
        a_node("new", last_seen=None),
        a_node("drained", mode=NodeMode.DRAINING),
        a_node("cordoned", mode=NodeMode.CORDONED),
    )

    def test_away_are_those_that_were_here_and_should_be(self) -> None:
        assert [node.name for node in choose(self.NODES, ())] == ["down"]

    def test_those_that_are_named_whatever_they_do_and_each_once(self) -> None:
        assert [node.name for node in choose(self.NODES, ("up", "drained", "up"))] == ["up", "drained"]
        with pytest.raises(NotFound, match='no node "nobody"'):
            choose(self.NODES, ("nobody",))


class TestWhere:
    def test_by_the_name_that_the_machine_has_told_unless_the_operator_knows_better(self) -> None:
        node = a_node("lab7", tags=("cpus:4", "hostname:lab7.example.org"))
        assert job_for(node, NodesConfig()).host == "lab7.example.org"
        assert job_for(a_node("lab8"), NodesConfig()).host == "lab8"
        known = NodesConfig(user="ops", hosts={"lab7": "10.0.0.7", "lab8": "root@lab8.example.org"})
        assert job_for(node, known).host == "ops@10.0.0.7"
        assert job_for(a_node("lab8"), known).host == "root@lab8.example.org"

    def test_the_command_is_one_word_for_ssh_and_the_host_is_no_option(self) -> None:
        known = NodesConfig(command="sudo systemctl restart x", ssh_options=("-p", "2222"))
        assert job_for(a_node("lab7"), known).command[-5:] == ("-p", "2222", "--", "lab7", "sudo systemctl restart x")

    @pytest.mark.parametrize("told", ["-oProxyCommand=reboot", "a b", "a;reboot", "", "root@-l", "x\ny"])
    def test_a_node_cannot_lead_the_operator_anywhere_by_its_name(self, told: str) -> None:
        with pytest.raises(GridError, match="no name of a host"):
            job_for(a_node("lab7", tags=(f"hostname:{told}",)), NodesConfig())


class TestBack:
    def test_it_is_back_when_it_is_heard_of_anew_and_takes_tasks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(restart, "POLL_SECONDS", 0.0)
        later = NOON + timedelta(seconds=9)
        said = iter(
            [
                a_node("lab7", online=True, ready=True),
                a_node("lab7", online=True, ready=True),  # what it was heard of is its former life
                a_node("lab7", online=True, last_seen=later),
                a_node("lab7", online=True, ready=True, last_seen=later),
            ]
        )
        assert wait_for(lambda: next(said), 60) is not None
        assert next(said, None) is None

    def test_one_that_is_drained_need_not_take_tasks(self) -> None:
        later = NOON + timedelta(seconds=9)
        said = iter([a_node("lab7"), a_node("lab7", online=True, mode=NodeMode.DRAINING, last_seen=later)])
        assert wait_for(lambda: next(said), 60) is not None

    def test_it_is_not_waited_for_for_ever(self) -> None:
        ticks = iter([0.0, 1.0, 3.0])
        assert wait_for(lambda: a_node("lab7"), 2.0, clock=lambda: next(ticks)) is None


def test_a_command_that_fails_is_told_of_by_its_last_words() -> None:
    def job(text: str) -> Job:
        return Job("lab7", "lab7", ("sh", "-c", text))

    assert restart.run(job("exit 0")) == ""
    assert restart.run(job("echo one >&2; echo two >&2; exit 5")) == "exit status 5: two"
    assert restart.run(job("echo refused >&2; exit 255")) == "ssh: refused"
    assert "openssh-client" in restart.run(Job("lab7", "lab7", ("/there/is/no/ssh",)))


class TestTheConfiguration:
    def test_is_kept_as_it_was_written(self, tmp_path: Path) -> None:
        path = tmp_path / "config.toml"
        known = NodesConfig("ops", "sudo x", ("-p", "2"), {"lab.7": "root@lab7", "lab8": 'quo"ted'})
        save(path, Config("http://lab:1", "t", known))
        assert load({"GRID_CONFIG": str(path)}) == Config("http://lab:1", "t", known)

    @pytest.mark.parametrize("text", ["nodes = 1", "[nodes]\nhost = 1", "[nodes]\nhosts = 1", "[nodes]\nuser = 1"])
    def test_that_makes_no_sense_is_refused_with_what_it_may_say(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "config.toml"
        path.write_text(text)
        with pytest.raises(GridError, match=r"\[nodes\] may have user, command, ssh_options, hosts"):
            load({"GRID_CONFIG": str(path)})
