"""The checks of a machine: good and bad machines are told apart, with a hint for the bad."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from nodes import check
from nodes.check import Check, as_json, worst
from observer.cgroups import Layout
from tasks.views import Level

GOOD_VERSION = {"Version": "20.10.24+dfsg1", "ApiVersion": "1.41"}
GOOD_INFO: dict[str, Any] = {
    "MemoryLimit": True,
    "SwapLimit": True,
    "CpuCfsQuota": True,
    "PidsLimit": True,
    "InitBinary": "docker-init",
    "InitCommit": {"ID": "de40ad0"},
    "LiveRestoreEnabled": True,
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=default"],
    "Driver": "overlay2",
    "RegistryConfig": {"IndexConfigs": {"docker.io": {"Secure": True}}},
}


def levels(checks: Iterable[Check]) -> dict[str, Level]:
    """Names and levels; whatever is not right must have a hint."""
    found = list(checks)
    assert all(one.hint for one in found if one.level is not Level.PASS and one.name != "engine-warning")
    return {one.name: one.level for one in found}


def test_a_good_engine_passes() -> None:
    assert set(levels(check.check_engine(GOOD_INFO, GOOD_VERSION)).values()) == {Level.PASS}
    assert set(levels(check.check_confinement(GOOD_INFO)).values()) == {Level.PASS}
    assert set(levels(check.check_engine_settings(GOOD_INFO)).values()) == {Level.PASS}


@pytest.mark.parametrize(
    ("change", "name", "level"),
    [
        ({"PidsLimit": False}, "limits", Level.FAIL),
        ({"InitBinary": ""}, "docker-init", Level.WARN),
        ({"LiveRestoreEnabled": False}, "live-restore", Level.WARN),
        ({"Warnings": ["WARNING: No blkio"]}, "engine-warning", Level.WARN),
        ({"SecurityOptions": ["name=apparmor"]}, "seccomp", Level.FAIL),
        ({"SecurityOptions": ["name=seccomp,profile=default"]}, "lsm", Level.WARN),
        ({"Driver": "vfs"}, "storage-driver", Level.WARN),
        ({"ExperimentalBuild": True}, "experimental", Level.WARN),
        ({"RegistryConfig": {"IndexConfigs": {"lab:5000": {"Secure": False}}}}, "registries", Level.WARN),
    ],
)
def test_what_is_wrong_with_an_engine_is_found(change: dict[str, Any], name: str, level: Level) -> None:
    info = {**GOOD_INFO, **change}
    found = levels(
        [*check.check_engine(info, GOOD_VERSION), *check.check_confinement(info), *check.check_engine_settings(info)]
    )
    assert found[name] is level
    assert [other for other, its in found.items() if its is not Level.PASS] == [name]


def test_old_engines_fail() -> None:
    assert levels(check.check_engine(GOOD_INFO, {"Version": "19.03.1", "ApiVersion": "1.40"}))["engine"] is Level.FAIL


def test_without_an_engine_the_rest_is_still_told(tmp_path: Path) -> None:
    found = check.run_checks(tmp_path, address=f"unix://{tmp_path}/none")
    assert {"engine", "engine-socket"} <= {one.name for one in found if one.level is Level.FAIL}
    assert {"cgroups", "workspace"} <= {one.name for one in found}
    assert worst(found) is Level.FAIL
    assert json.loads(as_json(found))["level"] == "fail"


def test_sockets_for_everybody_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "socket"
    path.touch(mode=0o666)
    path.chmod(0o666)
    assert levels(check.check_socket(f"unix://{path}")) == {"engine-socket": Level.WARN}
    monkeypatch.delenv("DOCKER_TLS_VERIFY", raising=False)
    assert levels(check.check_socket("tcp://127.0.0.1:2375")) == {"engine-socket": Level.FAIL}


def test_missing_control_groups_fail() -> None:
    assert levels(check.check_groups(Layout()))["cgroups"] is Level.FAIL


def test_disks_are_looked_at_where_they_will_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "not" / "yet"
    monkeypatch.setattr(check, "LEAST_FREE_BYTES", 0)
    monkeypatch.setattr(check, "FEW_FREE_BYTES", 0)
    assert levels(check.check_disk("disk", folder))["disk"] is Level.PASS
    monkeypatch.setattr(check, "LEAST_FREE_BYTES", 1 << 60)
    monkeypatch.setattr(check, "LEAST_FREE_INODES", 1 << 60)
    assert levels(check.check_disk("disk", folder)) == {"disk": Level.FAIL, "disk-inodes": Level.WARN}


class Silent(BaseHTTPRequestHandler):
    """Answers 404, with the time, as every server does."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_clocks_are_compared() -> None:
    with HTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert check.check_clock(url, time.time).level is Level.PASS
        late = check.check_clock(url, lambda: time.time() - 7200)
        server.shutdown()
    assert late.level is Level.WARN
    assert late.detail.startswith("-7")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "file:///etc/passwd"])
def test_servers_that_do_not_answer_fail(url: str) -> None:
    assert check.check_clock(url, lambda: 0.0).level is Level.FAIL


def test_nothing_is_not_bad() -> None:
    assert worst([]) is Level.PASS
