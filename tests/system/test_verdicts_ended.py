"""Verdicts about tasks that somebody or something ended before their program did: cancelled, expired, skipped.

At the end stands that no verdict was forgotten, here and among the faults that are injected.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.verdicts import Verdict
from tests.support.grids import RunningGrid
from tests.support.node_api import eventually

pytestmark = pytest.mark.needs("docker", "busybox", "root")

SLEEPS = ("sh", "-c", "echo ready; echo kept > part; sleep 60; echo late")


def test_a_running_task_is_cancelled_by_somebody_for_a_reason_and_brings_its_files_home(grid: RunningGrid) -> None:
    task = grid.submit(*SLEEPS, stdout="out", collect=[{"glob": "part"}])
    eventually(lambda: "ready" in "".join(task.logs()))
    task.cancel("the wrong folder")
    result = task.wait(30)
    assert (result.verdict, result.verdict_class) == ("cancelled", "cancelled")
    assert result.reason == "cancelled by admin: the wrong folder"
    assert task.state == "cancelled"
    assert result.files["out"].read_text() == "ready\n"
    assert result.files["part"].read_text() == "kept\n"
    [attempt] = task.attempts()
    assert attempt.verdict == "cancelled"
    assert any(event.kind == "cancel_requested" and event.data["by"] == "admin" for event in task.events())


def test_tasks_that_wait_are_cancelled_or_expire_without_an_attempt(grid: RunningGrid) -> None:
    holder = grid.submit(*SLEEPS, resources={"seat": 1})
    eventually(lambda: holder.refresh().state == "running")
    queued = grid.submit("true", resources={"seat": 1})
    hasty = grid.submit("true", resources={"seat": 1}, expires="1s")
    queued.cancel()
    result = queued.wait(5)
    assert (result.verdict, result.verdict_class) == ("cancelled", "cancelled")
    assert result.reason == "cancelled by admin"
    result = hasty.wait(30)
    assert (result.verdict, result.verdict_class) == ("expired", "cancelled")
    assert result.reason == "the task had not started when its time to start was over"
    assert hasty.state == "expired"
    assert (queued.attempts(), hasty.attempts()) == ((), ())
    holder.cancel()
    assert holder.wait(30).verdict == "cancelled"


def test_what_was_to_run_after_a_failure_is_skipped_with_all_that_follows(grid: RunningGrid) -> None:
    first = grid.submit("sh", "-c", "sleep 0.5; exit 3", name="first")
    second = grid.submit("true", name="second", after=[first.id])
    third = grid.submit("true", name="third", after=[second.id])
    result = second.wait(60)
    assert (result.verdict, result.verdict_class) == ("skipped", "cancelled")
    assert result.reason == f"it was to run after first ({first.id}), which did not succeed"
    assert second.state == "skipped"
    assert third.wait(30).reason == f"it was to run after second ({second.id}), which did not succeed"
    assert (second.attempts(), third.attempts()) == ((), ())


def test_every_verdict_is_brought_about_for_real() -> None:
    here = Path(__file__).parent
    faults = (here.parent / "faults").glob("test_*.py")
    told = (*here.glob("test_verdicts_*.py"), here / "test_fleet.py", *faults)
    stories = "".join(path.read_text() for path in told)
    assert [verdict for verdict in Verdict if f'"{verdict}"' not in stories] == []
