"""Fails when a Python file or function is larger than the house rules allow: 400 lines a file, 40 a function.

A function's lines are counted without its decorators and its docstring. Run as: budgets.py FOLDER_OR_FILE...
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_LINES = 400
FUNCTION_LINES = 40
NOT_OURS = {".venv", "migrations", "node_modules", "build"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(roots: list[str]) -> Iterator[Path]:
    """Every Python file under the roots, except generated and foreign ones."""
    for root in map(Path, roots):
        for path in [root] if root.is_file() else sorted(root.rglob("*.py")):
            if not NOT_OURS.intersection(path.parts):
                yield path


def body_lines(function: Function) -> int:
    """Lines from ``def`` to the end of the function, its docstring left out."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def faults(path: Path) -> Iterator[str]:
    """What in the file is over its budget, one line for each."""
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    if lines > FILE_LINES:
        yield f"{path}: {lines} lines (at most {FILE_LINES})"
    try:
        tree = ast.parse(text, filename=str(path))
    except SyntaxError as error:
        yield f"{path}:{error.lineno}: not Python: {error.msg}"
        return
    for node in ast.walk(tree):
        if isinstance(node, Function) and body_lines(node) > FUNCTION_LINES:
            yield f"{path}:{node.lineno}: {node.name} has {body_lines(node)} lines (at most {FUNCTION_LINES})"


def main(roots: list[str]) -> int:
    """Print every fault; 1 when there is one."""
    found = [fault for path in python_files(roots) for fault in faults(path)]
    print("\n".join(found) or "every file and function is within its budget")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
