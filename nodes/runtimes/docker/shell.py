"""A shell where a task was: its image, its folder, its user and what protects the machine, and a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nodes.runtimes.docker.profile import DEFAULT_NETWORK, JUDGE_CAPABILITIES, NONE_NETWORK, WORKSPACE
from nodes.runtimes.docker.seccomp import profile as seccomp_profile
from tasks.profiles import Profile

_TMP = "/tmp:rw,nosuid,nodev,exec,mode=1777"  # noqa: S108 - the container's own


@dataclass(frozen=True, slots=True)
class Inside:
    """Where the shell is to be: ``owner`` is uid and gid, ``memory`` a limit in bytes or None."""

    image: str
    environment: Mapping[str, str]
    workspace: Path
    owner: tuple[int, int]
    profile: Profile
    network: bool
    memory: int | None


def shell_command(inside: Inside, seccomp: Path) -> list[str]:
    """The command of Docker that opens the shell; ``seccomp`` is written, for Docker reads its profile from a file."""
    judge = inside.profile is Profile.JUDGE
    seccomp.write_text(seccomp_profile(judge=judge), encoding="utf-8")
    command = ["docker", "run", "--rm", "--interactive", "--tty", "--init", "--entrypoint", "sh", "--hostname", "grid"]
    command += ["--user", "{}:{}".format(*inside.owner), "--workdir", WORKSPACE]
    command += ["--mount", f"type=bind,source={inside.workspace},target={WORKSPACE}", "--tmpfs", _TMP]
    command += ["--network", DEFAULT_NETWORK if inside.network else NONE_NETWORK]
    command += ["--cap-drop", "ALL", *([] if judge else ["--read-only"])]
    command += [word for name in JUDGE_CAPABILITIES if judge for word in ("--cap-add", name)]
    command += ["--security-opt", "no-new-privileges", "--security-opt", f"seccomp={seccomp}"]
    if inside.memory is not None:
        command += ["--memory", str(inside.memory)]
    for name, value in {"HOME": WORKSPACE, **inside.environment}.items():
        command += ["--env", f"{name}={value}"]
    return [*command, inside.image]
