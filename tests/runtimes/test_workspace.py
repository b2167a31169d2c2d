"""Workspaces are limited for real, fast, and vanish whatever the task left in them."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nodes import workspace
from nodes.workspace import Workspace, WorkspaceKind
from tasks.errors import NodeFault

pytestmark = pytest.mark.needs("root")
MIB = 1 << 20
LIMITING = [WorkspaceKind.LOOP, WorkspaceKind.TMPFS]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A node's folder of workspaces; nothing may be mounted in it afterwards."""
    folder = tmp_path / "work"
    folder.mkdir()
    yield folder
    for left in workspace.leftovers(folder):
        workspace.destroy(left)
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()


def make(
    root: Path, kind: WorkspaceKind, name: str = "a1", limit_bytes: int | None = 8 * MIB, limit_files: int | None = 100
) -> Workspace:
    return workspace.create(
        root / name, kind=kind, limit_bytes=limit_bytes, limit_files=limit_files, owner=(65534, 65534)
    )


def fill(path: Path, piece_bytes: int = 65536, most: int = 64 * MIB) -> int:
    """Write such pieces until the disk is full; answers the bytes that went in."""
    written = 0
    with path.open("wb", buffering=0) as file:
        try:
            while written < most:
                written += file.write(bytes(piece_bytes))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return written


def backing_files() -> str:
    return " ".join(path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file"))


def test_the_best_kind_of_this_machine_is_found_out(root: Path) -> None:
    assert workspace.probe(root) is WorkspaceKind.LOOP
    assert workspace.leftovers(root) == []


def test_a_fresh_workspace_is_empty_and_the_tasks_own(root: Path) -> None:
    for kind in WorkspaceKind:
        made = make(root, kind, name=kind)
        assert list(made.path.iterdir()) == []
        status = made.path.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (65534, 65534, 0o755)
        assert not made.fullness().storage_full


@pytest.mark.parametrize("kind", LIMITING)
@pytest.mark.parametrize("piece_bytes", [4096, MIB, 8 * MIB])
def test_the_size_is_limited(root: Path, kind: WorkspaceKind, piece_bytes: int) -> None:
    made = make(root, kind)
    assert 8 * MIB <= fill(made.path / "big", piece_bytes) <= 12 * MIB
    full = made.fullness()
    assert full.storage_full
    assert not full.files_full
    assert full.bytes_used is not None
    assert full.bytes_used >= 8 * MIB
    (made.path / "big").unlink()
    assert not made.fullness().storage_full


@pytest.mark.parametrize("kind", LIMITING)
def test_the_number_of_files_is_limited(root: Path, kind: WorkspaceKind) -> None:
    made = make(root, kind)
    count = 0
    with pytest.raises(OSError, match="No space left"):  # noqa: PT012 - which of the files is refused is the question
        while count < 1000:
            (made.path / f"f{count}").touch()
            count += 1
    assert 100 <= count <= 120
    full = made.fullness()
    assert full.files_used == count
    assert full.files_full
    assert full.files_free == 0


@pytest.mark.parametrize("kind", WorkspaceKind)
def test_setuid_and_devices_mean_nothing_where_there_is_a_mount(root: Path, kind: WorkspaceKind) -> None:
    made = make(root, kind)
    flags = os.statvfs(made.path).f_flag
    limited = kind is not WorkspaceKind.PLAIN
    assert bool(flags & os.ST_NOSUID) is limited
    assert bool(flags & os.ST_NODEV) is limited
    assert kind.enforces == (frozenset({"storage", "files"}) if limited else frozenset())


def test_no_limit_is_a_plain_folder(root: Path) -> None:
    made = make(root, WorkspaceKind.LOOP, limit_bytes=None, limit_files=None)
    assert made.kind is WorkspaceKind.PLAIN
    assert made.fullness().bytes_free is None


def test_one_limit_alone(root: Path) -> None:
    few_files = make(root, WorkspaceKind.LOOP, name="files", limit_bytes=None)
    assert (few_files.fullness().bytes_free or 0) > 100 * MIB
    small = make(root, WorkspaceKind.LOOP, name="bytes", limit_files=None)
    assert (small.fullness().files_free or 0) >= 2000


@pytest.mark.parametrize("kind", WorkspaceKind)
def test_destroying_leaves_nothing_and_may_be_done_twice(root: Path, kind: WorkspaceKind) -> None:
    made = make(root, kind)
    (made.path / "some").mkdir()
    (made.path / "some/link").symlink_to("/etc")
    workspace.destroy(root / "a1")
    workspace.destroy(root / "a1")
    assert workspace.leftovers(root) == []
    assert Path("/etc/passwd").exists()
    assert str(root) not in backing_files()


def test_a_busy_workspace_is_destroyed_all_the_same(root: Path) -> None:
    made = make(root, WorkspaceKind.LOOP)
    with (made.path / "open").open("wb") as file:
        file.write(b"x" * MIB)
        workspace.destroy(root / "a1")
        assert workspace.leftovers(root) == []
    assert str(root) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("kind", WorkspaceKind)
def test_folders_20_000_deep_are_destroyed(root: Path, kind: WorkspaceKind) -> None:
    made = make(root, kind, limit_bytes=256 * MIB, limit_files=30_000)
    dig(made.path, 20_000)
    workspace.destroy(root / "a1")
    assert workspace.leftovers(root) == []


def dig(path: Path, depth: int) -> None:
    here = os.open(path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def test_many_at_once(root: Path) -> None:
    """Loop devices are taken by whoever is first; nobody may fail or get another's image."""

    def one(number: int) -> None:
        made = make(root, WorkspaceKind.LOOP, name=f"a{number}", limit_files=100 + number % 3)
        (made.path / "mine").write_text(str(number))
        assert os.listdir(made.path) == ["mine"]
        assert (made.path / "mine").read_text() == str(number)
        workspace.destroy(root / f"a{number}")

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(one, range(60)))
    assert workspace.leftovers(root) == []
    assert len(list((root / ".templates").iterdir())) == 3


@pytest.mark.parametrize("kind", WorkspaceKind)
def test_an_agent_that_comes_back_goes_on_with_a_workspace_that_is_whole(root: Path, kind: WorkspaceKind) -> None:
    def again() -> Workspace | None:
        return workspace.reopen(root / "a1", kind=kind, limit_bytes=8 * MIB, limit_files=100)

    assert again() is None
    made = make(root, kind)
    assert again() == made
    if kind is not WorkspaceKind.PLAIN:  # the machine was started anew: the folder is there, its file system is not
        subprocess.run(["umount", made.path], check=True)
        assert again() is None


def test_what_a_dead_agent_left_is_found(root: Path) -> None:
    make(root, WorkspaceKind.LOOP, name="left")
    assert workspace.leftovers(root) == [root / "left"]
    workspace.destroy(root / "left")
    assert workspace.leftovers(root / "never") == []


def test_a_node_without_room_says_so_and_leaves_nothing(root: Path) -> None:
    """The node's disk: a tmpfs of 64 KiB, too small for any image."""
    disk = root / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    try:
        with pytest.raises(NodeFault, match="No space left") as fault:
            make(disk, WorkspaceKind.LOOP)
        assert fault.value.kind == "node_disk"
        assert workspace.leftovers(disk) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_attempts_folder_is_never_reused(root: Path) -> None:
    made = make(root, WorkspaceKind.PLAIN)
    (made.path / "precious").touch()
    with pytest.raises(NodeFault, match="is there already"):
        make(root, WorkspaceKind.PLAIN)
    assert (made.path / "precious").exists()


def test_only_the_newest_templates_are_kept(root: Path) -> None:
    for limit in range(70):
        made = make(root, WorkspaceKind.LOOP, name=str(limit), limit_bytes=MIB, limit_files=16 + limit)
        workspace.destroy(made.path.parent)
    assert len(list((root / ".templates").iterdir())) <= 65
