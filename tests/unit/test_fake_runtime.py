"""The fake runtime keeps the promises of the seam, as far as it can."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from nodes.runtimes import Exit, Stop
from nodes.runtimes.fake import FakeRuntime, subprocess_program
from tasks.errors import NodeFault
from tasks.outcome import Usage
from tasks.states import StopCause
from tests.support.jobs import make_job

ME = {"uid": os.getuid(), "gid": os.getgid()}


def test_by_default_every_job_succeeds_at_once(tmp_path: Path) -> None:
    runtime, job = FakeRuntime(), make_job(tmp_path, "whatever", **ME)
    assert runtime.run(job, Stop()) == Exit(0, Usage())
    assert runtime.runs == {job.attempt: 1}
    assert runtime.probe().enforces >= {"time", "memory"}


def test_programs_run_as_processes(tmp_path: Path) -> None:
    runtime = FakeRuntime(subprocess_program)
    script = "cat; echo $GREETING >&2; exit 3"
    job = make_job(tmp_path, "sh", "-c", script, input=b"in", environment={"GREETING": "hello"}, **ME)
    assert runtime.run(job, Stop()).exit_code == 3
    assert (job.stdout.read_bytes(), job.stderr.read_text()) == (b"in", "hello\n")
    killed = make_job(tmp_path, "sh", "-c", "kill -9 $$", merged=True, **ME)
    assert runtime.run(killed, Stop()).exit_code == 137


def test_what_cannot_be_executed_is_named(tmp_path: Path) -> None:
    runtime = FakeRuntime(subprocess_program)
    missing = runtime.run(make_job(tmp_path, "no-such-program", **ME), Stop())
    folder = runtime.run(make_job(tmp_path, "/etc", **ME), Stop())
    assert (missing.exit_code, folder.exit_code) == (127, 126)
    assert missing.start_error.startswith("no-such-program: ")


def test_time_output_and_wishes_are_minded(tmp_path: Path) -> None:
    runtime, stop = FakeRuntime(subprocess_program), Stop()
    slow = runtime.run(make_job(tmp_path, "sleep", "60", limits={"time": "100ms"}, **ME), Stop())
    assert (slow.stopped, slow.exit_code) == (StopCause.TIME_LIMIT, 137)
    loud = make_job(tmp_path, sys.executable, "-c", "print('x' * 99)", limits={"output": 10}, **ME)
    end = runtime.run(loud, Stop())
    assert (end.output_bytes, end.output_cut_bytes, loud.stdout.stat().st_size) == (100, 90, 10)
    stop.request(StopCause.CANCELLED, "enough")
    assert runtime.run(make_job(tmp_path, "sleep", "60", **ME), stop).stop_reason == "enough"


def test_a_job_runs_once_however_often_it_is_asked_for(tmp_path: Path) -> None:
    runtime, job = FakeRuntime(subprocess_program), make_job(tmp_path, "sleep", "0.3", **ME)
    ends: list[Exit] = []
    threads = [threading.Thread(target=lambda: ends.append(runtime.run(job, Stop()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len({end.usage.wall_seconds for end in ends}) == 1
    assert runtime.runs == {job.attempt: 1}
    assert runtime.reap(()) == (job.attempt,)


def test_faults_come_when_they_are_ordered(tmp_path: Path) -> None:
    runtime = FakeRuntime()
    runtime.faults.append(NodeFault("runtime_error", "ordered"))
    job = make_job(tmp_path, "x", **ME)
    with pytest.raises(NodeFault, match="ordered"):
        runtime.run(job, Stop())
    assert runtime.run(job, Stop()).exit_code == 0
    runtime.kill(job.attempt)
    assert runtime.killed == [job.attempt]
