"""A second user of the grid, with a token of their own, after what is not theirs: by HTTP, at the real server."""

from __future__ import annotations

import hashlib
import http.client
import json
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from tests.attacks.attack import IMAGE
from tests.attacks.conftest import Raid

# The first test waits for all tasks.
pytestmark = [pytest.mark.needs("docker", "gcc", "root"), pytest.mark.timeout(400)]

VICTIM = "strange names"
ALIEN = "0" * 64
DEEP = b'{"spec": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BODIES: dict[str, bytes] = {
    "nested a hundred thousand times": DEEP,
    "a number without end": b'{"spec": {"priority": ' + b"9" * 100_000 + b"}}",
    "no JSON": b"\xff\xfe\x00",
    "not a number": b'{"spec": {"limits": {"time": NaN, "memory": Infinity}}}',
    "a list": b"[1]",
    "lone surrogates": b'{"spec": {"name": "\\ud800", "args": ["\\udfff"]}}',
    "zeros in a text": b'{"spec": {"image": "busybox", "args": ["a\\u0000b"]}}',
    "one key twice": b'{"spec": {"image": "busybox", "image": "busybox", "args": ["true"], "nope": 1}}',
    "a content that is no base64": b'{"spec": {"image": "busybox"}, "blobs": {"' + ALIEN.encode() + b'": "%%%"}}',
}
PATHS = (
    "files/../../../../../../etc/passwd",
    "files/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "files/..%2f..%2f..%2f..%2fetc%2fpasswd",
    "files//etc/passwd",
    "files/%2fetc%2fpasswd",
    "files/out%00.txt",
    "files/out/../../secret_key",
    "files/..\\..\\secret_key",
    "logs/..%2f..%2fsecret_key",
    "logs/stdout%00",
    "logs/stdout/../../../secret_key",
)


class Mallory:
    """The second user: sends what no client would."""

    def __init__(self, server: str, token: str) -> None:
        self.address = urlsplit(server)
        self.token = token

    def ask(self, method: str, path: str, body: bytes | None = None, token: str | None = None) -> tuple[int, bytes]:
        """Status and body of an answer; the path goes over the wire as it is."""
        headers = {"Authorization": f"Bearer {token or self.token}", "Content-Type": "application/json"}
        headers |= {"Idempotency-Key": hashlib.sha256(body or b"").hexdigest()}
        with closing(http.client.HTTPConnection(self.address.hostname or "", self.address.port, timeout=60)) as line:
            line.request(method, f"/api/v1{path}", body, headers)
            answer = line.getresponse()
            return answer.status, answer.read()


@pytest.fixture(scope="module")
def mallory(raid: Raid) -> Mallory:
    """An ordinary user, who owns nothing."""
    raid.grid.django("adduser", "mallory", "--generate")
    return Mallory(raid.grid.server, raid.grid.django("createtoken", "mallory"))


def test_nothing_of_a_strangers_task_is_seen(raid: Raid, mallory: Mallory) -> None:
    victim = raid.ends[VICTIM].result
    for part in ("", "/spec", "/result", "/events", "/attempts", "/explain", "/files/out", "/logs/stdout", "/wait"):
        status, said = mallory.ask("GET", f"/tasks/{victim.id}{part}")
        assert (status, victim.id.encode() in said.split(b'"detail"')[0]) == (404, False), part
    assert mallory.ask("GET", "/tasks")[1].count(b'"id"') == 0


def test_a_strangers_task_cannot_be_touched(raid: Raid, mallory: Mallory) -> None:
    victim = raid.ends[VICTIM].result
    for method, part in (("POST", "/cancel"), ("POST", "/copy"), ("PUT", "/sharing"), ("DELETE", "")):
        status, _ = mallory.ask(method, f"/tasks/{victim.id}{part}", b'{"reason": "mine", "shared": true}')
        assert status in (404, 422), f"{method} {part}"
    for verb in ("cancel", "retry"):
        told = mallory.ask("POST", f"/tasks/{verb}", json.dumps({"ids": [victim.id]}).encode())
        assert told[0] < 500, told
    assert raid.grid.client.get(victim.id).view.verdict == "succeeded"


def test_knowing_a_hash_opens_nothing(raid: Raid, mallory: Mallory) -> None:
    sha256 = raid.ends["its own input"].result.record.provenance.inputs["data"]
    assert mallory.ask("GET", f"/blobs/{sha256}")[0] == 404
    spec = {"image": IMAGE, "args": ["cat", "data"], "files": {"data": {"reference": sha256}}}
    status, said = mallory.ask("POST", "/tasks", json.dumps({"spec": spec}).encode())
    assert status in (409, 422), said
    status, said = mallory.ask("POST", "/blobs/missing", json.dumps({"sha256": [sha256]}).encode())
    assert status >= 400 or sha256.encode() in said, "whether others have it is not told either"


def test_a_content_is_not_taken_under_another_name(mallory: Mallory) -> None:
    status, _ = mallory.ask("PUT", f"/blobs/{ALIEN}", b"not that")
    assert 400 <= status < 500
    assert mallory.ask("GET", f"/blobs/{ALIEN}")[0] == 404


def test_the_doors_of_nodes_and_operators_are_shut(raid: Raid, mallory: Mallory) -> None:
    attempt = raid.ends[VICTIM].result.record.attempt_id
    for path in ("/node/hello", "/node/heartbeat", f"/node/attempts/{attempt}/outcome"):
        assert mallory.ask("POST", path, b"{}")[0] in (401, 403), path
    for method, path in (
        ("GET", "/audit"),
        ("GET", "/users"),
        ("POST", "/nodes"),
        ("GET", "/doctor"),
        ("GET", "/rules"),
    ):
        assert mallory.ask(method, path, b'{"name": "mine"}')[0] in (401, 403), path
    forged = f"{mallory.token[:-1]}{'x' if mallory.token[-1] != 'x' else 'y'}"
    assert mallory.ask("GET", "/whoami", token=forged)[0] == 401


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out_of_a_result(raid: Raid, mallory: Mallory, path: str) -> None:
    """Asked by the owner of the task, who gets further than anybody."""
    task = raid.ends["writes behind the back of others"].result.id
    status, said = mallory.ask("GET", f"/tasks/{task}/{path}", token=raid.grid.token)
    assert 400 <= status < 500, said
    assert b"root:" not in said


@pytest.mark.parametrize("kind", BODIES)
def test_no_body_is_too_much_for_the_server(mallory: Mallory, kind: str) -> None:
    for path in ("/tasks", "/tasks/check"):
        status, said = mallory.ask("POST", path, BODIES[kind])
        assert 400 <= status < 500 or (path == "/tasks/check" and status == 200), said[:500]


def test_the_server_did_not_choke(raid: Raid) -> None:
    """No answer was an accident."""
    log = (raid.grid.directory / "logs" / "web.log").read_text(errors="replace")
    assert "Traceback" not in log
