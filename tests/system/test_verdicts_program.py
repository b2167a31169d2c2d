"""Verdicts about what the program did, each brought about for real through the whole grid.

The tasks of all tests are submitted at once, so that they run side by side; each test then looks at its own.
"""

from __future__ import annotations

from typing import Any

import pytest

from grid import Result, Task
from tests.support.grids import RunningGrid

pytestmark = pytest.mark.needs("docker", "busybox", "root")

LIKENESS = {"collect": [{"glob": "result.txt", "required": True}]}
PROGRAMS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "success": (("sh", "-c", "cat in; echo done >&2"), {"stdout": "out", "files": {"in": "hello\n"}}),
    "exit code": (("sh", "-c", "echo half > part; exit 3"), {"collect": [{"glob": "part"}]}),
    "not found": (("no-such-program", "-v"), {}),
    "not found by a shell": (("sh", "-c", "no-such-program"), {}),
    "not executable": (("./data",), {"files": {"data": "words\n"}}),
    "segmentation fault": (("sh", "-c", "kill -SEGV $$"), {}),
    "killed itself": (("sh", "-c", "kill -KILL $$"), {}),
    "abort": (("sh", "-c", "kill -ABRT $$"), {}),
    "missing output": (("sh", "-c", "echo 1 > results.txt; mkdir d; echo 2 > d/unlike"), LIKENESS),
    "missing, and exit 1": (("sh", "-c", "exit 1"), LIKENESS),
    "only if there": (("true",), {"collect": [{"glob": "result.txt"}]}),
}


@pytest.fixture(scope="module")
def tasks(grid: RunningGrid) -> dict[str, Task]:
    """All tasks of this file, under way."""
    return {name: grid.submit(*args, name=name, **spec) for name, (args, spec) in PROGRAMS.items()}


def of_user(task: Task) -> Result:
    """The result of a task that failed by its own fault: tried once, and the attempt tells the same."""
    result = task.wait(60)
    assert result.verdict_class == "user", result
    [attempt] = task.attempts()
    assert (attempt.verdict, attempt.reason) == (result.verdict, result.reason)
    assert task.state == "failed"
    return result


def test_success(tasks: dict[str, Task]) -> None:
    result = tasks["success"].wait(60)
    assert (result.verdict, result.verdict_class, result.exit_code) == ("succeeded", "success", 0)
    assert result.reason.startswith("exit 0 after ")
    assert result.files["out"].read_text() == "hello\n"
    assert "".join(tasks["success"].logs(stream="stderr")) == "done\n"


def test_an_exit_code_brings_the_files_home(tasks: dict[str, Task]) -> None:
    result = of_user(tasks["exit code"])
    assert (result.verdict, result.exit_code) == ("exit_code", 3)
    assert result.reason == "the program exited with 3"
    assert result.files["part"].read_text() == "half\n"


def test_127_names_the_program(tasks: dict[str, Task]) -> None:
    result = of_user(tasks["not found"])
    assert (result.verdict, result.exit_code) == ("exit_code", 127)
    assert result.reason.startswith('the program "no-such-program" was not found (exit 127): ')
    assert "./a.out" in result.advice


def test_127_of_a_shell_is_told_apart(tasks: dict[str, Task]) -> None:
    result = of_user(tasks["not found by a shell"])
    assert (result.verdict, result.exit_code) == ("exit_code", 127)
    assert result.reason == 'the program exited with 127, by which shells say "command not found"'
    assert "stderr" in result.advice
    assert "no-such-program: not found" in "".join(tasks["not found by a shell"].logs(stream="stderr"))


def test_126_names_the_program(tasks: dict[str, Task]) -> None:
    result = of_user(tasks["not executable"])
    assert (result.verdict, result.exit_code) == ("exit_code", 126)
    assert result.reason.startswith('the program "./data" could not be executed (exit 126): ')
    assert "ermission denied" in result.reason
    assert "chmod +x" in result.advice


def test_signals_by_name(tasks: dict[str, Task]) -> None:
    result = of_user(tasks["segmentation fault"])
    assert (result.verdict, result.exit_code) == ("signal", 139)
    assert result.reason == "the program was ended by signal SIGSEGV (segmentation fault), exit 139"
    assert "bad pointer" in result.advice
    result = of_user(tasks["abort"])
    assert result.reason == "the program was ended by signal SIGABRT (abort), exit 134"


def test_a_program_that_kills_itself_met_no_limit(tasks: dict[str, Task]) -> None:
    result = of_user(tasks["killed itself"])
    assert (result.verdict, result.exit_code) == ("signal", 137)
    assert result.reason == "the program was ended by signal SIGKILL (killed from outside), exit 137"


def test_missing_output_with_the_names_that_are_near(tasks: dict[str, Task]) -> None:
    result = of_user(tasks["missing output"])
    assert (result.verdict, result.exit_code) == ("missing_output", 0)
    assert result.reason == 'the program exited with 0, but left no file that matches "result.txt"'
    assert result.advice == 'there is "results.txt"'


def test_a_failure_comes_before_the_output_that_is_missing_for_it(tasks: dict[str, Task]) -> None:
    result = of_user(tasks["missing, and exit 1"])
    assert (result.verdict, result.reason) == ("exit_code", "the program exited with 1")


def test_output_that_need_not_be_there(tasks: dict[str, Task]) -> None:
    result = tasks["only if there"].wait(60)
    assert result.verdict == "succeeded"
    assert "result.txt" not in result.files
