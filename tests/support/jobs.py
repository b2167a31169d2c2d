"""Making jobs for runtimes: a folder for each, sensible limits, whatever the test wants to be different."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from uuid import uuid4

from nodes.runtimes import Job
from tasks.limits import Limits
from tests.support.patience import PATIENCE

NODE = f"test-{uuid4().hex[:8]}"
"""The name under which this test process's containers run: it never touches those of another."""

IMAGE = "busybox:local"
_LIMITS: dict[str, object] = {"memory": "64M", "pids": 32, "time": f"{30 * PATIENCE:g}s", "output": "1M"}


def make_job(folder: Path, *args: str, **changes: Any) -> Job:
    """A job that runs ``args`` in busybox. ``limits`` are added to the usual ones, ``input`` is what it can read."""
    attempt = str(changes.pop("attempt", f"a{uuid4().hex[:12]}"))
    home = folder / attempt
    workspace = home / "work"
    workspace.mkdir(parents=True, exist_ok=True)
    job: dict[str, Any] = {"uid": 65532, "gid": 65532, **changes}
    os.chown(workspace, job["uid"], job["gid"])
    if (given := job.pop("input", None)) is not None:
        job["stdin"] = home / "stdin"
        job["stdin"].write_bytes(given)
    limits = Limits.model_validate({**_LIMITS, **job.pop("limits", {})})
    stdout = home / "stdout"
    stderr = stdout if job.pop("merged", False) else home / "stderr"
    return Job(
        **{
            "attempt": attempt,
            "task": f"task-{attempt}",
            "node": NODE,
            "image": IMAGE,
            "args": args,
            "environment": {},
            "workspace": workspace,
            "stdout": stdout,
            "stderr": stderr,
            "limits": limits,
            **job,
        }
    )
