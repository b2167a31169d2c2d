"""Providers of OpenID Connect: an honest one of the package oidc-provider-mock, and one that says what a test wants."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from tests.support.broker import free_port


@contextmanager
def honest_provider(people: Sequence[Mapping[str, Any]], seconds: float = 60.0, port: int = 0) -> Iterator[str]:
    """A provider that knows these people by their claims, in a process of its own; its address."""
    port = port or free_port()
    known = [word for one in people for word in ("--user-claims", json.dumps(dict(one)))]
    # It warns of what its own packages will remove some day.
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port), *known]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + seconds
            while not _answers(url):
                assert process.poll() is None, "the provider ended"
                assert time.monotonic() < deadline, "the provider does not answer"
                time.sleep(0.05)
            yield url
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/.well-known/openid-configuration").status_code == 200
    except httpx.TransportError:
        return False


def a_key() -> rsa.RSAPrivateKey:
    """A fresh key to sign with."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class Liar:
    """What it answers; a claim of None is left out of the identity."""

    url: str = ""
    key: rsa.RSAPrivateKey = field(default_factory=a_key)
    signer: Any = None
    algorithm: str = "RS256"
    claims: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)
    issuer: str = ""

    def identity(self, nonce: str) -> str:
        """The signed identity: an honest one, but for ``claims``."""
        honest = {"iss": self.url, "sub": "7", "aud": "grid", "exp": time.time() + 60, "nonce": nonce}
        told = {name: text for name, text in {**honest, **self.claims}.items() if text is not None}
        signer = self.key if self.signer is None else self.signer
        return jwt.encode(told, signer, self.algorithm, headers={"kid": "1"})

    def answer(self, path: str, nonce: str) -> dict[str, Any]:
        """The body of the answer for an address."""
        if path.startswith("/.well-known/"):
            ends = {"authorization": "authorize", "token": "token", "userinfo": "userinfo"}
            return {
                "issuer": self.issuer or self.url,
                **{f"{name}_endpoint": f"{self.url}/{end}" for name, end in ends.items()},
                "jwks_uri": f"{self.url}/keys",
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        if path == "/keys":
            public = json.loads(RSAAlgorithm.to_jwk(self.key.public_key()))
            return {"keys": [{**public, "kid": "1", "alg": self.algorithm}]}
        if path == "/token":
            return {"access_token": "a", "token_type": "Bearer", "id_token": self.identity(nonce)}
        return {"sub": "7", "preferred_username": "eve", **self.userinfo}


@contextmanager
def lying_provider(nonce: list[str]) -> Iterator[Liar]:
    """The provider on a port of its own; it puts the last of ``nonce`` into identities."""
    liar = Liar()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(liar.answer(self.path, nonce[-1] if nonce else "")).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        liar.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield liar
        finally:
            server.shutdown()
            thread.join()
