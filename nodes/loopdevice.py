"""The kernel's calls under a workspace: loop devices (linux/loop.h), mount(2), umount2(2), shutting down an ext4."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_SET_FD, _LOOP_SET_STATUS64, _LOOP_CLR_FD = 0x4C00, 0x4C04, 0x4C01
_LOOP_CONFIGURE = 0x4C0A  # since Linux 5.8
_LOOP_MAJOR = 7
_AUTOCLEAR = 4
_EXT4_SHUTDOWN, _SHUTDOWN_NO_FLUSH = 0x8004587D, 2
_MS_NOSUID, _MS_NODEV, _MS_NOATIME = 2, 4, 1024
_MNT_DETACH = 2
_ATTEMPTS = 100

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def loop_device(image: Path) -> Iterator[str]:
    """Attach ``image`` to a free loop device and give its path; it detaches itself with its last user, such as a mount.

    OSError: no loop device can be had. Safe for many threads and processes: who comes second takes another device.
    """
    for _ in range(_ATTEMPTS):
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        try:
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
        finally:
            os.close(control)
        path = _node(number)
        device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if _attach(device, image):
                yield path
                return
        finally:
            os.close(device)
        time.sleep(0.001)
    raise OSError(errno.EBUSY, "no loop device stays free for long enough")


def attached(root: Path) -> Iterator[tuple[str, Path]]:
    """The loop devices that stand for a file below ``root``, and the file, which may be gone."""
    root = root.resolve()
    for entry in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        try:
            backing = Path(entry.read_text().rstrip("\n").removesuffix(" (deleted)"))
        except OSError:  # detached meanwhile
            continue
        if backing.is_relative_to(root) and backing != root:
            yield f"/dev/{entry.parts[-3]}", backing


def detach(device: str) -> bool:
    """Detach a loop device; one that is mounted goes with its mount. False when it was detached before."""
    opened = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(opened, _LOOP_CLR_FD)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return False
        raise
    finally:
        os.close(opened)
    return True


def mount(source: str, target: Path, kind: str, options: str) -> None:
    """mount(2) with nosuid, nodev, noatime."""
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOATIME
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), kind.encode(), flags, options.encode()), target)


def unmount(target: Path) -> bool:
    """Take away what is mounted at ``target``; lazily when it is busy. False when nothing is mounted there."""
    for flags in (0, _MNT_DETACH):
        if _libc.umount2(os.fsencode(target), flags) == 0:
            return True
        if ctypes.get_errno() in (errno.EINVAL, errno.ENOENT):
            return False
        if ctypes.get_errno() != errno.EBUSY:
            break
    _check(-1, target)
    return False


def discard(target: Path) -> None:
    """Forget what an ext4 on a loop device has not written yet, so that unmounting is cheap; it is dead afterwards."""
    folder = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.major(os.fstat(folder).st_dev) != _LOOP_MAJOR:  # never the node's own disk
            raise OSError(errno.EINVAL, "not on a loop device", str(target))
        fcntl.ioctl(folder, _EXT4_SHUTDOWN, struct.pack("I", _SHUTDOWN_NO_FLUSH))
    finally:
        os.close(folder)


def _attach(device: int, image: Path) -> bool:
    """False when somebody else took the device first."""
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    # struct loop_info64: device, inode, rdevice, offset, sizelimit; number, 2 of encryption, flags; names, key, init
    info = struct.pack("5Q4I", 0, 0, 0, 0, 0, 0, 0, 0, _AUTOCLEAR) + bytes(64 + 64 + 32 + 16)
    try:
        fcntl.ioctl(device, _LOOP_CONFIGURE, struct.pack("II", backing, 0) + info + bytes(64))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        if error.errno not in (errno.EINVAL, errno.ENOTTY):
            raise
        return _attach_in_two_steps(device, backing, info)
    finally:
        os.close(backing)
    return True


def _attach_in_two_steps(device: int, backing: int, info: bytes) -> bool:
    """The way of kernels before 5.8."""
    try:
        fcntl.ioctl(device, _LOOP_SET_FD, backing)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise
    try:
        fcntl.ioctl(device, _LOOP_SET_STATUS64, info)
    except OSError:
        fcntl.ioctl(device, _LOOP_CLR_FD)
        raise
    return True


def _node(number: int) -> str:
    """The device's path; made when nothing else makes it (a container without devtmpfs)."""
    path = f"/dev/loop{number}"
    try:
        os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(_LOOP_MAJOR, number))
    except FileExistsError:
        return path
    return path


def _check(result: int, path: Path) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
