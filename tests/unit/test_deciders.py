"""No decision reads the state of Celery or of the broker: a broker that was emptied changes nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What decides where a task goes: rows and values only.
DECIDERS = [
    *(
        f"grid/core/{name}.py"
        for name in ("dispatcher", "snapshot", "policy", "reading/explain", "offers", "intake", "records")
    ),
    *(str(path.relative_to(ROOT)) for path in (ROOT / "tasks" / "placement").glob("*.py")),
]
BROKERS = {"celery", "kombu", "redis", "valkey", "django_celery_results", "flower"}


@pytest.mark.parametrize("path", DECIDERS)
def test_no_placement_reads_the_state_of_celery_or_the_broker(path: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported if name.partition(".")[0] in BROKERS} == set()
