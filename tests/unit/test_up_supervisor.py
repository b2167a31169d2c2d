"""The supervisor with real small programs: order, readiness, restarts, the end, and what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grid.up.logfile import LogFile
from grid.up.supervisor import Program, Stopped, Supervisor
from tasks.errors import GridError

ROOT = Path(__file__).parents[2]
SLEEPER = ("sh", "-c", "echo up; exec sleep 1000")
STUBBORN = ("sh", "-c", "trap '' TERM; sleep 1000 & echo up; while :; do wait; done")


class Told(list[str]):
    """The lines that people were told."""

    @property
    def text(self) -> str:
        return "\n".join(self)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def supervisor(tmp_path: Path, told: Told) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path, told.append)
    yield made
    made.stop()


def program(name: str, *command: str, **more: object) -> Program:
    """A program with the environment of the test."""
    return Program(name, command, dict(os.environ), **more)  # type: ignore[arg-type]


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def alive(pid: int) -> bool:
    """True while the process runs; one that waits to be buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def run_until(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    """Let the supervisor work until the condition holds, then ask for the end with a signal, as people do."""

    def ask() -> None:
        try:
            until(condition)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    with supervisor.signals():
        asker = threading.Thread(target=ask)
        asker.start()
        supervisor.run()
        asker.join()


class TestStarting:
    def test_a_program_is_waited_for_until_it_is_ready(self, supervisor: Supervisor, tmp_path: Path) -> None:
        flag = tmp_path / "ready"
        slow = program("slow", "sh", "-c", f"sleep 0.3; touch {flag}; exec sleep 1000", ready=flag.exists)

        assert supervisor.start(slow)
        assert flag.exists()

    def test_output_goes_into_a_file(self, supervisor: Supervisor, tmp_path: Path) -> None:
        supervisor.start(program("talker", "sh", "-c", "echo out; echo err >&2; exec sleep 1000"))

        until(lambda: {"out", "err"} <= set(lines_of(tmp_path / "logs" / "talker.log")))
        assert "out" in supervisor.tail("talker")

    def test_an_essential_program_that_dies_stops_the_start_with_its_last_words(self, supervisor: Supervisor) -> None:
        broken = program("broken", "sh", "-c", "echo the disk is full; exit 3", ready=lambda: False, essential=True)

        with pytest.raises(GridError, match=r"(?s)broken does not come up.*the disk is full"):
            supervisor.start(broken)

    def test_another_one_may_be_late(self, supervisor: Supervisor) -> None:
        assert not supervisor.start(program("late", *SLEEPER, ready=lambda: False, ready_seconds=0.2))

    def test_a_short_command(self, supervisor: Supervisor) -> None:
        assert supervisor.run_once("hello", ("sh", "-c", "echo hi"), dict(os.environ)) == "hi\n"
        with pytest.raises(GridError, match=r"(?s)setup failed with status 4.*no such table"):
            supervisor.run_once("setup", ("sh", "-c", "echo no such table >&2; exit 4"), dict(os.environ))

    def test_the_end_may_be_asked_for_during_the_start(self, supervisor: Supervisor) -> None:
        with supervisor.signals():
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            with pytest.raises(Stopped):
                supervisor.start(program("slow", *SLEEPER, ready=lambda: False, ready_seconds=20))


class TestRunning:
    def test_what_dies_is_started_again(self, supervisor: Supervisor, told: Told, tmp_path: Path) -> None:
        starts = tmp_path / "starts"
        supervisor.start(program("mortal", "sh", "-c", f"echo $$ >> {starts}; exec sleep 1000"))
        until(lambda: len(lines_of(starts)) == 1)

        os.kill(int(lines_of(starts)[0]), signal.SIGKILL)
        run_until(supervisor, lambda: len(lines_of(starts)) == 2)

        assert "mortal was ended by SIGKILL; starting it again in 0.5 s" in told.text

    def test_pauses_grow_and_a_loop_is_told_with_the_last_words(
        self, supervisor: Supervisor, told: Told, tmp_path: Path
    ) -> None:
        starts = tmp_path / "starts"
        supervisor.start(program("looping", "sh", "-c", f"date +%s.%N >> {starts}; echo bad luck; exit 1"))

        run_until(supervisor, lambda: "again and again" in told.text)

        assert "looping dies again and again (3 times)" in told.text
        assert "bad luck" in told.text
        first, second, third = (float(line) for line in lines_of(starts))
        assert third - second > second - first > 0.4

    def test_what_a_dead_program_left_behind_is_ended(self, supervisor: Supervisor, tmp_path: Path) -> None:
        orphans = tmp_path / "orphans"
        supervisor.start(program("parent", "sh", "-c", f"sleep 1000 & echo $! >> {orphans}; sleep 0.2; exit 1"))

        run_until(supervisor, lambda: len(lines_of(orphans)) == 2)

        until(lambda: not alive(int(lines_of(orphans)[0])))

    def test_an_idle_supervisor_costs_nothing(self, supervisor: Supervisor) -> None:
        supervisor.start(program("sleeper", *SLEEPER))
        before = time.thread_time()
        began = time.monotonic()

        run_until(supervisor, lambda: time.monotonic() - began > 1.0)

        assert time.thread_time() - before < 0.05


class TestStopping:
    def test_the_last_one_started_is_stopped_first(self, supervisor: Supervisor, tmp_path: Path) -> None:
        ends = tmp_path / "ends"
        for name in ("first", "second", "third"):
            flag = tmp_path / name
            script = f"trap 'echo {name} >> {ends}; exit 0' TERM; touch {flag}; while :; do sleep 0.05; done"
            supervisor.start(program(name, "sh", "-c", script, ready=flag.exists))

        supervisor.stop()

        assert lines_of(ends) == ["third", "second", "first"]

    def test_one_that_will_not_end_is_killed_with_all_it_started(self, supervisor: Supervisor, told: Told) -> None:
        stubborn = program("stubborn", *STUBBORN, stop_seconds=0.3)
        supervisor.start(stubborn)
        until(lambda: "up" in supervisor.tail("stubborn"))
        began = time.monotonic()

        supervisor.stop()

        assert time.monotonic() - began < 3
        assert "stubborn does not end; killing it" in told.text

    def test_a_second_signal_is_in_a_hurry(self, supervisor: Supervisor) -> None:
        supervisor.start(program("stubborn", *STUBBORN, stop_seconds=60))
        until(lambda: "up" in supervisor.tail("stubborn"))
        began = time.monotonic()

        with supervisor.signals():
            os.kill(os.getpid(), signal.SIGINT)
            supervisor.run()
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            supervisor.stop()

        assert time.monotonic() - began < 5

    def test_programs_die_with_a_supervisor_that_is_killed(self, tmp_path: Path) -> None:
        script = textwrap.dedent(f"""
            import os
            from pathlib import Path
            from grid.up.supervisor import Program, Supervisor
            supervisor = Supervisor(Path({str(tmp_path)!r}), print)
            for name in ("a", "b"):
                command = ("sh", "-c", f"echo $$ > {tmp_path}/{{name}}; exec sleep 1000")
                supervisor.start(Program(name, command, os.environ))
            supervisor.run()
        """)
        process = subprocess.Popen((sys.executable, "-c", script), cwd=ROOT)
        files = [tmp_path / "a", tmp_path / "b"]
        until(lambda: all(lines_of(file) for file in files))

        process.kill()
        process.wait()

        for file in files:
            until(lambda file=file: not alive(int(lines_of(file)[0])))  # type: ignore[misc]


class TestLogFile:
    def test_it_does_not_grow_for_ever(self, tmp_path: Path) -> None:
        log = LogFile(tmp_path / "x.log", max_bytes=1000)

        for number in range(200):
            log.write(f"line {number:03} {'.' * 40}\n".encode())
        log.close()

        assert sorted(one.name for one in tmp_path.iterdir()) == ["x.log", "x.log.1", "x.log.2"]
        assert all(one.stat().st_size < 1100 for one in tmp_path.iterdir())
        assert log.tail()[-1].startswith("line 199")

    def test_it_goes_on_where_it_was(self, tmp_path: Path) -> None:
        for text in (b"one\n", b"two\n"):
            log = LogFile(tmp_path / "x.log")
            log.write(text)
            log.close()

        assert (tmp_path / "x.log").read_text() == "one\ntwo\n"
