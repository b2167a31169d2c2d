"""Stories of the examples: every folder is a valid task, and the table in their README tells the verdict of each."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tasks.spec import parse_spec
from tasks.verdicts import Verdict

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FOLDERS = sorted(path.parent for path in EXAMPLES.glob("*/task.json"))
ROW = re.compile(r"^\| \[([a-z-]+)\]\(\1\) \|[^|]*\| `([a-z_]+)`", re.MULTILINE)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_example_is_a_valid_task_whose_files_exist(folder: Path) -> None:
    spec = parse_spec(json.loads((folder / "task.json").read_text()), default_name=folder.name)
    assert spec.name == folder.name
    wanted = {file.path for file in spec.files.values() if file.path}
    assert {path for path in wanted if not (folder / path).is_file()} == set()


def test_the_table_lists_every_example_with_a_known_verdict() -> None:
    table = dict(ROW.findall((EXAMPLES / "README.md").read_text()))
    assert sorted(table) == [folder.name for folder in FOLDERS]
    assert set(table.values()) <= set(Verdict)
