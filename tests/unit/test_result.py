"""The result: kolejka's readers find what they look for, and everybody else the verdict, the times and the proof."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tasks.limits import Limits
from tasks.outcome import Evidence, Outcome, OutputFile, PhaseTimes, Usage
from tasks.result import Result, RunFacts, TaskFacts, build_result, input_hashes, kolejka_limits
from tasks.spec import parse_spec, spec_hash
from tasks.verdicts import Verdict, VerdictClass, judge, other

SPEC = parse_spec(
    {
        "name": "sort",
        "image": "ubuntu",
        "args": ["sort"],
        "files": {"in.txt": {"reference": "ab" * 32}, "c.txt": {"content": "3 4\n"}, "local": None},
        "stdin": "in.txt",
        "stdout": "stdout.txt",
        "limits": {"memory": "64M", "cpus": "1", "pids": "16", "time": "1s"},
    }
)
QUEUED = datetime(2024, 5, 1, 12, 0, 0, tzinfo=UTC)
TASK = TaskFacts(id="t1", spec=SPEC, queued_at=QUEUED, finished_at=QUEUED + timedelta(seconds=3.5))
OUTCOME = Outcome(
    attempt="a1",
    token="secret token",
    evidence=Evidence(exit_code=0, pids_refused=0),
    usage=Usage(
        wall_seconds=0.45,
        cpu_seconds=0.2,
        cpu_user_seconds=0.15,
        cpu_system_seconds=0.05,
        memory_peak_bytes=1048576,
        pids_peak=3,
    ),
    phases=PhaseTimes(pull=0.5, run=0.45),
    limits=SPEC.limits,
    not_enforced=("storage",),
    image_digest="sha256:" + "cd" * 32,
    files=(OutputFile(path="stdout.txt", sha256="ef" * 32, size=7),),
)
RUN = RunFacts(
    id="a1",
    number=2,
    node="ralab04",
    tags=("cpu:amd", "hostname:ralab04"),
    started_at=QUEUED + timedelta(seconds=2),
    outcome=OUTCOME,
)


def finished() -> Result:
    return build_result(TASK, RUN, judge(OUTCOME.evidence, OUTCOME.usage, OUTCOME.limits, SPEC.args))


def test_kolejkas_readers_find_their_part() -> None:
    data = json.loads(finished().model_dump_json())
    assert {key: data[key] for key in ("id", "tags", "limits", "stats", "result", "stdout", "stderr", "files")} == {
        "id": "t1",
        "tags": ["cpu:amd", "hostname:ralab04"],
        "limits": {"memory": "67108864b", "cpus": 1, "pids": 16, "time": "1.0s"},
        "stats": {
            "cpu": {"usage": "0.2s", "user": "0.15s", "system": "0.05s"},
            "memory": {"max_usage": "1048576b", "failures": 0},
            "pids": {"max_usage": 3, "failures": 0},
            "time": "0.45s",
        },
        "result": 0,
        "stdout": "stdout.txt",
        "stderr": None,
        "files": {"stdout.txt": {"path": None, "reference": "ef" * 32, "size": 7, "executable": False}},
    }


def test_everybody_else_finds_the_reason_the_times_and_the_proof() -> None:
    data = json.loads(finished().model_dump_json())
    assert data["verdict"] == "succeeded"
    assert data["class"] == "success"
    assert data["reason"] == "exit 0 after 450ms"
    assert (data["name"], data["attempt"], data["attempt_id"], data["node"]) == ("sort", 2, "a1", "ralab04")
    assert data["queued_at"] == "2024-05-01T12:00:00.000Z"
    assert data["started_at"] == "2024-05-01T12:00:02.000Z"
    assert data["finished_at"] == "2024-05-01T12:00:03.500Z"
    assert data["phases"] == {"queue": 2.0, "stage_in": 0.0, "pull": 0.5, "run": 0.45, "collect": 0.0, "upload": 0.0}
    assert data["usage"]["memory_peak_bytes"] == 1048576
    assert data["not_enforced"] == ["storage"]
    assert data["image_digest"] == "sha256:" + "cd" * 32
    assert data["provenance"] == {
        "spec_hash": spec_hash(SPEC),
        "inputs": {"in.txt": "ab" * 32, "c.txt": hashlib.sha256(b"3 4\n").hexdigest()},
    }


def test_a_result_survives_the_wire_and_tells_no_token() -> None:
    result = finished()
    text = result.model_dump_json()
    assert Result.model_validate_json(text) == result
    assert OUTCOME.token not in text
    assert result.exit_code == 0
    assert result.succeeded


def test_the_limits_can_be_read_back() -> None:
    assert Limits.model_validate(finished().limits) == SPEC.limits


def test_a_task_that_never_ran_has_a_result_too() -> None:
    result = build_result(TASK, None, other(Verdict.EXPIRED, "not started within 2h"))
    assert result.verdict_class is VerdictClass.CANCELLED
    assert not result.succeeded
    assert (result.attempt, result.node, result.started_at, result.exit_code, result.stats) == (0, "", None, None, None)
    assert result.phases == PhaseTimes()
    assert result.stdout == "stdout.txt"
    assert result.files == {}


def test_an_attempt_whose_node_was_lost_is_named() -> None:
    run = RunFacts(id="a1", number=1, node="ralab04")
    result = build_result(TASK, run, other(Verdict.NODE_LOST, "ralab04 has been silent for 30s"))
    assert (result.attempt, result.node, result.phases.queue, result.exit_code) == (1, "ralab04", 0.0, None)


def test_a_wait_that_the_server_measured_is_kept() -> None:
    phases = OUTCOME.phases.model_copy(update={"queue": 1.25})
    run = RunFacts(
        id="a1", number=1, node="n", started_at=RUN.started_at, outcome=OUTCOME.model_copy(update={"phases": phases})
    )
    assert build_result(TASK, run, other(Verdict.SUCCEEDED, "exit 0")).phases.queue == 1.25


def test_times_are_told_in_utc_and_must_have_a_zone() -> None:
    there = timezone(timedelta(hours=2))
    local = TaskFacts(id="t", spec=SPEC, queued_at=QUEUED.astimezone(there), finished_at=QUEUED.astimezone(there))
    assert build_result(local, None, other(Verdict.SKIPPED, "x")).queued_at == "2024-05-01T12:00:00.000Z"
    naive = TaskFacts(id="t", spec=SPEC, queued_at=QUEUED.replace(tzinfo=None), finished_at=QUEUED)
    with pytest.raises(ValueError, match="without its zone"):
        build_result(naive, None, other(Verdict.SKIPPED, "x"))


def test_kolejkas_units() -> None:
    limits = Limits(cpus=0.5, time=0.25, cpu_time=90.0, swap=0, network=False, gpu_memory=1024, files=5)
    assert kolejka_limits(limits) == {
        "cpus": 0.5,
        "time": "0.25s",
        "cpu_time": "90.0s",
        "swap": "0b",
        "network": False,
        "gpu_memory": "1024b",
        "files": 5,
    }


def test_a_memory_peak_that_nobody_measured_is_left_open() -> None:
    run = RunFacts(id="a", number=1, node="n", outcome=OUTCOME.model_copy(update={"usage": Usage()}))
    stats = build_result(TASK, run, other(Verdict.SUCCEEDED, "exit 0")).stats
    assert stats is not None
    assert stats.memory.max_usage is None
    assert stats.time == "0.0s"


def test_only_known_contents_have_a_hash() -> None:
    assert set(input_hashes(SPEC)) == {"in.txt", "c.txt"}
