"""kolejka-judge, as it is on PyPI, judges solutions in C++ and Python through the grid, by our programs of its names.

In the container its library speaks with the observer of the node: verdicts and figures in its results are from there.
"""

from __future__ import annotations

import json
import subprocess
import zipapp
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import pytest

from tests.support.commands import command
from tests.support.grids import RunningGrid
from tests.support.judge_image import ensure_judge_image
from tests.support.kolejkas import PROGRAMS, kolejka_python, plain_environment

pytestmark = pytest.mark.needs("docker", "root", "g++")

# The beginning of a name is the verdict that it should get. What one program asks of its heap never reaches the limit
# of its group: the judge sets RLIMIT_DATA as well, and calls the refusal RTE.
SOLUTIONS = {
    "OK.cpp": "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b << std::endl; }\n",
    "ANS.cpp": '#include <cstdio>\nint main() { puts("8"); }\n',
    "TLE.cpp": "int main() { for (volatile int i = 0;; i = i + 1) { } }\n",
    "MEM.cpp": "#include <sys/mman.h>\n#include <cstring>\nint main() { memset(mmap(nullptr, 90 << 20, "
    "PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), 1, 90 << 20); }\n",
    "RTE.cpp": "int main() { return 3; }\n",
    "CME.cpp": "int main() { return }\n",
    "OK.py": "a, b = map(int, input().split())\nprint(a + b)\n",
    "ANS.py": "print(8)\n",
    "TLE.py": "while True:\n    pass\n",
    "MEM.py": "import mmap\nkept = mmap.mmap(-1, 90 << 20)\nfor _ in range(90):\n    kept.write(b'x' * 2**20)\n",
    "RTE.py": "print([][7])\n",
}
TESTS = """
one:
  input: !file one.in
  hint: !file one.out
  time: 1s
  memory: 48M
  kolejka:
    image: {image}
    limits: {{time: 90s, memory: 400M, swap: 0, cpus: 1, pids: 64, storage: 64M, network: no}}
"""
READ = """
import json, sys, yaml
yaml.SafeLoader.add_multi_constructor("!", lambda loader, tag, node: node.value)
json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout, default=str)
"""
MOST_SECONDS = 110


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGrid]:
    """A grid on which judges may run, with an observer. A node believes in an image that it saw when it started."""
    ensure_judge_image()
    with RunningGrid(tmp_path_factory.mktemp("judges"), observer=True, slots=4, profiles=["judge"]) as running:
        yield running


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a judge, its library, a test and solutions."""
    folder = tmp_path_factory.mktemp("contest")
    (site,) = (kolejka_python().parents[1] / "lib").glob("python*/site-packages")
    library = folder / "library"
    for package in ("kolejka", "yaml"):
        copytree(site / package, library / package, ignore=ignore_patterns("*.so", "__pycache__", "server"))
    zipapp.create_archive(library, folder / "kolejka-judge", main="kolejka.judge:main")
    (folder / "judge.py").write_bytes((PROGRAMS / "judge.py").read_bytes())
    (folder / "tests.yaml").write_text(TESTS.format(image=ensure_judge_image()))
    (folder / "one.in").write_text("3 4\n")
    (folder / "one.out").write_text("7\n")
    for name, text in SOLUTIONS.items():
        (folder / name).write_text(text)
    return folder


def judged(contest: Path, grid: RunningGrid, programs: Path, name: str) -> dict[str, Any]:
    """What kolejka-judge says of a solution."""
    environment = plain_environment() | {"GRID_CONFIG": str(grid.config_file)}
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    result = contest / f"result-{name}"
    python = kolejka_python()
    call: list[str | Path] = [python.with_name("kolejka-judge"), "client", "judge.py", "tests.yaml", name, result]
    subprocess.run(call, cwd=contest, env=environment, check=True, timeout=MOST_SECONDS)
    said = (result / "results" / "results.yaml", result / "console_stderr.txt")
    assert said[0].exists(), said[1].read_text()
    found: dict[str, Any] = json.loads(
        subprocess.run([python, "-c", READ, said[0]], capture_output=True, check=True).stdout
    )["one"]
    return found


def test_solutions_get_the_verdicts_that_they_deserve(grid: RunningGrid, contest: Path, tmp_path: Path) -> None:
    assert command(grid, "kolejka", "install", tmp_path / "bin").status == 0
    with ThreadPoolExecutor(4) as pool:
        found = dict(
            zip(SOLUTIONS, pool.map(lambda name: judged(contest, grid, tmp_path / "bin", name), SOLUTIONS), strict=True)
        )
    assert {name: one["status"] for name, one in found.items()} == {name: Path(name).stem for name in SOLUTIONS}
    spent = {name: one["run"]["run"] for name, one in found.items() if "run" in one}
    assert float(spent["TLE.cpp"]["cpu_time"].rstrip("s")) >= 1
    assert int(spent["MEM.cpp"]["memory"].rstrip("b")) >= 48 << 20
    # The program alone is counted, and neither the judge nor what started it.
    assert int(spent["OK.cpp"]["memory"].rstrip("b")) < 8 << 20
