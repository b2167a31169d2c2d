"""Stories of what may be imported: the public names need no Django, and the pure packages stay pure."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# pydantic_core is the half of pydantic that is written in Rust; the types of its errors live there.
ALLOWED = [("tasks", {"tasks", "pydantic", "pydantic_core"}), ("observer", {"observer"})]
HEAVY = ("django", "celery", "kombu", "docker", "flower")


def in_new_python(program: str) -> str:
    """What the program prints in an interpreter that has imported nothing of ours yet."""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("program", ["import grid", "import grid; grid.submit; grid.Task", "import grid.client"])
def test_the_python_api_loads_neither_django_nor_celery(program: str) -> None:
    heavy = in_new_python(f"{program}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))")
    assert heavy == ""


def test_submit_stays_a_function_on_second_access() -> None:
    # A module grid/submit.py would take the function's place as soon as anybody imported it.
    assert (
        in_new_python("import grid\ngrid.submit\nfirst = grid.submit\nprint(callable(first) and first is grid.submit)")
        == "True"
    )
    assert not (ROOT / "grid" / "submit.py").exists()


def test_every_public_name_of_grid_is_there() -> None:
    assert in_new_python("import grid\nprint(*(name for name in grid.__all__ if not hasattr(grid, name)))") == ""


def imported_packages(folder: Path) -> Iterator[tuple[str, str]]:
    """(file, top-level package) of every absolute import in the folder, at any depth of the code."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names = [node.module]
            yield from ((path.name, name.partition(".")[0]) for name in names)


@pytest.mark.parametrize(("package", "allowed"), ALLOWED)
def test_the_lowest_packages_import_nothing_foreign(package: str, allowed: set[str]) -> None:
    # The import contracts name what is forbidden; this also finds a requirement that nobody listed there.
    found = set(imported_packages(ROOT / package))
    assert found, "the package has no imports at all: is the folder right?"
    assert {(file, name) for file, name in found if name not in allowed | sys.stdlib_module_names} == set()
