"""The size- and inode-limited folder of one attempt.

Best is an ext4 image on a loop device: its pages are page cache that the kernel can write out, whereas a tmpfs is
charged to the task as memory. An image is copied from a template that was formatted once: making one takes 1-8 ms.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nodes.loopdevice import discard, loop_device, mount, unmount
from tasks.errors import NodeFault

PROBE = ".probe-"
"""How the names of workspaces begin that were made to see what can be had."""

_MOUNTPOINT, _IMAGE, _TEMPLATES = "task", "image", ".templates"
_BLOCK = 4096
_INODE_BYTES = 256
_RESERVED_INODES = 10  # by ext4 itself, lost+found being removed
_BYTES_PER_FILE = 4096  # without a limit of files, the space runs out before the inodes do
_MOST_FILES = 4_000_000
_MOST_TEMPLATES = 64
_FULL_BYTES = 8 * _BLOCK
# The kernel writes in pieces of up to 2 MiB and refuses one that does not fit, however much room there is for a smaller
# one. With this much room above the limit, whoever was refused has used more than the limit.
_ROOM_ABOVE_BYTES = 3 << 20
# ext4 keeps a fiftieth, at most 16 MiB, for itself (its "reserved clusters").
_KEPT_SHARE, _KEPT_MOST_BYTES = 50, 16 << 20
_DISCARD_BYTES = 4 << 20  # with less to write, asking the kernel to forget it costs more than it saves
_NO_JOURNAL = "^has_journal,^resize_inode,^metadata_csum,^64bit,^sparse_super,sparse_super2,uninit_bg"

_making = threading.Lock()


class WorkspaceKind(StrEnum):
    """How a workspace is held to its limits: by an ext4 image, by a tmpfs (in memory), or not at all."""

    LOOP = "loop"
    TMPFS = "tmpfs"
    PLAIN = "plain"

    @property
    def enforces(self) -> frozenset[str]:
        """The names of the limits that it can hold a task to."""
        return frozenset() if self is WorkspaceKind.PLAIN else frozenset({"storage", "files"})


# Inodes that are taken before the task has made a file.
_OWN_FILES = {WorkspaceKind.LOOP: _RESERVED_INODES, WorkspaceKind.TMPFS: 1}


@dataclass(frozen=True, slots=True)
class Fullness:
    """How much of a workspace is used.

    ``storage_full``: it holds more than its limit, or has no room for the next byte; ``files_full``: none for the next
    file.

    All None and False where nothing is limited, because then the figures would be those of the node's disk.
    """

    bytes_used: int | None = None
    bytes_free: int | None = None
    files_used: int | None = None
    files_free: int | None = None
    storage_full: bool = False
    files_full: bool = False


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace that is there: the task's files are in ``path``."""

    path: Path
    kind: WorkspaceKind
    limit_bytes: int | None = None
    limit_files: int | None = None

    def fullness(self) -> Fullness:
        """What statvfs(3) says; cheap. OSError when the workspace is gone."""
        if self.kind is WorkspaceKind.PLAIN:
            return Fullness()
        stat = os.statvfs(self.path)
        used, free = ((blocks * stat.f_frsize) for blocks in (stat.f_blocks - stat.f_bfree, stat.f_bavail))
        return Fullness(
            bytes_used=used,
            bytes_free=free,
            files_used=max(stat.f_files - stat.f_ffree - _OWN_FILES[self.kind], 0),
            files_free=stat.f_ffree,
            storage_full=self.limit_bytes is not None
            and (free < _FULL_BYTES or used > self.limit_bytes + _BLOCK),  # its root has a block
            files_full=self.limit_files is not None and stat.f_ffree == 0,
        )


def probe(root: Path) -> WorkspaceKind:
    """The best kind of workspace that can be had in the folder ``root``, found out by making one."""
    for kind in (WorkspaceKind.LOOP, WorkspaceKind.TMPFS):
        folder = root / f"{PROBE}{secrets.token_hex(4)}"
        try:
            create(folder, kind=kind, limit_bytes=1 << 20, limit_files=64, owner=(os.getuid(), os.getgid()))
        except NodeFault:
            continue
        finally:
            destroy(folder)
        return kind
    return WorkspaceKind.PLAIN


def create(
    folder: Path,
    *,
    kind: WorkspaceKind,
    limit_bytes: int | None,
    limit_files: int | None,
    owner: tuple[int, int],
) -> Workspace:
    """Make the workspace of one attempt in the new folder ``folder``; it belongs to ``owner`` (uid, gid), mode 0755.

    A limit of None is no limit; with both None it is a plain folder whatever the ``kind``. A loop workspace holds
    some 3 MiB more than ``limit_bytes`` and up to some 16 files per 128 MiB more than ``limit_files``.
    ``folder`` and its parent are the node's own: the parent holds the templates. For many threads at once.

    NodeFault ``node_disk``: the node has no room for it, or cannot make it; nothing is left behind then.
    """
    if limit_bytes is None and limit_files is None:
        kind = WorkspaceKind.PLAIN
    workspace = Workspace(folder / _MOUNTPOINT, kind, limit_bytes, limit_files)
    try:
        folder.mkdir(mode=0o700, parents=True)
        workspace.path.mkdir()
        if kind is WorkspaceKind.LOOP:
            _mount_image(folder, limit_bytes, limit_files)
        elif kind is WorkspaceKind.TMPFS:
            files = 0 if limit_files is None else limit_files + 1  # the root counts
            mount("tmpfs", workspace.path, "tmpfs", f"size={limit_bytes or 0},nr_inodes={files}")
        os.chmod(workspace.path, 0o755)  # noqa: S103 - the container's user must get in; ``folder`` keeps others out
        os.chown(workspace.path, *owner)
    except FileExistsError as error:
        raise NodeFault("node_disk", f"the folder {folder} of the attempt is there already") from error
    except OSError as error:
        with suppress(NodeFault):
            destroy(folder)
        raise NodeFault("node_disk", f"cannot make a {kind} workspace in {folder}: {error}") from error
    return workspace


def reopen(folder: Path, *, kind: WorkspaceKind, limit_bytes: int | None, limit_files: int | None) -> Workspace | None:
    """The workspace that a former start of the agent made in ``folder`` with these words; None when it is not there."""
    if limit_bytes is None and limit_files is None:
        kind = WorkspaceKind.PLAIN
    path = folder / _MOUNTPOINT
    there = path.is_dir() and (kind is WorkspaceKind.PLAIN or os.path.ismount(path))
    return Workspace(path, kind, limit_bytes, limit_files) if there else None


def destroy(folder: Path) -> None:
    """Remove a workspace, whatever is in it and whatever state it is in; does nothing when it is not there.

    What the task wrote is not written to disk any more. NodeFault ``node_disk``: something could not be removed.
    """
    target = folder / _MOUNTPOINT
    try:
        with suppress(OSError):  # not mounted, or no ext4: then there is nothing to save
            if os.path.ismount(target) and _bytes_used(target) > _DISCARD_BYTES:
                discard(target)
        while unmount(target):
            pass
    except OSError as error:
        raise NodeFault("node_disk", f"cannot unmount {target}: {error}") from error
    if not folder.is_dir():
        return
    _remove_flat(folder)
    if folder.exists():
        # rm goes down to any depth and follows no link out of the folder; shutil.rmtree fails below some 1,000 levels
        remover = ["/bin/rm", "-rf", "--one-file-system", "--", str(folder)]
        done = subprocess.run(remover, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NodeFault("node_disk", f"cannot remove {folder}: {done.stderr.strip()[:500]}")


def leftovers(root: Path) -> list[Path]:
    """The folders of workspaces in ``root``, to be compared with the attempts that a node still knows."""
    if not root.is_dir():
        return []
    return sorted(entry for entry in root.iterdir() if entry.name != _TEMPLATES and entry.is_dir())


def _mount_image(folder: Path, limit_bytes: int | None, limit_files: int | None) -> None:
    image = folder / _IMAGE
    disk = os.statvfs(folder)
    size = disk.f_bavail * disk.f_frsize if limit_bytes is None else limit_bytes
    files = min(size // _BYTES_PER_FILE, _MOST_FILES) if limit_files is None else limit_files
    _copy_sparsely(_template(folder.parent / _TEMPLATES, size, files), image)
    with loop_device(image) as device:
        mount(device, folder / _MOUNTPOINT, "ext4", "noinit_itable,barrier=0")


def _template(folder: Path, limit_bytes: int, files: int) -> Path:
    """A formatted image with room for so many bytes and files, without ``lost+found``; made when there is none yet."""
    inodes = max(files, 1) + _RESERVED_INODES
    kept = min(limit_bytes // _KEPT_SHARE, _KEPT_MOST_BYTES)
    overhead = inodes * _INODE_BYTES + limit_bytes // 256 + kept + _ROOM_ABOVE_BYTES
    blocks = -(-(limit_bytes + overhead) // _BLOCK)
    template = folder / f"ext4-{blocks}-{inodes}"
    with _making:
        if template.exists():
            os.utime(template)
        else:
            _make_template(template, blocks, inodes)
    return template


def _make_template(template: Path, blocks: int, inodes: int) -> None:
    """Format a new template; the one that was not used for longest makes room for it."""
    folder = template.parent
    folder.mkdir(mode=0o700, exist_ok=True)
    for old in sorted(folder.glob("ext4-*"), key=os.path.getmtime)[: -_MOST_TEMPLATES or None]:
        old.unlink(missing_ok=True)
    draft = folder / f"draft-{secrets.token_hex(8)}"
    try:
        with draft.open("xb") as file:
            file.truncate(blocks * _BLOCK)
        _format(draft, inodes)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.rename(template)
    finally:
        draft.unlink(missing_ok=True)


def _format(image: Path, inodes: int) -> None:
    extended = "lazy_itable_init=1,nodiscard,num_backup_sb=0"
    sizes = ["-q", "-F", "-m", "0", "-b", str(_BLOCK), "-I", str(_INODE_BYTES), "-N", str(inodes)]
    _run_tool("mkfs.ext4", *sizes, "-O", _NO_JOURNAL, "-E", extended, str(image))
    _run_tool("debugfs", "-w", "-R", "rmdir lost+found", str(image))


def _run_tool(name: str, *arguments: str) -> None:
    program = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if program is None:
        raise OSError(errno.ENOENT, f"there is no {name}; install e2fsprogs")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(errno.EIO, f"{name}: {done.stderr.strip()[:500]}")


def _copy_sparsely(source: Path, target: Path) -> None:
    """Copy the parts that hold data; the rest stays a hole."""
    with source.open("rb", buffering=0) as old, target.open("xb", buffering=0) as new:
        size = os.fstat(old.fileno()).st_size
        os.truncate(new.fileno(), size)
        end = 0
        while True:
            try:
                start = os.lseek(old.fileno(), end, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only a hole is left
                    return
                raise
            end = os.lseek(old.fileno(), start, os.SEEK_HOLE)
            while start < end:
                start += os.pwrite(new.fileno(), os.pread(old.fileno(), min(end - start, 1 << 20), start), start)


def _bytes_used(path: Path) -> int:
    stat = os.statvfs(path)
    return (stat.f_blocks - stat.f_bfree) * stat.f_frsize


def _remove_flat(folder: Path) -> None:
    """Remove what is left of a workspace that was unmounted: an empty folder and an image."""
    with suppress(OSError):
        (folder / _IMAGE).unlink(missing_ok=True)
        (folder / _MOUNTPOINT).rmdir()
        folder.rmdir()
