"""Verdicts about what the program did, each brought about for real through the whole grid."""

from __future__ import annotations

import pytest

from tests.support.grids import RunningGrid

pytestmark = pytest.mark.needs("docker", "busybox", "root")


def test_success(grid: RunningGrid) -> None:
    result = grid.run("echo", "hello", stdout="out")
    assert (result.verdict, result.verdict_class) == ("succeeded", "success")
    assert result.reason.startswith("exit 0 after ")
    assert result.files["out"].read_text() == "hello\n"
