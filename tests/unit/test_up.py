"""The parts of ``grid up`` around its programs: the folder, the ports, the engine, how each program is started."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

import pytest

from grid.cli.starting import default_directory
from grid.up import Options, UsageError, ports, programs, run
from grid.up.engine import engine_problem
from grid.up.place import AlreadyRunning, Memory, Place, machine_name
from tasks.errors import GridError

COMMAND = (sys.executable, "-c", "from grid.cli import main; main()")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this process listens on."""
    with ports.listen(0) as listener:
        yield listener.getsockname()[1]


class TestPlace:
    def test_one_at_a_time_and_the_second_is_told_where_the_first_is(self, tmp_path: Path) -> None:
        with Place(tmp_path / "g") as first:
            first.announce("http://127.0.0.1:9")
            with pytest.raises(AlreadyRunning, match=rf"already: http://127\.0\.0\.1:9 \(process {os.getpid()}\)"):
                Place(tmp_path / "g")

        Place(tmp_path / "g").close()

    def test_what_is_remembered_is_private_and_comes_back(self, tmp_path: Path) -> None:
        with Place(tmp_path / "g") as place:
            fresh = place.recall()
            place.remember(fresh.model_copy(update={"broker_port": 7}))

            assert place.recall() == fresh.model_copy(update={"broker_port": 7})
            assert stat.S_IMODE((place.path / "up.json").stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "g").stat().st_mode) == 0o700
        assert len(fresh.broker_password) > 20
        assert fresh.broker_password != fresh.flower_password

    def test_a_broken_memory_is_not_thrown_away(self, tmp_path: Path) -> None:
        with Place(tmp_path) as place:
            (tmp_path / "up.json").write_text("{")

            with pytest.raises(GridError, match="move it away"):
                place.recall()

    def test_a_folder_that_cannot_be_used(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()

        with pytest.raises(GridError, match="cannot use the folder"):
            Place(tmp_path / "file")

    def test_the_name_of_the_machine_can_be_a_node(self) -> None:
        assert machine_name()
        assert machine_name().isascii()


class TestPorts:
    def test_a_taken_port_says_by_whom(self, taken: int) -> None:
        with pytest.raises(GridError, match=rf"port {taken} is taken by .* \(process {os.getpid()}\); choose another"):
            ports.listen(taken, patience_seconds=0)

    def test_a_port_that_is_given_back_in_a_moment_is_waited_for(self) -> None:
        first = ports.listen(0)
        port: int = first.getsockname()[1]
        threading.Timer(0.2, first.close).start()

        with ports.listen(port, patience_seconds=10) as second:
            assert second.getsockname()[1] == port

    def test_the_wanted_port_is_taken_only_when_it_is_free(self, taken: int) -> None:
        assert ports.find_free(taken) != taken
        free = ports.find_free()
        assert ports.find_free(free) == free

    def test_nobody_owns_a_free_port(self) -> None:
        assert ports.owner_of(ports.find_free()) == ""

    def test_answers(self, taken: int) -> None:
        assert not ports.answers(taken, b"PING", b"PONG", timeout_seconds=0.1)
        assert not ports.answers(ports.find_free(), b"PING", b"PONG")


class TestEngine:
    def test_nothing_there(self, tmp_path: Path) -> None:
        problem = engine_problem({"DOCKER_HOST": f"unix://{tmp_path / 'none.sock'}"})

        assert "no engine answers there" in problem

    def test_an_engine_over_tcp_that_is_away(self) -> None:
        assert "no engine answers" in engine_problem({"DOCKER_HOST": f"tcp://127.0.0.1:{ports.find_free()}"})

    def test_an_engine_that_needs_keys_is_left_to_the_node(self) -> None:
        assert engine_problem({"DOCKER_HOST": "ssh://somewhere"}) == ""

    def test_one_that_answers(self, tmp_path: Path) -> None:
        class Engine(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if self.path == "/_ping" else 404)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

            def address_string(self) -> str:
                return "unix"

        with ThreadingUnixStreamServer(str(tmp_path / "e.sock"), Engine) as server:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

            assert engine_problem({"DOCKER_HOST": f"unix://{tmp_path / 'e.sock'}"}) == ""
            server.shutdown()


class TestPrograms:
    plan = programs.Plan(
        Path("/srv/my grid"),
        Memory(
            node="n",
            broker_password="brokersecret",
            flower_password="flowersecret",
            node_token="nodesecret",
            flower_port=9,
        ),
        8080,
    )

    def test_nothing_private_stands_in_a_list_of_processes(self) -> None:
        environment = self.plan.server_environment(with_flower=True)
        made = [
            programs.broker(self.plan, Path("/x")),
            programs.web(self.plan, 3, environment),
            programs.dispatcher(environment),
            programs.flower(self.plan, environment),
            programs.node(self.plan, 2, lambda: True),
        ]

        shown = " ".join(word for one in made for word in one.command)
        assert "secret" not in shown
        assert "secret" not in repr(made)

    def test_the_broker_is_private_and_keeps_what_it_was_told(self) -> None:
        lines = programs.broker_config(self.plan).splitlines()

        assert "bind 127.0.0.1" in lines
        assert "requirepass brokersecret" in lines
        assert "appendonly yes" in lines
        assert "maxmemory-policy noeviction" in lines
        assert 'dir "/srv/my grid/broker"' in lines

    def test_the_node_knows_no_more_than_it_needs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GRID_DATABASE_URL", "postgres://somewhere")
        environment = programs.node(self.plan, None, lambda: True).environment

        assert {name for name in environment if name.startswith("GRID_")} == {"GRID_SERVER", "GRID_TOKEN"}
        assert "brokersecret" not in " ".join(environment.values())

    def test_settings_of_the_shell_reach_the_server_but_not_the_client_s(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GRID_LEASE_SECONDS", "2")
        monkeypatch.setenv("GRID_TOKEN", "mine")
        environment = self.plan.server_environment(with_flower=False)

        assert environment["GRID_LEASE_SECONDS"] == "2"
        assert "GRID_TOKEN" not in environment
        assert environment["GRID_FLOWER_URL"] == ""


class TestRefusals:
    def test_no_engine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'none.sock'}")

        with pytest.raises(UsageError, match=r"no node can run here: .*; or start the grid without a node"):
            run(Options(tmp_path / "g"), print, print)

    def test_a_taken_port(self, tmp_path: Path, taken: int) -> None:
        done = subprocess.run(
            (*COMMAND, "up", "--no-node", "--dir", str(tmp_path / "g"), "--port", str(taken)),
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 2
        assert done.stderr.startswith(f"grid: port {taken} is taken by ")
        assert len(done.stderr.splitlines()) == 1

    def test_the_usual_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", "/data")

        assert default_directory() == Path("/data/celery-grid")
