"""A real registry of images on the loopback interface, which engines talk to without encryption."""

from __future__ import annotations

import http.client
import subprocess
from pathlib import Path
from types import TracebackType

from tests.support.broker import free_port
from tests.support.images import docker
from tests.support.node_api import eventually

_CONFIG = """\
version: 0.1
log: {{level: info, accesslog: {{disabled: false}}}}
storage: {{filesystem: {{rootdirectory: "{folder}/images"}}}}
http: {{addr: "{address}"}}
"""


class Registry:
    """The program ``docker-registry`` with its images in ``folder``. Use as a context."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._pushed: list[str] = []
        self.address = f"127.0.0.1:{free_port()}"

    def __enter__(self) -> Registry:
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "config.yml"
        config.write_text(_CONFIG.format(folder=self._folder, address=self.address))
        with self.log_file.open("ab") as log:
            process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
        self._process = process
        eventually(lambda: process.poll() is not None or self._answers())
        assert process.poll() is None, self.log_file.read_text()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self._pushed:
            self.forget(name)
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def log_file(self) -> Path:
        """Where it notes every request."""
        return self._folder / "log"

    def push(self, image: str, name: str) -> str:
        """Put a local image into the registry as ``name``; only the registry has it under the name returned."""
        full = f"{self.address}/{name}"
        self._pushed.append(full)
        docker("tag", image, full)
        docker("push", "--quiet", full)
        self.forget(full)
        return full

    def forget(self, full: str) -> None:
        """Let the engine forget the name, if it has it; the image stays under its other names."""
        subprocess.run(["docker", "rmi", "--no-prune", full], capture_output=True, check=False)

    def requests(self, words: str) -> int:
        """How many requests such as ``HEAD /v2/lab/tool/manifests/1`` it has answered."""
        return sum(f'"{words} ' in line for line in self.log_file.read_text().splitlines())

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(self.address, timeout=1)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()
