"""Stories of the test images: the helper programs do what the tests of limits rely on."""

from __future__ import annotations

import subprocess

import pytest

from tests.support.images import BUSYBOX, docker, ensure_test_image, present, tagged

pytestmark = pytest.mark.needs("docker", "gcc")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """``docker run`` without a network; words are options, the image and the command."""
    command = ["docker", "run", "--rm", "--init", "--network", "none", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_killed_child_does_not_fail_the_program() -> None:
    done = run("--memory", "16m", "--memory-swap", "16m", ensure_test_image(), "child_memory")
    assert (done.returncode, done.stdout) == (0, "child killed by signal 9\n")


def test_the_forker_meets_the_limit_and_exits_well() -> None:
    done = run("--pids-limit", "16", ensure_test_image(), "forker")
    assert done.returncode == 0
    assert done.stdout.endswith("children, then EAGAIN\n")


def test_the_burner_uses_more_processor_time_than_wall_time() -> None:
    done = run(ensure_test_image(), "sh", "-c", "time -p burner 2 0.5")
    spent = dict(line.split() for line in done.stderr.splitlines())
    assert float(spent["real"]) >= 0.5
    assert float(spent["user"]) + float(spent["sys"]) > 0


def test_the_stubborn_program_outlives_a_polite_request() -> None:
    command = "stubborn & sleep 0.3; kill -TERM $!; sleep 0.3; ps -o args | grep -c '^stubborn'"
    assert run(ensure_test_image(), "sh", "-c", command).stdout.split() == ["ready", "2"]


def test_a_second_name_is_taken_away_again() -> None:
    ensure_test_image()
    with tagged("grid-test-second-name:latest") as name:
        assert docker("image", "inspect", "--format", "{{.Id}}", name) == docker(
            "image", "inspect", "--format", "{{.Id}}", BUSYBOX
        )
    assert not present("grid-test-second-name:latest")
    assert present(BUSYBOX)
