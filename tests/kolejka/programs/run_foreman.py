"""Runs kolejka's real foreman, made harmless: ``run_foreman.py CONFIG_FILE``, in the environment of its packages.

What talks to the server is the foreman's own code: it asks for tasks, forks a process for each wave, downloads,
uploads and reports. Taken away are the two things that it must not do on a machine that matters: it reboots nothing,
and in place of its worker, which needs Docker and the Internet, tasks run as plain processes in their folders.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any


def no_reset() -> None:
    """In place of the reboot through /proc/sysrq-trigger."""
    os._exit(70)


def plain_worker(task_path: str, result_path: str, **options: Any) -> None:
    """In place of ``kolejka.worker.stage0``: the program of the task, without a container."""
    from kolejka.common import KolejkaResult, KolejkaTask

    task = KolejkaTask(task_path)
    done = subprocess.run(task.args, cwd=task_path, capture_output=True, check=False)
    result = KolejkaResult(result_path)
    result.id, result.limits, result.result, result.stdout = task.id, task.limits, done.returncode, task.stdout
    result.stats.load({"time": "0.1s", "cpu": {"usage": "0.05s"}, "memory": {"max_usage": "1M"}})
    with open(os.path.join(result_path, task.stdout), "wb") as file:
        file.write(done.stdout)
    result.files.add(task.stdout)
    result.commit()


if __name__ == "__main__":
    from kolejka.common import kolejka_config
    from kolejka.foreman import foreman as real

    real.system_reset = no_reset
    real.stage0 = plain_worker
    real.check_python_volume = lambda: None
    kolejka_config(config_file=sys.argv[1])
    real.foreman()
