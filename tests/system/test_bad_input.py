"""Malformed task folders: each gives one clear message that names the fault, exit status 2, and creates nothing."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from grid.cli import main
from tests.support.commands import command
from tests.support.grids import GridMaker, RunningGrid

pytestmark = pytest.mark.needs("docker", "busybox", "root")

GOOD: dict[str, Any] = {"image": "busybox:local", "args": ["true"]}
MANY = 10_000
TEXT = {"content": "x"}


@dataclass(frozen=True)
class Bad:
    """A folder: ``spec`` is written as its task.json (text and bytes as they are, None not at all), then ``prepare``.

    ``words`` have to be in the message; the first is the path of the fault.
    """

    name: str
    words: tuple[str, ...]
    spec: object = None
    prepare: Callable[[Path], object] = lambda folder: None

    def make(self, folder: Path) -> Path:
        """Make the folder and return what to submit."""
        folder.mkdir()
        if isinstance(self.spec, dict):
            (folder / "task.json").write_text(json.dumps(self.spec))
        elif isinstance(self.spec, str):
            (folder / "task.json").write_text(self.spec)
        elif isinstance(self.spec, bytes):
            (folder / "task.json").write_bytes(self.spec)
        self.prepare(folder)
        return folder


def bad(name: str, /, *words: str, prepare: Callable[[Path], object] = lambda folder: None, **keys: object) -> Bad:
    """A description that is good but for ``keys``."""
    return Bad(name, words, GOOD | keys, prepare)


def limit(name: str, value: object, *words: str) -> Bad:
    """A description that is good but for one limit."""
    return bad(f"{name} {value}", *(words or (f"limits.{name}", str(value))), limits={name: value})


def file(name: str, source: object, *words: str, prepare: Callable[[Path], object] = lambda folder: None) -> Bad:
    """A task whose input file ``a`` comes from ``source``."""
    return bad(name, *words, prepare=prepare, files={"a": source})


def in_json(name: str, text: str | bytes, *words: str) -> Bad:
    """A task.json with this text."""
    return Bad(name, words, text)


def a_socket(path: Path) -> None:
    """A socket in the place of a file. Its address must be short, so it is bound from within its folder."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def a_file_instead(folder: Path) -> None:
    """A file in the place of the folder."""
    folder.rmdir()
    folder.touch()


def many_files(folder: Path) -> None:
    """More files than a task may have."""
    (folder / "data").mkdir()
    for number in range(MANY):
        (folder / "data" / str(number)).touch()


def link(folder: Path, target: str) -> None:
    """A symbolic link in the place of the file ``a``."""
    (folder / "a").symlink_to(target)


def endless(folder: Path) -> None:
    """A folder that contains itself."""
    folder.mkdir()
    (folder / "b").symlink_to(folder)


NESTED = '{"labels": ' * 5000 + "{}" + "}" * 5000

FOLDERS = [
    Bad("no such folder", ("does not exist",), prepare=lambda folder: folder.rmdir()),
    Bad("a file in its place", ("is not a folder",), prepare=a_file_instead),
    Bad("empty folder", ("has no task.json",)),
    Bad("task.json is a folder", ("task.json", "is a folder"), prepare=lambda folder: (folder / "task.json").mkdir()),
    Bad(
        "task.json is a link to nothing",
        ("task.json", "is a link to nothing"),
        prepare=lambda folder: (folder / "task.json").symlink_to("gone"),
    ),
    Bad(
        "task.json is a FIFO",
        ("task.json", "is a FIFO"),
        prepare=lambda folder: os.mkfifo(folder / "task.json"),
    ),
    Bad(
        "task.json is huge",
        ("task.json", "is larger than"),
        prepare=lambda folder: (folder / "task.json").write_bytes(b" " * (5 * 1024**2)),
    ),
]

TEXTS = [
    in_json("empty text", "", "is empty"),
    in_json("only spaces", " \n ", "is empty"),
    in_json("empty object", "{}", "has neither image nor args"),
    in_json("broken", '{"image": "busybox:local",\n "args": ["true"', "is not JSON at line 2"),
    in_json("a comment", '{"image": "x"} // why', "is not JSON at line 1, column 16"),
    in_json("not an object", '["true"]', "must be an object, not a list"),
    in_json("just a number", "17", "must be an object"),
    in_json("null", "null", "must be an object, not null"),
    in_json("a key twice", '{"image": "a", "image": "b"}', "image", "stands more than once"),
    in_json("not UTF-8", b'{"name": "\xff\xfe", "image": "a"}', "is not UTF-8: byte 0xff in line 1"),
    in_json("UTF-16", json.dumps(GOOD).encode("utf-16"), "is not UTF-8"),
    in_json("half a surrogate pair", '{"image": "a", "name": "\\ud800"}', "is not valid Unicode"),
    in_json("byte order mark and broken", b"\xef\xbb\xbf{", "is not JSON at line 1"),
    in_json("deep nesting", NESTED, "nested too deep"),
    in_json("NaN", '{"image": "a", "limits": {"cpus": NaN}}', "NaN is not a number of JSON"),
    in_json("infinite number", '{"image": "a", "priority": 1e999}', "1e999 is too large"),
]

KEYS = [
    bad("unknown key", "imagee", 'did you mean "image"', imagee="x"),
    bad("unknown limit", "limits.memroy", 'did you mean "memory"', limits={"memroy": "64M"}),
    bad("no image and no program", "neither image nor args", image=None, args=[]),
    bad("image is a number", "image", "must be a text", image=3),
    bad("broken image reference", "image", "is not an image", image="Not An Image!"),
    bad("args is a text", "args", "must be a list", args="true"),
    bad("an argument is a list", "args[1]", "must be a text", args=["echo", ["x"]]),
    bad("no program", "args[0]", "is empty", args=["", "x"]),
    bad("NUL in an argument", "args[1]", "NUL", args=["echo", "a\0b"]),
    bad("label is a list", "labels.a", "must be a text", labels={"a": ["x"]}),
    bad("labels are a list", "labels", "must be an object", labels=["x"]),
    bad("name with a line break", "name", "control character", name="a\nb"),
    bad("priority", "priority", "1000", "from -100 to 100", priority=1000),
    bad("environment", "environment.A=B", "is not a name of an environment variable", environment={"A=B": "1"}),
    bad("unknown secret", "secrets", 'there is no secret "NO_SUCH"', secrets=["NO_SUCH"]),
    bad("after an unknown task", "after", "there is no task 0123456789abcdef", after=["0123456789abcdef"]),
    bad("retry without a number", "retry.attempts", "retry", retry={"on": ["exit_code"]}),
    bad("retry on nonsense", "retry.on", "is not a verdict to retry on", retry={"attempts": 2, "on": ["bad luck"]}),
    bad("retry is a number", "retry", "must be an object", retry=3),
    bad("callback", "callback_url", "is not an address", callback_url="ftp://host/hook"),
    bad("callback that nobody signs", "callback_url", "no secret", callback_url="https://host/hook"),
    bad("expired before its birth", "expires", "-5", expires=-5),
    bad("unknown runtime", "does not offer the runtime podman", runtime="podman"),
    bad("a tag nobody has", "lacks the tag gpu:nvidia", requires=["gpu:nvidia"]),
    bad("a licence that is not there", "licence matlab", resources={"matlab": 1}),
    bad("best effort of nonsense", "best_effort", "is not the name of a limit", best_effort=["speed"]),
    bad("exclusive", "exclusive", "neither true nor false", exclusive="maybe"),
]

LIMITS = [
    limit("memory", 1, "limits.memory", "too little"),
    limit("memory", "64X", "limits.memory", '"64X" is not a size; write 64M'),
    limit("memory", -1),
    limit("memory", "99T", "needs 99T of memory"),
    limit("memory", True, "limits.memory", "true is not a size"),
    limit("cpus", 0),
    limit("cpus", 10000),
    limit("cpus", 512, "needs 512 cpus"),
    limit("cpus", "NaN"),
    limit("pids", 0),
    limit("pids", 1.5),
    limit("time", -1),
    limit("time", 0, "limits.time", "more than 0"),
    limit("time", "1m", "limits.time", "ambiguous; write 1min or 1ms"),
    limit("time", "soon"),
    limit("cpu_time", "100y"),
    limit("storage", "100T", "needs 100T of storage"),
    limit("network", True, "limits.network", "not allowed"),
    limit("gpus", 1, "needs 1 gpu"),
    bad("limits are a list", "limits", "must be an object", limits=[1]),
]

FILES = [
    file("missing", None, "files.a", "no such file"),
    file("above the folder", "../a", "files.a.path", ".."),
    file("absolute", "/etc/passwd", "files.a.path", "is absolute"),
    file("a FIFO", None, "files.a", "is a FIFO", prepare=lambda folder: os.mkfifo(folder / "a")),
    file("a socket", None, "files.a", "is a socket", prepare=lambda folder: a_socket(folder / "a")),
    file("a device", None, "files.a", "is a device", prepare=lambda folder: link(folder, "/dev/zero")),
    file("a link to nothing", None, "files.a", "is a link to nothing", prepare=lambda folder: link(folder, "gone")),
    file("a link to itself", None, "files.a", "cannot be read", prepare=lambda folder: link(folder, "a")),
    file("an empty folder", None, "files.a", "without files", prepare=lambda folder: (folder / "a").mkdir()),
    file("a folder within itself", None, "files.a/b", "never ends", prepare=lambda folder: endless(folder / "a")),
    file("10,000 files", "data", "files", "more than 5000", prepare=many_files),
    file("two sources", {"path": "a", "content": "x"}, "files.a", "exactly one of"),
    file("not a hash", {"reference": "abc"}, "files.a.reference", "is not the sha256"),
    file("a blob of nobody", {"reference": "0" * 64}, "files.a", "is not stored here"),
    file("a number", 7, "files.a"),
    bad("10,000 entries", "files", "has 10000 entries", files={str(one): TEXT for one in range(MANY)}),
    bad("a name above the folder", "files", "..", files={"../a": TEXT}),
    bad("a name that is absolute", "files", "is absolute", files={"/etc/passwd": TEXT}),
    bad("file and folder at once", "files.a", "needs it to be a folder", files={"a": TEXT, "a/b": TEXT}),
    bad("stdin is no file", "stdin", '"in.txt" is none of the files', stdin="in.txt"),
    bad("stdout leaves", "stdout", "..", stdout="../out"),
    bad("stdout inside stderr", "stderr", "is a file, but", stdout="a/b", stderr="a"),
    bad("collect into elsewhere", "collect[0].prefix", "..", collect=[{"glob": "*", "prefix": "../up"}]),
    bad("collect from elsewhere", "collect[0].glob", "is absolute", collect=[{"glob": "/etc/*"}]),
    bad("collect is a text", "collect", "must be a list", collect="*"),
]

CASES = [*FOLDERS, *TEXTS, *KEYS, *LIMITS, *FILES]
# Of each kind some through a process of their own, as people have it.
REAL = [*FOLDERS[2:4], *TEXTS[8:11], KEYS[5], LIMITS[2], *FILES[9:11]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_fault_is_one_message_and_makes_nothing(
    case: Bad,
    grid: RunningGrid,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = case.make(tmp_path / "task")
    before = tasks_of(grid)
    for name in ("GRID_SERVER", "GRID_TOKEN", "GRID_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GRID_CONFIG", str(grid.config_file))
    monkeypatch.setattr(sys, "argv", ["grid", "submit", str(folder)])
    with pytest.raises(SystemExit) as ended:
        main()

    check(case, ended.value.code, *capfd.readouterr())
    assert tasks_of(grid) == before


@pytest.mark.parametrize("case", REAL, ids=lambda case: case.name)
@pytest.mark.parametrize("verb", ["submit", "run"])
def test_the_same_in_a_process_of_its_own(case: Bad, verb: str, grid: RunningGrid, tmp_path: Path) -> None:
    folder = case.make(tmp_path / "task")
    before = tasks_of(grid)
    done = command(grid, verb, folder)

    check(case, done.status, done.out, done.err)
    assert tasks_of(grid) == before


def test_an_image_that_no_node_has_is_refused_where_none_can_be_fetched(new_grid: GridMaker, tmp_path: Path) -> None:
    grid = new_grid(node=False)
    grid.add_node("offline", "--no-pull")
    case = bad("unknown image", "image: ", 'no node has the image "no-such-image:1"', image="no-such-image:1")
    done = command(grid, "submit", case.make(tmp_path / "task"))

    check(case, done.status, done.out, done.err)
    assert tasks_of(grid) == 0
    near = bad("nearly known", 'did you mean "busybox:local"', image="busibox:local")
    done = command(grid, "run", near.make(tmp_path / "near"))
    check(near, done.status, done.out, done.err)
    assert grid.run("true").succeeded


def test_all_faults_of_a_folder_are_told_at_once(grid: RunningGrid, tmp_path: Path) -> None:
    wrong = GOOD | {"limits": {"memory": "64X", "time": "1m"}, "files": {"a": None}, "argz": [], "stdin": "b"}
    done = command(grid, "submit", Bad("all", (), wrong).make(tmp_path / "task"))

    assert done.status == 2
    paths = {line.removeprefix("grid: ").partition(":")[0] for line in done.err.splitlines()}
    assert paths == {"limits.memory", "limits.time", "files.a", "argz", "stdin"}


def test_a_limit_on_the_command_line_is_checked_like_one_in_the_folder(grid: RunningGrid, tmp_path: Path) -> None:
    done = command(grid, "submit", Bad("good", (), GOOD).make(tmp_path / "task"), "--memory", "64X")

    assert (done.status, done.out) == (2, "")
    assert 'limits.memory: "64X" is not a size' in done.err


def check(case: Bad, status: object, out: str, err: str) -> None:
    """One line of the program's own, which says where the fault is and what it is."""
    assert (status, out) == (2, ""), err
    assert "Traceback" not in err
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("grid: ")
    assert len(lines[0]) < 600
    for word in case.words:
        assert word in lines[0]


def tasks_of(grid: RunningGrid) -> int:
    """How many tasks there are in the records."""
    with closing(sqlite3.connect(f"file:{grid.directory / 'grid.sqlite3'}?mode=ro", uri=True)) as records:
        count: int = records.execute("SELECT count(*) FROM core_task").fetchone()[0]
    return count
