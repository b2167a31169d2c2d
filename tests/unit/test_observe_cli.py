"""Stories of ``grid observe`` before and after the command: its options, its verdicts, its words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grid import observing
from grid.cli.app import app
from grid.cli.exits import BAD_INPUT, NOT_RUN, status_of
from observer.running import Ran
from observer.stats import Ended
from tasks.verdicts import Verdict

STATS = {
    "cpu": {"usage": "1.5s", "user": "1.0s", "system": "0.5s"},
    "memory": {"max_usage": "4096b", "oom_kills": 0},
    "pids": {"max_usage": 3, "failures": 0},
    "perf": {"instructions": 2000},
}


def ran(code: int | None = 0, ended: Ended | None = Ended.CLOSED, error: str = "", **stats: object) -> Ran:
    return Ran(code, 2.0, {**STATS, **stats}, ended, error=error)


@pytest.mark.parametrize(
    ("how", "limits", "verdict", "status"),
    [
        (ran(), {}, Verdict.SUCCEEDED, 0),
        (ran(7), {}, Verdict.EXIT_CODE, 7),
        (ran(-11), {}, Verdict.SIGNAL, 139),
        (ran(-9, Ended.TIME_LIMIT), {"time": 2.0}, Verdict.TIME_LIMIT, 124),
        (ran(-9, Ended.CPU_TIME_LIMIT), {"cpu_time": 1.0}, Verdict.CPU_TIME_LIMIT, 124),
        (ran(-9, Ended.PERF_LIMIT), {"perf_instructions": 1000}, Verdict.CPU_TIME_LIMIT, 124),
        (ran(-9, memory={"oom_kills": 1}), {"memory": 1 << 20}, Verdict.MEMORY_LIMIT, 137),
        (ran(0, memory={"oom_kills": 1}), {"memory": 1 << 20}, Verdict.MEMORY_LIMIT, 1),
        (ran(2, pids={"failures": 4}), {"pids": 3}, Verdict.PIDS_LIMIT, 2),
        (ran(None, None, "No such file or directory: nosuch"), {}, Verdict.EXIT_CODE, 127),
        (ran(None, None, "Permission denied: notes.txt"), {}, Verdict.EXIT_CODE, 126),
    ],
)
def test_a_command_is_judged_as_a_task_is(how: Ran, limits: dict[str, float], verdict: Verdict, status: int) -> None:
    judgement = observing.judged(how, limits, ["prog"])
    assert judgement.verdict is verdict
    told = observing.summary(how, limits, ["prog"], judgement)
    code = told["exit_code"]
    assert code is None or isinstance(code, int)
    assert status_of(judgement.verdict, judgement.verdict_class, code) == status


def test_the_report_tells_what_was_used_and_which_events_were_too_many() -> None:
    how = ran(-9, Ended.PERF_LIMIT)
    judgement = observing.judged(how, {"perf_instructions": 1000}, ["prog"])
    assert judgement.reason == "the program was ended after 2000 instructions, its limit is 1000"
    used = observing.summary(how, {}, ["prog"], judgement)["usage"]
    assert isinstance(used, dict)
    assert (used["cpu_seconds"], used["memory_peak_bytes"], used["instructions"]) == (1.5, 4096, 2000)


def test_a_wrong_amount_is_a_wrong_option() -> None:
    assert CliRunner().invoke(app, ["observe", "--time", "2x", "--", "true"]).exit_code == BAD_INPUT


def test_without_an_observer_it_says_so(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["observe", "--socket", str(tmp_path / "none"), "--", "true"])
    assert done.exit_code == NOT_RUN
    assert "none" in done.output


@pytest.mark.needs("root")
def test_root_needs_no_observer(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = CliRunner().invoke(app, ["observe", "--report", str(report), "--memory", "64M", "--", "sh", "-c", "exit 3"])
    told = json.loads(report.read_text())
    assert (done.exit_code, told["verdict"], told["exit_code"]) == (3, "exit_code", 3)
    assert told["limits"] == {"memory": 64 << 20}
