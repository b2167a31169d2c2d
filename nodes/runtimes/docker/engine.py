"""The container engine's API, as far as we use it: the only place that knows the Docker SDK and its errors."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast
from urllib.parse import quote

import docker
import docker.auth
import docker.errors
import docker.utils
import requests
import urllib3

from nodes.runtimes.docker.clock import process_started_at
from nodes.runtimes.docker.errors import EngineError, EngineGone, NameTaken, NotThere
from nodes.runtimes.docker.stream import Stream
from nodes.runtimes.docker.wire import TIMEOUT_SECONDS, Wire, error_of

_DEFAULT_ADDRESS = "unix:///var/run/docker.sock"
_POOL_SIZE = 64
_PROBE_SECONDS = 5
_PULL_IDLE_SECONDS = 300


class Engine:
    """One engine, one pool of connections for all threads. Raises ``EngineError`` and ``EngineGone``, nothing else.

    ``address`` is a URL such as ``unix:///var/run/docker.sock``; None follows ``DOCKER_HOST``. Connects at the first
    use.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._made: docker.APIClient | None = None
        self._made_wire: Wire | None = None

    # ------------------------------------------------------------------------------------------------------ containers

    def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Create a container and return its id. Raises NameTaken when there is one of that name."""
        with _translated():
            return str(self._wire.call("POST", "/containers/create", query={"name": name}, body=config)["Id"])

    def attach(self, container: str, *, stdin: bool) -> Stream:
        """Connect to the streams of a container that does not run yet; no output is missed."""
        wanted = {"stdout": 1, "stderr": 1, "stream": 1, **({"stdin": 1} if stdin else {})}
        with _translated():
            return self._wire.attach(f"{_container(container)}/attach", wanted)

    def logs(self, container: str, *, follow: bool) -> Iterator[bytes]:
        """The raw frames of all that the container wrote; with ``follow`` also of what it will write until its end."""
        with _translated():
            wanted = {"stdout": 1, "stderr": 1, "follow": int(follow)}
            yield from self._wire.pieces(f"{_container(container)}/logs", query=wanted)

    def start(self, container: str) -> None:
        """Start the program."""
        with _translated():
            self._wire.call("POST", f"{_container(container)}/start")

    def wait(self, container: str) -> int:
        """Wait for the end and return the exit code."""
        with _translated():
            return int(self._wire.call("POST", f"{_container(container)}/wait", timeout_seconds=None)["StatusCode"])

    def kill(self, container: str, signal: str = "SIGKILL") -> None:
        """Send a signal to the first process; nothing happens when it runs no more."""
        with contextlib.suppress(NotThere, NameTaken), _translated():
            self._wire.call("POST", f"{_container(container)}/kill", query={"signal": signal})

    def remove(self, container: str) -> None:
        """Remove a container, ending it if need be; nothing happens when it is not there (any more)."""
        # NameTaken: "removal is already in progress".
        with contextlib.suppress(NotThere, NameTaken), _translated():
            self._wire.call("DELETE", _container(container), query={"v": 1, "force": 1})

    def inspect(self, container: str) -> dict[str, Any]:
        """All that the engine knows of a container. Raises NotThere."""
        with _translated():
            return cast(dict[str, Any], self._wire.call("GET", f"{_container(container)}/json"))

    def written_bytes(self, container: str) -> int:
        """How much the container has written into its own root file system; slow. Raises NotThere."""
        with _translated():
            told = self._wire.call("GET", f"{_container(container)}/json", query={"size": 1})
        return int(told.get("SizeRw") or 0)

    def labelled(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """The containers, running or not, that carry all these labels."""
        wanted = json.dumps({"label": [f"{name}={value}" for name, value in labels.items()]})
        with _translated():
            found = self._wire.call("GET", "/containers/json", query={"all": 1, "filters": wanted})
        return cast(list[dict[str, Any]], found)

    # ---------------------------------------------------------------------------------------------------------- images

    def image(self, reference: str) -> dict[str, Any]:
        """All that the engine knows of an image. Raises NotThere."""
        with _translated():
            return cast(dict[str, Any], self._wire.call("GET", f"/images/{quote(reference, safe='/:@')}/json"))

    def images(self) -> list[dict[str, Any]]:
        """The images that are there."""
        with _translated():
            return cast(list[dict[str, Any]], self._wire.call("GET", "/images/json"))

    def remove_image(self, reference: str) -> None:
        """Remove a name, and with its last name the image. Raises NotThere, NameTaken when a container uses it."""
        with _translated():
            self._wire.call("DELETE", f"/images/{quote(reference, safe='/:@')}")

    def pull(self, reference: str, progress: Callable[[Mapping[str, Any]], None]) -> None:
        """Fetch an image; ``progress`` gets the engine's messages. Raises EngineError with the registry's sentence."""
        repository, tag = docker.utils.parse_repository_tag(reference)
        params = {"fromImage": repository, "tag": tag or "latest"}
        client = self._client
        with _translated():
            auth = docker.auth.get_config_header(client, docker.auth.resolve_repository_name(repository)[0])
            answer = client.post(
                f"{client.base_url}/v{client.api_version}/images/create",
                params=params,
                headers={"X-Registry-Auth": auth} if auth else {},
                stream=True,
                timeout=(TIMEOUT_SECONDS, _PULL_IDLE_SECONDS),
            )
            with answer:
                if answer.status_code >= http.client.BAD_REQUEST:
                    raise error_of(answer.status_code, answer.content)
                for line in answer.iter_lines():
                    message = json.loads(line)
                    if "error" in message:
                        raise EngineError(str(message["error"]))
                    progress(message)

    # ---------------------------------------------------------------------------------------------------------- engine

    def version(self) -> dict[str, Any]:
        """The engine's version and API version."""
        with _translated():
            return self._client.version()

    def info(self) -> dict[str, Any]:
        """What the engine says of itself and of the machine."""
        with _translated():
            return self._client.info()

    def answers(self) -> bool:
        """True when the engine answers on a new connection (old ones may survive the start of its end)."""
        try:
            with _translated(), contextlib.closing(self._connect(_PROBE_SECONDS)) as client:
                client.ping()
        except (EngineError, EngineGone):
            return False
        return True

    def started_at(self) -> float | None:
        """When the engine's process started, in seconds since boot; None when that cannot be told.

        The process is the one that listens on the engine's Unix socket, so this also works without a pid file.
        """
        path = self._socket_path()
        if path is None:
            return None
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(_PROBE_SECONDS)
                probe.connect(path)
                pid = int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), "little")
        except OSError:
            return None
        return process_started_at(pid) if pid > 1 else None

    def close(self) -> None:
        """Let go of the connections; a further use makes new ones."""
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None
            if self._made_wire is not None:
                self._made_wire.close()
                self._made_wire = None

    def _socket_path(self) -> str | None:
        """The engine's Unix socket, None when it is reached over the network."""
        address = self._address or os.environ.get("DOCKER_HOST") or _DEFAULT_ADDRESS
        return address.removeprefix("unix://") if address.startswith("unix://") else None

    @property
    def _client(self) -> docker.APIClient:
        with self._lock:
            if self._made is None:
                self._made = self._connect(TIMEOUT_SECONDS)
            return self._made

    @property
    def _wire(self) -> Wire:
        client = self._client
        with self._lock:
            if self._made_wire is None:
                self._made_wire = Wire(client, self._socket_path())
            return self._made_wire

    def _connect(self, timeout_seconds: float) -> docker.APIClient:
        path = self._socket_path()
        if path is not None:  # the SDK's own words for that fill a page
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                try:
                    probe.connect(path)
                except OSError as error:
                    raise EngineGone(f"{path}: {error.strerror}") from error
        options = docker.utils.kwargs_from_env() if self._address is None else {"base_url": self._address}
        client = docker.APIClient(
            version="auto", timeout=cast(Any, timeout_seconds), max_pool_size=_POOL_SIZE, **options
        )
        client.trust_env = False  # proxies are not for the engine, and looking for them costs CPU at every request
        return client


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn the SDK's errors, and those of the libraries below it, into ours."""
    try:
        yield
    except docker.errors.APIError as error:
        raise error_of(int(error.status_code or 500), str(error.explanation or error).encode()) from error
    except (docker.errors.DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise EngineGone(str(error)) from error


def _container(container: str) -> str:
    return f"/containers/{quote(container, safe='')}"
