"""An agent is killed while its jobs run; the next one goes on with their containers and misses nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from nodes.runtimes import Exit, Job, Stop
from nodes.runtimes.docker import DockerRuntime, profile
from nodes.runtimes.docker.engine import Engine
from nodes.runtimes.docker.marks import Marks
from tasks.errors import NodeFault
from tasks.outcome import Usage
from tasks.states import StopCause
from tests.conftest import needs
from tests.support.jobs import make_job

pytestmark = needs("docker", "busybox", "root")

ROOT = Path(__file__).parents[2]
JOBS = TypeAdapter(Job)
AGENT = """
import sys
from pydantic import TypeAdapter
from nodes.runtimes import Job, Stop
from nodes.runtimes.docker import DockerRuntime
job = TypeAdapter(Job).validate_json(sys.stdin.buffer.read())
DockerRuntime(job.node).run(job, Stop())
"""


def killed_agent(job: Job, when: Callable[[], object]) -> None:
    """Run a job in another process, and kill that as soon as ``when()`` is true."""
    agent = subprocess.Popen([sys.executable, "-c", AGENT], stdin=subprocess.PIPE, cwd=ROOT)
    assert agent.stdin is not None
    agent.stdin.write(JOBS.dump_json(job))
    agent.stdin.close()
    until(when)
    agent.kill()
    agent.wait(10)


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Poll until it is."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def said(job: Job) -> Callable[[], object]:
    """True when the program has written something that we saw."""
    return lambda: job.stdout.exists() and job.stdout.stat().st_size


def state_of(job: Job) -> str:
    """What the engine says of the job's container; empty when there is none."""
    engine = Engine()
    there = engine.labelled({profile.LABEL_ATTEMPT: job.attempt})
    engine.close()
    return str(there[0]["State"]) if there else ""


@pytest.mark.parametrize("merged", [False, True])
def test_running_program_is_gone_on_with_and_no_byte_is_lost_or_doubled(
    docker_runtime: DockerRuntime, tmp_path: Path, *, merged: bool
) -> None:
    script = (
        "echo begun >> log; for i in $(seq 30); do echo out $i; echo err $i >&2; sleep 0.1; done; printf end; exit 7"
    )
    job = make_job(tmp_path, "sh", "-c", script, merged=merged)
    killed_agent(job, said(job))
    end = docker_runtime.run(job, Stop())
    assert end.exit_code == 7
    assert (job.workspace / "log").read_text() == "begun\n"
    lines = job.stdout.read_text().splitlines()
    assert [line for line in lines if line.startswith("out")] == [f"out {number}" for number in range(1, 31)]
    assert lines[-1] == "end"
    errors = (job.stdout if merged else job.stderr).read_text().splitlines()
    assert [line for line in errors if line.startswith("err")] == [f"err {number}" for number in range(1, 31)]
    assert end.output_bytes == job.stdout.stat().st_size + (0 if merged else job.stderr.stat().st_size)
    assert 3.0 <= end.usage.wall_seconds < 8.0


def test_program_that_ended_meanwhile_is_told_of_as_if_we_had_been_there(
    docker_runtime: DockerRuntime, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 100
    job = make_job(tmp_path, "sh", "-c", "echo ready; sleep 1; cat /task/data; exit 8", limits={"output": 20_000})
    (job.workspace / "data").write_bytes(data)
    killed_agent(job, said(job))
    until(lambda: state_of(job) == "exited")
    end = docker_runtime.run(job, Stop())
    assert (end.exit_code, end.stopped) == (8, None)
    assert job.stdout.read_bytes() == (b"ready\n" + data)[:20_000]
    assert (end.output_bytes, end.output_cut_bytes) == (6 + len(data), 6 + len(data) - 20_000)
    assert 1.0 <= end.usage.wall_seconds < 3.0


def test_container_of_a_known_end_is_removed_by_the_next_start(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    job = make_job(tmp_path, "sh", "-c", "echo ready; exit 8")
    killed_agent(job, said(job))
    until(lambda: state_of(job) == "exited")
    # The agent was killed after it had noted the end, before the container was removed.
    end = Exit(exit_code=8, usage=Usage())
    Marks.of(job).set_exit(end)
    assert docker_runtime.run(job, Stop()) == end
    until(lambda: not state_of(job))


def test_container_that_was_created_and_not_started_is_removed_when_nobody_wants_it_any_more(
    docker_runtime: DockerRuntime, tmp_path: Path
) -> None:
    job = make_job(tmp_path, "true")
    docker_runtime.engine.create(
        profile.container_name(job.attempt), {"Image": job.image, "Labels": profile.labels(job)}
    )
    stop = Stop()
    stop.request(StopCause.LEASE_LOST, "the server has given it to another node")
    assert docker_runtime.run(job, stop).exit_code is None
    until(lambda: not state_of(job))


def test_kill_removes_what_a_former_start_has_left(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    job = make_job(tmp_path, "sh", "-c", "echo ready; sleep 60")
    killed_agent(job, said(job))
    docker_runtime.kill(job.attempt)
    until(lambda: not state_of(job))


def test_time_limit_counts_from_the_start_of_the_program(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    job = make_job(tmp_path, "sh", "-c", "echo ready; sleep 60", limits={"time": "3s"})
    killed_agent(job, said(job))
    time.sleep(1)
    end = docker_runtime.run(job, Stop())
    assert end.stopped is StopCause.TIME_LIMIT
    assert 3.0 <= end.usage.wall_seconds < 3.8


def test_program_with_half_of_its_input_is_not_to_be_trusted(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    job = make_job(tmp_path, "sh", "-c", "echo ready; sleep 3; wc -c", input=b"x" * 20_000_000)
    killed_agent(job, said(job))
    with pytest.raises(NodeFault, match="input"):
        docker_runtime.run(job, Stop())
    until(lambda: not state_of(job))


def test_program_with_all_of_its_input_is(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    job = make_job(tmp_path, "sh", "-c", "echo ready; sleep 1; wc -c", input=b"x" * 1000)
    killed_agent(job, said(job))
    assert docker_runtime.run(job, Stop()).exit_code == 0
    assert job.stdout.read_text() == "ready\n1000\n"


def test_container_that_has_gone_is_a_fault_and_nothing_runs_twice(
    docker_runtime: DockerRuntime, tmp_path: Path
) -> None:
    job = make_job(tmp_path, "sh", "-c", "echo ready; echo once >> log; sleep 60")
    killed_agent(job, said(job))
    engine = Engine()
    engine.remove(profile.container_name(job.attempt))
    engine.close()
    with pytest.raises(NodeFault) as fault:
        docker_runtime.run(job, Stop())
    assert fault.value.kind == "engine_restarted"
    assert (job.workspace / "log").read_text() == "once\n"


def test_container_that_was_made_but_not_started_is_made_again(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    job = make_job(tmp_path, "echo", "fresh")
    engine = Engine()
    engine.create(profile.container_name(job.attempt), profile.container(job, profile.Offer()))
    engine.close()
    assert docker_runtime.run(job, Stop()).exit_code == 0
    assert job.stdout.read_text() == "fresh\n"


def test_reap_removes_all_but_what_is_kept(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    kept = make_job(tmp_path, "sh", "-c", "echo ready; sleep 60")
    left = make_job(tmp_path, "sh", "-c", "echo ready; sleep 60")
    for job in (kept, left):
        killed_agent(job, said(job))
    assert docker_runtime.reap({kept.attempt}) == (left.attempt,)
    assert (state_of(kept), state_of(left)) == ("running", "")
    assert not list(Path("/sys/fs/cgroup").rglob(left.attempt))
    assert docker_runtime.reap(()) == (kept.attempt,)
