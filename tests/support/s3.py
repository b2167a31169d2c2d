"""A real S3 server on private ports: OpenStack Swift with its S3 API, one disk, one copy, as Debian packages it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Self

import httpx
import obstore

from grid.core.contents.store_s3 import Bucket
from tests.support.broker import free_port

KEY = "grid:operator"
SECRET = "parsnip-4711"
BUCKET = "blobs"
START_SECONDS = 90.0
# Debian's own Python has Swift's modules.
PYTHON = "/usr/bin/python3"
SERVERS = ("account", "container", "object")

_RINGS = """
import sys
from swift.common.ring import RingBuilder
folder = sys.argv[1]
for name, port in zip(("account", "container", "object"), map(int, sys.argv[2:])):
    ring = RingBuilder(4, 1, 0)
    place = {"ip": "127.0.0.1", "port": port, "replication_ip": "127.0.0.1", "replication_port": port}
    ring.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1.0, "device": "disk", **place})
    ring.rebalance()
    ring.get_ring().save(f"{folder}/{name}.ring.gz")
"""

_STORAGE = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = root
workers = 0
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""

_PROXY = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = root
workers = 0
swift_dir = {folder}
[pipeline:main]
pipeline = catch_errors gatekeeper cache listing_formats s3api tempauth copy slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:tempauth]
use = egg:swift#tempauth
user_grid_operator = {secret} .admin
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
allow_multipart_uploads = true
[filter:slo]
use = egg:swift#slo
[filter:copy]
use = egg:swift#copy
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{cache}
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:listing_formats]
use = egg:swift#listing_formats
"""


class S3Server:
    """The server with the bucket ``blobs``; what it holds is kept in ``folder`` over ``kill`` and ``start``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = {name: free_port() for name in (*SERVERS, "proxy", "cache")}
        self._processes: list[subprocess.Popen[bytes]] = []
        self.endpoint = f"http://127.0.0.1:{self._ports['proxy']}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables with the credentials."""
        return {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}

    def url(self, prefix: str = "") -> str:
        """The address of the store, as a grid's setting."""
        return f"s3://{BUCKET}/{prefix}?endpoint={self.endpoint}"

    def start(self) -> Self:
        """Start it, again after a ``kill``, and wait until it answers."""
        (self._folder / "devices" / "disk").mkdir(parents=True, exist_ok=True)
        if not (self._folder / "object.ring.gz").exists():
            ports = [str(self._ports[name]) for name in SERVERS]
            subprocess.run([PYTHON, "-c", _RINGS, str(self._folder), *ports], check=True, capture_output=True)
        self._run("cache", ["memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", str(self._ports["cache"])])
        for name in SERVERS:
            self._spawn(name, _STORAGE.format(name=name, port=self._ports[name], folder=self._folder))
        cache, proxy = self._ports["cache"], self._ports["proxy"]
        self._spawn("proxy", _PROXY.format(port=proxy, folder=self._folder, secret=SECRET, cache=cache))
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the S3 server did not start:\n{self.logs()}")
            time.sleep(0.1)
        return self

    def kill(self) -> None:
        """kill -9 all of it."""
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()

    def __enter__(self) -> Self:
        self.start()
        self.make_bucket()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def make_bucket(self) -> None:
        """Make the bucket: an empty PUT to its address, with a signature in it."""
        bucket = Bucket.of_url(self.url()).connect(KEY, SECRET)
        address = obstore.sign(bucket, "PUT", "", timedelta(seconds=60))
        httpx.put(address, timeout=START_SECONDS).raise_for_status()

    def logs(self) -> str:
        """What its parts have said."""
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(self._folder.glob("*.log")))

    def _answers(self) -> bool:
        ports = [self._ports[name] for name in (*SERVERS, "proxy")]
        for port in ports:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) != 0:
                    return False
        try:
            return httpx.get(self.endpoint, timeout=10).status_code < 500
        except httpx.TransportError:
            return False

    def _spawn(self, name: str, config: str) -> None:
        path = self._folder / f"{name}.conf"
        path.write_text(config)
        self._run(name, [f"/usr/bin/swift-{name}-server", str(path)])

    def _run(self, name: str, command: list[str]) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
