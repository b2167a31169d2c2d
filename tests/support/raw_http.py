"""HTTP without a client: one request as bytes, and whatever comes back, for tests that cut it anywhere."""

from __future__ import annotations

import socket

_HOST = "127.0.0.1"


def request(method: str, path: str, body: bytes, token: str) -> bytes:
    """A request with a JSON body, after whose answer the connection ends."""
    lines = (
        f"{method} {path} HTTP/1.1",
        f"Host: {_HOST}",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


def answer_to(port: int, whole: bytes, seconds: float = 20.0) -> bytes:
    """All that the server on this port says to ``whole``; nothing when the connection breaks."""
    with socket.create_connection((_HOST, port), timeout=seconds) as client:
        found = b""
        try:
            client.sendall(whole)
            while piece := client.recv(65536):
                found += piece
        except ConnectionError:
            return b""
        return found
