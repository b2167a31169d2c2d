"""Where the client finds its server and its token."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from grid.config import DEFAULT_SERVER, Config, config_path, load, read, save
from tasks.errors import GridError


def stored(path: Path, text: str) -> dict[str, str]:
    """An environment whose config file has this text."""
    path.write_text(text)
    return {"GRID_CONFIG": str(path)}


def test_with_nothing_set_it_is_this_machine(tmp_path: Path) -> None:
    assert load({"XDG_CONFIG_HOME": str(tmp_path)}) == Config(DEFAULT_SERVER, "")


def test_what_was_saved_is_loaded_and_private(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "config.toml"

    save(path, Config("http://lab:1", 'to"ken\\'))

    assert load({"GRID_CONFIG": str(path)}) == Config("http://lab:1", 'to"ken\\')
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "ken" not in repr(load({"GRID_CONFIG": str(path)}))


def test_the_environment_comes_first(tmp_path: Path) -> None:
    env = stored(tmp_path / "c", '[grid]\nserver = "http://a"\ntoken = "t"\n')

    assert load(env | {"GRID_TOKEN": "mine"}) == Config("http://a", "mine")
    assert load(env | {"GRID_SERVER": "http://a/"}) == Config("http://a", "t")


def test_a_token_is_not_given_to_another_server(tmp_path: Path) -> None:
    env = stored(tmp_path / "c", '[grid]\nserver = "http://a"\ntoken = "t"\n')

    assert load(env | {"GRID_SERVER": "http://b"}) == Config("http://b", "")


def test_a_token_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")

    assert load({"GRID_CONFIG": "/nowhere/c", "GRID_TOKEN_FILE": str(tmp_path / "token")}).token == "secret"
    with pytest.raises(GridError, match="GRID_TOKEN_FILE"):
        load({"GRID_TOKEN_FILE": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[grid", "is not valid TOML"),
        ("[grid]\nserver = 5\n", "write [grid]"),
        ("grid = 1\n", "write [grid]"),
        ('[grid]\nsever = "x"\n', 'unknown key "sever"'),
        ("[gird]\n", 'unknown key "gird"'),
        ("\x00", "is not valid TOML"),
    ],
)
def test_files_that_make_no_sense_are_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(GridError) as caught:
        load(stored(tmp_path / "c", text))
    assert told in str(caught.value)


def test_a_file_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(GridError, match="cannot read"):
        read(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(GridError, match="cannot write"):
        save(tmp_path / "file" / "config.toml", Config())


def test_the_usual_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")

    assert config_path({}) == Path("/home/ann/.config/celery-grid/config.toml")
    assert config_path({"GRID_CONFIG": "~/c.toml"}) == Path("/home/ann/c.toml")
