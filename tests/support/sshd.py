"""A real sshd on a private port of the loopback, with keys that are thrown away, for tests of what goes over ssh."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.support.broker import free_port
from tests.support.node_api import eventually

_CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
AcceptEnv NODE
"""
_CLIENT_HOST = """
Host {name}
    HostName 127.0.0.1
    Port {port}
    HostKeyAlias grid
    SetEnv NODE={name}
"""
_CLIENT_KEYS = """
Host *
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile /dev/null
"""


class Sshd:
    """An sshd; ``client_config`` is for ``ssh -F``. Each name is a host whose shell knows it as ``$NODE``."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder = folder
        self._names = tuple(names)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.client_config = folder / "ssh_config"
        self.log = folder / "sshd.log"

    def __enter__(self) -> Sshd:
        self._folder.mkdir(parents=True)
        for name in ("host_key", "user_key"):
            key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._folder / name)]
            subprocess.run(key, check=True)
        kind, key_text, *_ = (self._folder / "host_key.pub").read_text().split()
        (self._folder / "known_hosts").write_text(f"grid {kind} {key_text}\n")
        (self._folder / "sshd_config").write_text(_CONFIG.format(port=self.port, folder=self._folder))
        hosts = "".join(self._host(name) for name in self._names)
        self.client_config.write_text(hosts + _CLIENT_KEYS.format(folder=self._folder))
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's place to drop its privileges in
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["/usr/sbin/sshd", "-D", "-e", "-f", str(self._folder / "sshd_config")], stderr=log
            )
        eventually(self._listens)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def _host(self, name: str) -> str:
        return _CLIENT_HOST.format(name=name, port=self.port)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
