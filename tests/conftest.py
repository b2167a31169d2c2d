"""What every test may rely on: a missing part of the machine skips a test at home and fails it in CI."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

from tests.support.needs import missing

CI = os.environ.get("CI", "").lower() in {"true", "1"}

# No deadlines: a busy machine is not a fault. In CI the same examples each time, so that a red run can be repeated.
settings.register_profile("grid", deadline=None, derandomize=CI)
settings.load_profile("grid")

# Shells start what runs in the background with Ctrl-C ignored, and every program of a test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

needs = pytest.mark.needs
"""``@needs("docker", "gcc")``: the test cannot run without these parts of the machine (see ``tests.support.needs``)."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose needs are not met; in CI (``CI=true``) nothing may be missing, so there it fails."""
    wanted = [part for marker in item.iter_markers("needs") for part in marker.args]
    reasons = "; ".join(filter(None, map(missing, wanted)))
    if not reasons:
        return
    if CI:
        pytest.fail(f"CI must have every part: {reasons}", pytrace=False)
    pytest.skip(reasons)
