"""Who is at the other end of a connection: the kernel says so, nothing that the caller sends is believed."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Self

from observer.cgroups.boxes import controllers
from observer.cgroups.layout import Layout
from observer.cgroups.membership import home, membership, scope_of
from observer.errors import Forbidden

_CREDENTIALS = struct.Struct("3i")
_SO_PEERPIDFD = 77


@dataclass(frozen=True, slots=True)
class Caller:
    """A process: its number here, who runs it, the ``groups`` it is in, and the ``scope`` that it shares with its
    container and with nobody else. ``on_host`` says that it is in no container.
    """

    pid: int
    uid: int
    groups: Mapping[str, str]
    scope: str
    on_host: bool

    @property
    def homes(self) -> dict[str, str]:
        """Its groups, leaves of ours taken for the groups above."""
        return {controller: home(path) for controller, path in self.groups.items()}

    @property
    def master(self) -> bool:
        """May do as it likes: root of the machine."""
        return self.on_host and self.uid == 0


class Peer:
    """A process held by a descriptor (pidfd), so that its number cannot become another's unnoticed."""

    def __init__(self, pid: int, uid: int, descriptor: int) -> None:
        self.pid, self.uid, self.descriptor = pid, uid, descriptor

    @classmethod
    def of(cls, connection: socket.socket) -> Self:
        """Whoever connected. Before Linux 6.5 one that ended already may be taken for a later process of its number.

        Raises Forbidden when it has ended, or lives in a pid namespace that cannot be seen from here.
        """
        packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(packed)
        if pid <= 0:
            raise Forbidden("the caller is not a process that can be seen from here")
        with contextlib.suppress(OSError):
            return cls(pid, uid, connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD))
        return cls.held(pid, uid)

    @classmethod
    def held(cls, pid: int, uid: int) -> Self:
        """The process of this number. Raises Forbidden when there is none."""
        try:
            return cls(pid, uid, os.pidfd_open(pid))
        except OSError as error:
            raise Forbidden("the caller has ended") from error

    def alive(self) -> bool:
        """False as soon as it has ended."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Let go of it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1

    def give(self) -> int:
        """Another descriptor of it, which the taker closes."""
        return os.dup(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def identify(peer: Peer, layout: Layout) -> Caller:
    """What there is to know of it now. Raises Forbidden when it has ended."""
    groups = membership(peer.pid)
    on_host = _same_mounts(peer.pid)
    if not groups or not peer.alive():  # looked at last: what was read above was its own
        raise Forbidden("the caller has ended")
    scope = f"host uid {peer.uid}" if on_host else scope_of(groups, controllers(layout))
    return Caller(peer.pid, peer.uid, groups, scope, on_host)


def _same_mounts(pid: int) -> bool:
    """A container has a mount namespace of its own; programs of the host share that of process 1 or of ours."""
    try:
        theirs = os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return False
    return theirs in (_mounts("1"), _mounts("self"))


@cache
def _mounts(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""
