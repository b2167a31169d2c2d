"""Stories of the reference of ``task.json``: it is made from the schema, and it is noticed when it is out of date."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.spec import json_schema

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "task-reference.md"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts" / "lib" / "reference.py"))


def test_the_page_in_the_repository_is_what_the_script_writes(script: dict[str, Any]) -> None:
    assert script["document"]() == PAGE.read_text(encoding="utf-8"), "run scripts/reference"


def test_the_page_has_a_row_for_every_key_of_the_schema() -> None:
    schema = json_schema()
    parts = [schema, *schema["$defs"].values()]
    keys = [name for part in parts for name in part["properties"] if name != "$schema"]
    page = PAGE.read_text(encoding="utf-8")
    assert len(keys) > 30
    assert [name for name in keys if f"\n| `{name}` |" not in page] == []


def test_an_outdated_page_is_found_and_then_mended(
    script: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main: Callable[[list[str], Path], int] = script["main"]
    page = tmp_path / "task-reference.md"
    page.write_text(PAGE.read_text(encoding="utf-8").replace("`memory`", "`ram`"), encoding="utf-8")

    assert main(["--check"], page) == 1
    assert "task-reference.md is out of date; run scripts/reference" in capsys.readouterr().err

    assert main([], page) == 0
    assert main(["--check"], page) == 0
