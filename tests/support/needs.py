"""Which parts of the machine a test cannot do without, and how to find out whether they are there."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tests.support.clocks import LIBRARY
from tests.support.postgres import programs


def _answers(*command: str) -> bool:
    """True when the command exists and ends with status 0 within a minute, which is long enough for slow machines."""
    if shutil.which(command[0]) is None:
        return False
    try:
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


PARTS: dict[str, tuple[Callable[[], bool], str]] = {
    "docker": (lambda: _answers("docker", "info"), "no Docker Engine answers; scripts/test starts one"),
    "busybox": (
        lambda: _answers("docker", "image", "inspect", "busybox:local"),
        "no image busybox:local; scripts/test makes it",
    ),
    "dockerd": (lambda: shutil.which("dockerd") is not None, "no dockerd to start one of our own; install docker.io"),
    "chromium": (
        lambda: Path("/usr/bin/chromium").exists() and importlib.util.find_spec("playwright") is not None,
        "no browser for the pages; install chromium, and playwright of requirements-dev.txt",
    ),
    "g++": (
        lambda: _answers("dpkg-query", "--show", "g++", "python3", "zip"),
        "nothing to make a judge's image of; install g++, python3 and zip of Debian",
    ),
    "gcc": (lambda: _answers("gcc", "--version"), "no C compiler; install gcc and libc6-dev"),
    "registry": (
        lambda: shutil.which("docker-registry") is not None,
        "no registry of images; install docker-registry",
    ),
    "faketime": (lambda: LIBRARY is not None, "no clocks that can be set; install faketime"),
    "systemd": (lambda: shutil.which("systemd-analyze") is not None, "no systemd-analyze; install systemd"),
    "namespaces": (
        lambda: os.geteuid() == 0 and _answers("unshare", "--net", "true") and shutil.which("ip") is not None,
        "no network namespaces; only root may make them, with iproute2 and util-linux",
    ),
    "sshd": (lambda: Path("/usr/sbin/sshd").exists() and shutil.which("ssh") is not None, "install openssh-server"),
    "mmdebstrap": (lambda: shutil.which("mmdebstrap") is not None, "nothing to make images with; install mmdebstrap"),
    "compose": (
        lambda: _answers("docker", "compose", "version") or shutil.which("docker-compose") is not None,
        "no Docker Compose; install docker-compose",
    ),
    "redis": (lambda: shutil.which("redis-server") is not None, "no Redis; install redis-server"),
    "rabbitmq": (lambda: shutil.which("rabbitmqctl") is not None, "no RabbitMQ; install rabbitmq-server"),
    "swift": (lambda: shutil.which("swift-proxy-server") is not None, "no S3 server; install swift-proxy and its like"),
    "slapd": (
        lambda: all(Path(f"/usr/{name}").exists() for name in ("sbin/slapd", "include/ldap.h", "include/sasl/sasl.h")),
        "no directory, or nothing to build its client with; install slapd, libldap2-dev and libsasl2-dev",
    ),
    "postgres": (lambda: programs() is not None, "no PostgreSQL to start one of our own; install postgresql"),
    "root": (lambda: os.geteuid() == 0, "only root may do this"),
}


@cache
def missing(part: str) -> str:
    """Why the part is not there, or an empty string when it is. Raises KeyError for a part that nobody described."""
    there, why_not = PARTS[part]
    return "" if there() else f"{part}: {why_not}"
