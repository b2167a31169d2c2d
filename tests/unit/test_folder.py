"""Reading task folders: what is sent of a good one, and one clear fault for each thing wrong with a bad one."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from grid.folder import MAX_SPEC_BYTES, Overrides, read_folder
from tasks.errors import SpecError
from tasks.files import MAX_FILES


def job(path: Path, text: str | bytes | dict[str, object]) -> Path:
    """A folder with this description."""
    path.mkdir(exist_ok=True)
    content = json.dumps(text) if isinstance(text, dict) else text
    (path / "task.json").write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def files_of(path: Path, files: dict[str, object]) -> Path:
    """A folder whose description names these files."""
    return job(path, {"image": "busybox", "files": files})


def faults(path: Path | str) -> list[str]:
    """What is wrong with the folder."""
    with pytest.raises(SpecError) as caught:
        read_folder(path)
    return [str(fault) for fault in caught.value.faults]


class TestGoodFolders:
    def test_kolejka_folders_are_read_too(self, tmp_path: Path) -> None:
        (tmp_path / "kolejka_task.json").write_text('{"image": "ubuntu", "args": ["uname"], "stdout": "stdout.txt"}')

        assert read_folder(tmp_path).spec["args"] == ["uname"]

    def test_task_json_comes_first(self, tmp_path: Path) -> None:
        (tmp_path / "kolejka_task.json").write_text('{"image": "old"}')

        assert read_folder(job(tmp_path, {"image": "new"})).spec["image"] == "new"

    def test_the_folder_names_the_task(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(job(tmp_path / "exercise 7", {"image": "busybox"}))

        assert read_folder(".").name == "exercise 7"

    def test_every_way_to_name_a_file(self, tmp_path: Path) -> None:
        named: dict[str, object] = {
            "a": None,
            "b": "a",
            "c": {"path": "./a", "executable": True},
            "d": {"content": "x"},
        }
        files_of(tmp_path, named)
        (tmp_path / "a").write_text("one")

        package = read_folder(tmp_path)

        sent = package.spec["files"]
        assert isinstance(sent, dict)
        assert sent["a"] == sent["b"] == {"reference": sent["a"]["reference"], "executable": False}
        assert sent["c"]["executable"] is True
        assert sent["d"] == {"content": "x"}
        assert len(package.files) == 1

    def test_a_folder_stands_for_all_that_is_in_it_and_links_are_followed(self, tmp_path: Path) -> None:
        outside = tmp_path / "data"
        (outside / "deep").mkdir(parents=True)
        (outside / "deep" / "x").write_text("x")
        here = files_of(tmp_path / "job", {"in": "src", "linked.txt": None})
        (here / "src").mkdir()
        (here / "src" / "more").symlink_to(outside)
        (here / "src" / "y").write_text("y")
        (here / "linked.txt").symlink_to(outside / "deep" / "x")

        sent = read_folder(here).spec["files"]

        assert isinstance(sent, dict)
        assert sorted(sent) == ["in/more/deep/x", "in/y", "linked.txt"]

    def test_a_large_file_is_read_when_it_is_sent(self, tmp_path: Path) -> None:
        files_of(tmp_path, {"big": None})
        (tmp_path / "big").write_bytes(b"z" * 200_000)

        (local,) = read_folder(tmp_path).files.values()

        assert local.content is None
        assert sum(map(len, local.chunks())) == 200_000


class TestFaults:
    def test_all_are_told_at_once(self, tmp_path: Path) -> None:
        job(tmp_path, {"image": 5, "limts": {}, "limits": {"memory": "64X"}, "files": {"a": None, "../b": None}})

        assert len(faults(tmp_path)) == 5

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("", "is empty"),
            ("[]", "must be an object"),
            ('{"image": "x",}', "is not JSON at line 1"),
            (b'{"image": "\xff"}', "is not UTF-8"),
            ('{"image": "x", "image": "y"}', "stands more than once"),
            ('{"limits": {"time": NaN}}', "NaN"),
            ('{"image": "\\ud800"}', "surrogate"),
            ("[" * 100_000, "nested too deep"),
            (" " * MAX_SPEC_BYTES + "{}", "is larger than"),
        ],
    )
    def test_descriptions_that_cannot_be_read(self, tmp_path: Path, text: str | bytes, told: str) -> None:
        (found,) = faults(job(tmp_path, text))

        assert told in found

    def test_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()

        assert "does not exist" in faults(tmp_path / "nothing")[0]
        assert "is not a folder" in faults(tmp_path / "file")[0]
        assert "has no task.json" in faults(tmp_path)[0]
        assert faults("a\0b") == ["a\\x00b does not exist; name a folder that has a task.json"]

    def test_a_description_that_is_no_file(self, tmp_path: Path) -> None:
        (tmp_path / "task.json").mkdir()

        assert faults(tmp_path) == ["task.json: is a folder, not a file"]

    @pytest.mark.parametrize(
        ("make", "told"),
        [
            (lambda path: None, "files.x: there is no such file in the task folder"),
            (lambda path: path.symlink_to("nowhere"), "files.x: is a link to nothing"),
            (lambda path: path.symlink_to("x"), "files.x: cannot be read: Too many levels of symbolic links"),
            (os.mkfifo, "files.x: is a FIFO, not a file; only files and folders can be sent"),
            (
                lambda path: path.symlink_to("/dev/zero"),
                "files.x: is a device, not a file; only files and folders can be sent",
            ),
            (Path.mkdir, "files.x: is a folder without files"),
        ],
    )
    def test_files_that_cannot_be_sent(self, tmp_path: Path, make: Callable[[Path], None], told: str) -> None:
        make(files_of(tmp_path, {"x": None}) / "x")

        assert faults(tmp_path) == [told]

    def test_a_socket(self, tmp_path: Path) -> None:
        files_of(tmp_path, {"s": None})
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "s"))

            assert faults(tmp_path) == ["files.s: is a socket, not a file; only files and folders can be sent"]

    def test_a_file_that_may_not_be_read(self, tmp_path: Path) -> None:
        if os.geteuid() == 0:
            # For root nothing is unreadable but a few files of the kernel.
            files_of(tmp_path, {"x": None})
            (tmp_path / "x").symlink_to("/proc/self/mem")
        else:
            files_of(tmp_path, {"x": None})
            (tmp_path / "x").touch(0o000)

        assert "files.x: cannot be read" in faults(tmp_path)[0]

    def test_names_that_are_no_text(self, tmp_path: Path) -> None:
        files_of(tmp_path, {"src": None})
        os.mkdir(tmp_path / "src")
        (Path(os.fsdecode(os.fsencode(tmp_path / "src") + b"/\xff"))).touch()

        assert faults(tmp_path) == ["files.src/\\xff: the name is not valid Unicode (a lone surrogate)"]

    def test_links_that_never_end(self, tmp_path: Path) -> None:
        files_of(tmp_path, {"src": None})
        (tmp_path / "src").mkdir()
        (tmp_path / "src" / "self").symlink_to(".")

        assert faults(tmp_path) == ["files.src/self: is a link to a folder around it, which never ends"]

    def test_too_many_files_are_one_fault(self, tmp_path: Path) -> None:
        files_of(tmp_path, {"src": None})
        (tmp_path / "src").mkdir()
        for number in range(MAX_FILES + 1):
            (tmp_path / "src" / f"{number}").touch()

        (found,) = faults(tmp_path)

        assert f"more than {MAX_FILES}" in found

    def test_too_many_entries_are_one_fault(self, tmp_path: Path) -> None:
        (found,) = faults(files_of(tmp_path, {f"f{number}": None for number in range(MAX_FILES + 1)}))

        assert str(MAX_FILES) in found

    def test_two_entries_for_one_name(self, tmp_path: Path) -> None:
        files_of(tmp_path, {"src": None, "src/a": {"content": "mine"}})
        (tmp_path / "src").mkdir()
        (tmp_path / "src" / "a").touch()

        assert "src" in faults(tmp_path)[0]

    def test_overrides_are_judged_like_the_folder(self, tmp_path: Path) -> None:
        with pytest.raises(SpecError, match=r"limits\.time"):
            read_folder(job(tmp_path, {"image": "busybox"}), Overrides(limits={"time": "soon"}))

    def test_overrides_hide_no_fault(self, tmp_path: Path) -> None:
        with pytest.raises(SpecError, match="limits: must be an object"):
            read_folder(job(tmp_path, {"image": "busybox", "limits": []}), Overrides(limits={"time": "1s"}))
