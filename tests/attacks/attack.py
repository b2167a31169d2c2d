"""What a row of the table says: a hostile task, and how it has to end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

IMAGE = "grid-attacks:local"
"""busybox with the programs of ``programs`` under ``/bin``, and ``doors`` as a set-user-ID program of root, too."""

EVERY_FILE: tuple[Mapping[str, object], ...] = ({"glob": "**"},)
ALL_EPERM = r"\A(.+: EPERM\n)+\Z"
"""The program ``doors`` has found everything shut, and nothing but shut."""
NAMESPACES = r"\A((?!clone3).+: EPERM\n)+clone3: ENOSYS\nsetns: EPERM\n\Z"
NOWHERE = r"\A(.+: (ENETUNREACH|EADDRNOTAVAIL|ECONNREFUSED)\n){10}\Z"
ESCAPE = (
    # On cgroup v1 the hierarchies are mounted on a tmpfs of the container's own.
    'for group in /sys/fs/cgroup /sys/fs/cgroup/*; do grep -q "^tmpfs $group " /proc/mounts && continue;'
    '  (echo /task/x > "$group/release_agent") && echo ALLOWED;'
    '  (echo $$ > "$group/cgroup.procs") && echo ALLOWED; mkdir "$group/mine" && echo ALLOWED; done; true'
)


@dataclass(frozen=True, slots=True)
class Attack:
    """A hostile task, and the only end of it that is right.

    ``says`` must be found in what the program writes on both streams, ``ALLOWED`` must not; ``told`` in the reason and
    the advice of the result: both are regular expressions. ``files`` are the names of all files that come home beside
    ``out`` and ``err``, None where that is not the point. ``spec`` is what else is in task.json.
    """

    name: str
    args: tuple[str, ...]
    verdict: str = "succeeded"
    says: str = ""
    told: str = ""
    files: frozenset[str] | None = frozenset()
    limits: Mapping[str, object] = field(default_factory=dict)
    collect: tuple[Mapping[str, object], ...] = ()
    spec: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Wish:
    """What a task may not even ask for: a part of task.json, and the words (a regular expression) of its refusal."""

    name: str
    spec: Mapping[str, object]
    told: str

    def __str__(self) -> str:
        return self.name


def door(name: str, says: str = ALL_EPERM) -> Attack:
    """Tries the doors of this name (``programs/doors.c``), all of which must be shut."""
    return Attack(f"door {name}", ("doors", name), says=says)


def judge(attack: Attack) -> Attack:
    """The same, by root in the container profile ``judge``."""
    return replace(attack, name=f"judge: {attack.name}", spec={**attack.spec, "profile": "judge"})


def shell(script: str) -> tuple[str, ...]:
    """The arguments that run a shell script."""
    return ("sh", "-c", script)


def writes(*paths: str) -> tuple[str, ...]:
    """The arguments that try to write to files of the system, and tell where it worked."""
    return shell(f'for file in {" ".join(paths)}; do (echo 1 > "$file") && echo "$file ALLOWED"; done; true')


def named(*names: str) -> frozenset[str]:
    """The names of the files that come home."""
    return frozenset(names)
