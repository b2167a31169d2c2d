"""Requests to the engine over the connections below the Docker SDK: a third of what the SDK's own calls cost.

The SDK finds the engine, its API version and its certificates. But its session opens a connection for every new
address (that is: for every container), and takes 1 ms of processor time per call where this takes 0.3 ms.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import urlencode

import docker
import requests
import urllib3
from docker.transport.unixconn import UnixHTTPConnectionPool
from requests.adapters import HTTPAdapter

from nodes.runtimes.docker.errors import EngineError, NameTaken, NotThere
from nodes.runtimes.docker.stream import Stream

TIMEOUT_SECONDS = 120
_POOL_SIZE = 64
_CHUNK = 1 << 16
_KINDS: Mapping[int, type[EngineError]] = {http.client.NOT_FOUND: NotThere, http.client.CONFLICT: NameTaken}


class Wire:
    """Connections to the engine of ``client``, for all threads; ``socket_path`` is None when it is not a Unix socket.

    Raises EngineError for what the engine says no to, and the errors of urllib3 and of sockets.
    """

    def __init__(self, client: docker.APIClient, socket_path: str | None) -> None:
        self._prefix = f"/v{client.api_version}"
        self._pool = _pool(client, socket_path)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        timeout_seconds: float | None = TIMEOUT_SECONDS,
    ) -> Any:
        """Send a request and return the JSON of the answer, None when it is empty.

        ``timeout_seconds`` is how long the engine may be silent, None for ever.
        """
        answer = self._send(method, path, query, body=body, timeout_seconds=timeout_seconds)
        with answer:
            data = answer.data
        return json.loads(data) if data else None

    def pieces(self, path: str, *, query: Mapping[str, object] | None = None) -> Iterator[bytes]:
        """What is answered to a GET, piece by piece as it comes."""
        with self._send("GET", path, query, timeout_seconds=None) as answer:
            yield from answer.stream(_CHUNK)

    def attach(self, path: str, query: Mapping[str, object]) -> Stream:
        """Take a connection over from HTTP: from now on it carries the streams of a container."""
        answer = self._send("POST", path, query, headers={"Connection": "Upgrade", "Upgrade": "tcp"})
        connection = cast(http.client.HTTPConnection, answer.connection)
        return Stream(connection.sock, answer.close)

    def close(self) -> None:
        """Let go of the idle connections."""
        self._pool.close()

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        *,
        headers: Mapping[str, str] | None = None,
        body: object = None,
        timeout_seconds: float | None = TIMEOUT_SECONDS,
    ) -> urllib3.BaseHTTPResponse:
        url = f"{self._prefix}{path}?{urlencode(query)}" if query else f"{self._prefix}{path}"
        answer = self._pool.urlopen(
            method,
            url,
            body=None if body is None else json.dumps(body).encode(),
            headers=headers if body is None else {"Content-Type": "application/json"},
            timeout=urllib3.Timeout(connect=TIMEOUT_SECONDS, read=timeout_seconds),
            retries=False,
            preload_content=False,
        )
        if answer.status >= http.client.BAD_REQUEST:
            with answer:
                raise error_of(answer.status, answer.data)
        return answer


def error_of(status: int, body: bytes) -> EngineError:
    """The engine's no: its sentence is the ``message`` of a JSON object, or all that it says."""
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace")
    return _KINDS.get(status, EngineError)(message, status)


def _pool(client: docker.APIClient, socket_path: str | None) -> urllib3.HTTPConnectionPool:
    if socket_path is not None:
        return UnixHTTPConnectionPool(client.base_url, socket_path, maxsize=_POOL_SIZE)
    adapter = cast(HTTPAdapter, client.get_adapter(client.base_url))
    anything = requests.Request("GET", client.base_url).prepare()
    found = adapter.get_connection_with_tls_context(anything, verify=client.verify, cert=client.cert)
    return cast(urllib3.HTTPConnectionPool, found)
