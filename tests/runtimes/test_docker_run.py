"""Jobs in real containers: what the program did is told as it was, and limits hold."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from nodes.runtimes import Exit, Job, Stop
from nodes.runtimes.docker import DockerRuntime, profile
from nodes.runtimes.docker.engine import Engine
from nodes.runtimes.docker.errors import EngineError
from tasks.errors import NodeFault
from tasks.states import StopCause
from tests.conftest import needs
from tests.support.jobs import make_job
from tests.support.patience import PATIENCE

pytestmark = needs("docker", "busybox", "root")


def run(runtime: DockerRuntime, job: Job) -> Exit:
    """Run a job that nobody stops."""
    return runtime.run(job, Stop())


def until(true: object, seconds: float = 10.0) -> None:
    """Poll ``true()`` until it is."""
    assert callable(true)
    deadline = time.monotonic() + seconds * PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_output_exit_code_and_place_are_the_programs_own(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    script = 'pwd; echo "$HOME $GREETING"; id -u; echo oops >&2; touch made; exit 3'
    job = make_job(tmp_path, "sh", "-c", script, environment={"GREETING": "hello"})
    end = run(docker_runtime, job)
    assert end.exit_code == 3
    assert job.stdout.read_text() == "/task\n/task hello\n65532\n"
    assert job.stderr.read_text() == "oops\n"
    assert (job.workspace / "made").exists()
    assert (end.stopped, end.start_error, end.oom_kills, end.output_bytes) == (None, "", 0, 29)


def test_bytes_pass_unchanged(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    data = bytes(range(256)) * 400
    job = make_job(tmp_path, "cat", input=data)
    assert run(docker_runtime, job).exit_code == 0
    assert job.stdout.read_bytes() == data


@pytest.mark.parametrize("data", [b"", b"x" * 3_000_000])
def test_input_that_nobody_reads_holds_nobody_up(docker_runtime: DockerRuntime, tmp_path: Path, data: bytes) -> None:
    assert run(docker_runtime, make_job(tmp_path, "true", input=data)).exit_code == 0


def test_without_input_the_program_reads_the_end_of_file(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    assert run(docker_runtime, make_job(tmp_path, "cat", limits={"time": f"{5 * PATIENCE:g}s"})).exit_code == 0


def test_equal_paths_merge_the_streams(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    script = "echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three"
    job = make_job(tmp_path, "sh", "-c", script, merged=True)
    run(docker_runtime, job)
    assert job.stdout.read_text() == "one\ntwo\nthree\n"


def test_output_over_the_limit_is_counted_and_the_program_unharmed(
    docker_runtime: DockerRuntime, tmp_path: Path
) -> None:
    job = make_job(tmp_path, "sh", "-c", "head -c 5000000 /dev/zero; exit 4", limits={"output": 1000})
    end = run(docker_runtime, job)
    assert (end.exit_code, end.output_bytes, end.output_cut_bytes) == (4, 5_000_000, 4_999_000)
    assert job.stdout.stat().st_size == 1000


def test_program_that_closes_its_output_is_waited_for(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    job = make_job(tmp_path, "sh", "-c", "exec >&- 2>&-; sleep 1; exit 5")
    end = run(docker_runtime, job)
    assert end.exit_code == 5
    assert end.usage.wall_seconds > 0.9


@pytest.mark.parametrize(
    ("program", "code", "why"),
    [
        ("no-such-program", 127, "No such file"),
        ("/etc", 126, "Permission denied"),
        ("./plain", 126, "Permission denied"),
        ("./unreachable", 127, "No such file"),
    ],
)
def test_program_that_cannot_be_executed_is_named(
    docker_runtime: DockerRuntime, tmp_path: Path, program: str, code: int, why: str
) -> None:
    job = make_job(tmp_path, program)
    (job.workspace / "plain").write_text("data")
    (job.workspace / "unreachable").write_text("#!/no/such/interpreter\n")
    (job.workspace / "unreachable").chmod(0o755)
    end = run(docker_runtime, job)
    assert end.exit_code == code
    assert program in end.start_error
    assert why in end.start_error


def test_exit_127_of_a_shell_is_the_programs_own(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    end = run(docker_runtime, make_job(tmp_path, "sh", "-c", "no-such-command"))
    assert (end.exit_code, end.start_error) == (127, "")


def test_signals_are_seen(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    assert run(docker_runtime, make_job(tmp_path, "sh", "-c", "kill -ABRT $$")).exit_code == 128 + 6
    assert run(docker_runtime, make_job(tmp_path, "sh", "-c", "kill -KILL $$")).exit_code == 128 + 9


def test_time_limit_ends_the_whole_tree_at_once(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    script = "trap '' TERM; (trap '' TERM; sleep 60) & setsid sleep 60 & while :; do sleep 1; done"
    end = run(docker_runtime, make_job(tmp_path, "sh", "-c", script, limits={"time": "500ms"}))
    assert end.stopped is StopCause.TIME_LIMIT
    assert 0.5 <= end.usage.wall_seconds < 0.5 + 0.5 * PATIENCE


def test_cpu_time_limit_counts_all_processes(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    script = "for i in 1 2 3; do (while :; do :; done) & done; wait"
    end = run(
        docker_runtime,
        make_job(tmp_path, "sh", "-c", script, limits={"cpu_time": "400ms", "time": f"{20 * PATIENCE:g}s"}),
    )
    assert end.stopped is StopCause.CPU_TIME_LIMIT
    assert 0.4 <= end.usage.cpu_seconds < 0.4 + 0.5 * PATIENCE


def test_child_killed_for_want_of_memory_is_seen_though_the_program_exits_0(
    docker_runtime: DockerRuntime, tmp_path: Path
) -> None:
    script = "dd if=/dev/zero of=/dev/null bs=60M count=1; exit 0"
    end = run(docker_runtime, make_job(tmp_path, "sh", "-c", script, limits={"memory": "16M"}))
    assert end.exit_code == 0
    assert end.oom_kills >= 1
    assert end.usage.memory_peak_bytes is not None
    assert end.usage.memory_peak_bytes >= 15 << 20


def test_refused_forks_are_counted(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait"
    assert run(docker_runtime, make_job(tmp_path, "sh", "-c", script, limits={"pids": 4})).pids_refused >= 1


def test_one_process_is_enough_for_one_program(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    end = run(docker_runtime, make_job(tmp_path, "true", limits={"pids": 1}))
    assert (end.exit_code, end.pids_refused, end.usage.pids_peak) == (0, 0, 1)


def test_cancelled_program_is_asked_first(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    job = make_job(tmp_path, "sh", "-c", "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.1; done")
    end = _stopped(docker_runtime, job, StopCause.CANCELLED)
    assert (end.stopped, end.stop_reason, end.exit_code) == (StopCause.CANCELLED, "enough", 9)
    assert job.stdout.read_text() == "ready\nbye\n"


def test_program_that_does_not_listen_is_ended_after_the_grace(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    job = make_job(tmp_path, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    began = time.monotonic()
    end = _stopped(docker_runtime, job, StopCause.CANCELLED)
    assert (end.stopped, end.exit_code) == (StopCause.CANCELLED, 137)
    assert 2.0 <= time.monotonic() - began < 8.0 * PATIENCE


def test_nothing_starts_when_the_end_is_wished_before(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    stop = Stop()
    stop.request(StopCause.CANCELLED, "too late")
    job = make_job(tmp_path, "touch", "ran")
    end = docker_runtime.run(job, stop)
    assert (end.exit_code, end.stopped) == (None, StopCause.CANCELLED)
    assert not (job.workspace / "ran").exists()


def test_kill_ends_a_job_from_outside(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    job = make_job(tmp_path, "sh", "-c", "echo ready; sleep 60")
    ends: list[Exit] = []
    thread = threading.Thread(target=lambda: ends.append(run(docker_runtime, job)))
    thread.start()
    until(lambda: job.stdout.exists() and job.stdout.read_text())
    docker_runtime.kill(job.attempt)
    thread.join(10 * PATIENCE)
    assert ends[0].exit_code == 137
    docker_runtime.kill("never-heard-of")


def test_cores_are_pinned(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    job = make_job(tmp_path, "grep", "Cpus_allowed_list", "/proc/self/status", cores=(1,))
    run(docker_runtime, job)
    assert job.stdout.read_text().split()[1] == "1"


def test_container_and_group_are_gone_soon(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    job = make_job(tmp_path, "true")
    run(docker_runtime, job)
    engine = Engine()
    until(lambda: not engine.labelled({profile.LABEL_ATTEMPT: job.attempt}))
    until(lambda: not list(Path("/sys/fs/cgroup").rglob(job.attempt)))
    engine.close()


def test_same_job_asked_for_again_is_not_run_again(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    job = make_job(tmp_path, "sh", "-c", "echo once >> log; exit 6")
    first = run(docker_runtime, job)
    assert run(docker_runtime, job) == first
    assert (job.workspace / "log").read_text() == "once\n"


def test_foreign_container_of_that_name_is_a_fault_and_stays(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    job = make_job(tmp_path, "true")
    engine = Engine()
    foreign = engine.create(profile.container_name(job.attempt), {"Image": job.image, "Cmd": ["true"]})
    try:
        with pytest.raises(NodeFault, match="in the way"):
            run(docker_runtime, job)
        assert engine.inspect(foreign)["Id"] == foreign
    finally:
        engine.remove(foreign)
        engine.close()


def test_image_that_is_not_there_is_a_fault(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    with pytest.raises(NodeFault, match="no-such-image"):
        run(docker_runtime, make_job(tmp_path, "true", image="no-such-image:1"))


def test_engine_that_does_not_answer_is_a_fault(tmp_path: Path) -> None:
    runtime = DockerRuntime("test-nobody", f"unix://{tmp_path}/no.sock")
    with pytest.raises(NodeFault, match="does not answer"):
        runtime.probe()
    with pytest.raises(NodeFault, match="does not answer"):
        runtime.run(make_job(tmp_path, "true"), Stop())
    assert runtime.engine.started_at() is None
    assert not runtime.engine.answers()


def test_long_tasks_have_a_series(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    usage = run(docker_runtime, make_job(tmp_path, "sleep", "2.3")).usage
    assert [round(point.t) for point in usage.series] == [1, 2]
    assert usage.series[0].pids == 1


def test_engine_refuses_in_its_own_words() -> None:
    engine = Engine()
    with pytest.raises(EngineError, match="No such container"):
        engine.inspect("no-such-container")
    engine.close()


def _stopped(runtime: DockerRuntime, job: Job, cause: StopCause) -> Exit:
    """Run a job, and wish its end as soon as it has said something."""
    stop, ends = Stop(), list[Exit]()
    thread = threading.Thread(target=lambda: ends.append(runtime.run(job, stop)))
    thread.start()
    until(lambda: job.stdout.exists() and job.stdout.read_text())
    assert stop.request(cause, "enough")
    thread.join(15 * PATIENCE)
    return ends[0]
