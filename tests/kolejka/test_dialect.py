"""Our reading of kolejka's JSON is that of kolejka's own classes, example by example."""

from __future__ import annotations

import json
import subprocess
from itertools import product
from typing import Any

from tasks.dialects.kolejka import read_task, write_limits, write_task
from tasks.errors import SpecError
from tasks.limits import Limits
from tasks.spec import parse_spec
from tests.support.kolejkas import PROGRAMS, kolejka_python, plain_environment

SIZES = ("64M", "64MB", "10kB", "1.5G", 67108864, "67108864", "67108864b", " 64m ", "1GiB", "x", "", "8mK", 7e7)
TIMES = ("1s", "500ms", "1m", "2M", "1H", "3D", "1W", 10, "10", 0.25, "1h", "1min", "100us", "5000µ", "1e2s")
WHOLE = ("1", 1, 1.9, " 2 ", "1.5", "x", None)
SWITCHES = (True, False, "no", "NO ", "0", 0, 1, "false", "False", None)
BASE: dict[str, Any] = {"image": "ubuntu", "args": ["uname"]}
LIMITS: list[dict[str, Any]] = [
    *({name: one} for name, one in product(("memory", "swap", "storage"), SIZES)),
    *({"time": one} for one in TIMES),
    *({name: one} for name, one in product(("cpus", "pids", "gpus"), WHOLE)),
    *({"gpus": 1, "gpu_memory": one} for one in SIZES),
    {"gpus": 0, "gpu_memory": "1G"},
]
EXAMPLES: list[dict[str, Any]] = [
    *({**BASE, "exclusive": one} for one in SWITCHES),
    {**BASE, "args": ["sleep", 1, 2.5, None, True, ["x"]]},
    {**BASE, "environment": {"A": 1, "B": None}, "requires": ["cpu:amd"]},
    {**BASE, "stdout": "a", "stderr": "a", "callback_url": "https://host/x"},
    {**BASE, "collect": [{"glob": "a/*", "strip": "1", "prefix": "/p/"}, {"glob": "b"}, {"glob": "c", "strip": 0}]},
    {**BASE, "files": {"a": {"reference": "0" * 64}, "b/c": {"reference": "1" * 64, "path": "x"}}, "stdin": "a"},
]


def kolejkas(descriptions: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
    """What kolejka's own classes make of each, without paths of the sender's and what is said to be false."""
    command = [str(kolejka_python()), str(PROGRAMS / "dump_tasks.py")]
    text = json.dumps(descriptions)
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, check=True, env=plain_environment(), cwd=PROGRAMS
    )
    return [comparable(one) for one in json.loads(done.stdout)]


def comparable(dump: dict[str, Any] | None) -> dict[str, Any] | None:
    """What of kolejka's dump is meant to be the same."""
    if dump is None:
        return None
    files = {name: {"reference": file["reference"]} for name, file in dump["files"].items()}
    return {**{key: value for key, value in dump.items() if value is not False}, "files": files}


def our_limits(limits: dict[str, Any]) -> dict[str, Any] | None:
    """The limits as our dialect reads them, before anybody asks whether they are sensible."""
    try:
        read = read_task({**BASE, "limits": limits}, network_allowed=False).spec.get("limits", {})
    except SpecError:
        return None
    return write_limits(Limits.model_construct(**read))


def our_task(data: dict[str, Any]) -> dict[str, Any]:
    """The task through our own words and back."""
    spec = parse_spec(read_task(data, network_allowed=False).spec)
    written = write_task(spec, "", spec.limits)
    del written["id"]
    return written


def test_units_are_read_as_kolejka_reads_them() -> None:
    expected = kolejkas([{**BASE, "limits": limits} for limits in LIMITS])
    for limits, one in zip(LIMITS, expected, strict=True):
        assert our_limits(limits) == (None if one is None else one["limits"]), limits


def test_tasks_are_read_as_kolejka_reads_them() -> None:
    for example, one in zip(EXAMPLES, kolejkas(EXAMPLES), strict=True):
        assert our_task(example) == one, example
