"""A Docker Engine of our own in a temporary folder, to be stopped and killed as tests like."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nodes.runtimes.docker.engine import Engine

START_SECONDS = 60
_POLL_SECONDS = 0.1


class PrivateEngine:
    """Runs ``dockerd`` without networks; ``live_restore`` lets containers outlive it. Use as a context."""

    def __init__(self, *, live_restore: bool = False) -> None:
        # Paths of Unix sockets must be short.
        self._folder = Path(tempfile.mkdtemp(prefix="gd-", dir="/tmp"))
        self.address = f"unix://{self._folder}/sock"
        self._live_restore = live_restore
        self._process: subprocess.Popen[bytes] | None = None
        self._containerd: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PrivateEngine:
        folder = self._folder
        # A containerd that does not share the engine's fate, as on every real machine.
        command = ["containerd", f"--root={folder}/croot", f"--state={folder}/cstate", f"--address={folder}/csock"]
        with (folder / "containerd.log").open("ab") as log:
            self._containerd = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            self.start()
            image = subprocess.run(["docker", "save", "busybox:local"], capture_output=True, check=True, timeout=60)
            subprocess.run(["docker", "-H", self.address, "load", "-q"], input=image.stdout, check=True, timeout=60)
        except BaseException:
            for process in (self._process, self._containerd):
                if process is not None:
                    process.kill()
                    process.wait()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process is None:
            self.start()  # it must tidy up what it left when it was killed
        engine = Engine(self.address)
        for one in engine.labelled({}):
            engine.remove(one["Id"])
        engine.close()
        self.stop(signal.SIGTERM)
        assert self._containerd is not None
        self._containerd.terminate()
        self._containerd.wait(START_SECONDS)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([place for place in mounts if place.startswith(str(self._folder))]):
            subprocess.run(["umount", "-l", mount], check=False, timeout=10)
        shutil.rmtree(self._folder)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = ["dockerd", "-H", self.address, "--bridge=none", "--iptables=false", "--ip-masq=false"]
        command += [f"--data-root={self._folder}/data", f"--exec-root={self._folder}/exec"]
        command += [f"--containerd={self._folder}/csock"]
        command += [f"--pidfile={self._folder}/pid", *(["--live-restore"] if self._live_restore else [])]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        engine = Engine(self.address)
        deadline = time.monotonic() + START_SECONDS
        while not engine.answers():
            assert time.monotonic() < deadline, (self._folder / "log").read_text()[-3000:]
            assert self._process.poll() is None, (self._folder / "log").read_text()[-3000:]
            time.sleep(_POLL_SECONDS)

    def containers(self) -> list[str]:
        """The ids of all its containers, running or not."""
        engine = Engine(self.address)
        try:
            return [str(one["Id"]) for one in engine.labelled({})]
        finally:
            engine.close()

    def programs(self) -> int:
        """How many of its containers have a program that runs, whether or not the engine does."""
        shims = Path(f"{self._folder}/cstate/io.containerd.runtime.v2.task/moby").glob("*/init.pid")
        return sum(Path(f"/proc/{shim.read_text()}").exists() for shim in shims)

    @contextmanager
    def hung(self) -> Iterator[None]:
        """While this lasts it takes connections and never answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self, number: signal.Signals) -> None:
        """Send it a signal, and wait until it is gone."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(START_SECONDS)
        self._process = None
