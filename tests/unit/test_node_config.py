"""What a node is told at its start is checked before anything begins, and each refusal says what to write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nodes.__main__ import main
from nodes.config import ConfigError, NodeConfig, default_name, read_size, read_token
from nodes.journal import event
from nodes.lock import AlreadyRunning, NodeLock


def config(**changes: object) -> NodeConfig:
    fields = {"server": "http://127.0.0.1:1", "name": "n1", "directory": Path("/x"), "token": "hush", **changes}
    return NodeConfig(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "no spaces"}, "write letters, digits"),
        ({"name": ""}, "is not a name"),
        ({"server": "localhost:8080"}, "write http://host:port"),
        ({"slots": 0}, "at least 1 slot"),
        ({"cpus": 0.0}, "leave --cpus out"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_to_write(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config(**changes)


def test_the_token_is_not_in_what_is_printed() -> None:
    assert "hush" not in repr(config())


def test_the_token_comes_from_the_nearest_place(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from file\n")
    by_file = {"GRID_TOKEN_FILE": str(tmp_path / "token")}
    assert read_token("given", {"GRID_TOKEN": "from env", **by_file}) == "given"
    assert read_token(None, {"GRID_TOKEN": "from env", **by_file}) == "from env"
    assert read_token(None, by_file) == "from file"


def test_a_token_that_cannot_be_had_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --token"):
        read_token(None, {})
    with pytest.raises(ConfigError, match="cannot read"):
        read_token(None, {"GRID_TOKEN_FILE": str(tmp_path / "none")})


def test_sizes_are_read_with_units() -> None:
    assert (read_size("1G"), read_size(None)) == (2**30, None)
    with pytest.raises(ConfigError, match="is not a size"):
        read_size("much")


def test_the_machines_name_can_be_a_nodes_name() -> None:
    assert config(name=default_name()).name == default_name()


def test_an_event_is_one_line_of_keys_and_values() -> None:
    text = event("taken", attempt="a1", seconds=0.5, message='two\nlines "quoted"')
    assert text == "action=taken attempt=a1 seconds=0.500 message=\"two lines 'quoted'\""


def test_a_folder_is_held_by_one_agent(tmp_path: Path) -> None:
    lock = NodeLock(tmp_path / "one")
    with pytest.raises(AlreadyRunning, match=rf"pid {os.getpid()}\) already has the folder"):
        NodeLock(tmp_path / "one")
    lock.release()
    NodeLock(tmp_path / "one").release()


def test_two_nodes_of_one_name_are_told_apart_by_their_folder() -> None:
    assert config(directory=Path("/x")).identity != config(directory=Path("/y")).identity


def test_a_start_without_a_token_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("GRID_TOKEN", raising=False)
    monkeypatch.delenv("GRID_TOKEN_FILE", raising=False)
    assert main(["start"]) == 2
    assert "give --token" in capsys.readouterr().err


@pytest.mark.needs("docker", "root")
def test_a_check_prints_a_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--dir", str(tmp_path), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["checks"]
    assert main(["check", "--dir", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert all(check["name"] in table for check in listed)


def test_a_check_of_a_server_that_is_away_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--dir", str(tmp_path), "--server", "http://127.0.0.1:1"]) == 1
    assert "does not answer" in capsys.readouterr().out


def test_a_check_needs_no_celery() -> None:
    code = "import sys, nodes.__main__, nodes.checking; sys.exit('celery' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
