"""The client's part of ``grid doctor``: what it says of the way to the server, of versions and of clocks."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from grid import config
from grid.cli import main
from grid.cli.doctor import check_clock, check_config, check_version
from tasks.views import DoctorView, Level
from tests.support.small_grid import SmallGrid

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration of a client that knows a server where nobody answers."""
    for name in ("GRID_SERVER", "GRID_TOKEN", "GRID_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "client.toml"
    monkeypatch.setenv("GRID_CONFIG", str(path))
    with SmallGrid() as gone:
        config.save(path, config.Config(gone.url, "grid_secret"))
    return path


def test_a_server_that_does_not_answer_is_a_failure_with_advice(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["grid", "doctor", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    out = capsys.readouterr().out
    found = {one["name"]: one for one in json.loads(out)}
    assert {name: one["level"] for name, one in found.items()} == {"config": "pass", "server": "fail"}
    assert "no grid answers" in found["server"]["detail"]
    assert "is the server up" in found["server"]["hint"]
    assert "grid_secret" not in out


def test_a_token_that_others_may_read(file: Path) -> None:
    file.chmod(0o644)
    (found,) = check_config()
    assert (found.level, found.hint) == (Level.WARN, f"chmod 600 {file}")


def test_a_configuration_that_makes_no_sense_or_has_no_token(file: Path) -> None:
    file.write_text("[grid\n")
    (found,) = check_config()
    assert (found.level, found.hint) == (Level.FAIL, f"correct {file}")
    file.unlink()
    (found,) = check_config()
    assert (found.level, found.detail) == (Level.FAIL, "no token is known")
    assert "GRID_TOKEN" in found.hint


@pytest.mark.parametrize(
    ("ahead_seconds", "level", "detail"),
    [
        (0.0, Level.PASS, "as the server's"),
        (3.0, Level.PASS, "3s ahead of the server's"),
        (-60.0, Level.WARN, "59.8s behind the server's"),
        (7200.0, Level.FAIL, "2h ahead of the server's"),
    ],
)
def test_the_clock_is_compared_with_the_servers(ahead_seconds: float, level: Level, detail: str) -> None:
    view = DoctorView(at=NOON - timedelta(seconds=ahead_seconds), version="1", findings=())
    found = check_clock(view, NOON, NOON + timedelta(seconds=0.2))
    assert (found.name, found.level) == ("clock", level)
    assert found.detail == detail


def test_a_slow_answer_is_no_wrong_clock() -> None:
    view = DoctorView(at=NOON, version="1", findings=())
    slow = check_clock(view, NOON - timedelta(seconds=20), NOON + timedelta(seconds=20))
    assert (slow.level, slow.detail) == (Level.PASS, "as the server's")


def test_versions_that_may_not_understand_each_other() -> None:
    assert check_version("0.1.0", "0.1.7").level is Level.PASS
    assert check_version("0.2.0", "0.1.7").level is Level.WARN
