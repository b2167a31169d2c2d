"""Outputs come home by their rules, and nothing that a hostile task planted does any harm."""

from __future__ import annotations

import glob
import hashlib
import os
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.collect import Caps, Collected, clean, collect
from nodes.patterns import Pattern
from tasks.errors import NodeFault
from tasks.files import CollectRule
from tasks.outcome import TooLargeFile


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "task"
    folder.mkdir()
    yield folder
    subprocess.run(["rm", "-rf", folder], check=True)  # shutil cannot remove 5,000 levels


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"content of {name}\n")


def bring(root: Path, *rules: CollectRule | str, caps: Caps | None = None) -> Collected:
    made = [CollectRule(glob=rule) if isinstance(rule, str) else rule for rule in rules]
    return collect(root, made, into=root.parent / "home", caps=caps or Caps())


def names(collected: Collected) -> list[str]:
    return [file.path for file in collected.files]


def refused(collected: Collected) -> dict[str, str]:
    return {refused.path: refused.why for refused in collected.refused}


# ------------------------------------------------------------------------------------------------------------- rules
def test_a_file_larger_than_any_may_be_stays_behind_by_name_and_size(root: Path) -> None:
    (root / "big").write_bytes(bytes(101))
    (root / "good").write_bytes(bytes(100))
    result = bring(root, "*", caps=Caps(file_bytes=100))
    assert names(result) == ["good"]
    assert result.too_large == (TooLargeFile(path="big", size=101, most=100),)
    assert "101 bytes" in refused(result)["big"]


def test_a_file_comes_home_with_its_hash_size_and_mode(root: Path) -> None:
    write(root, "out/a.txt")
    (root / "tool").write_bytes(bytes(3_000_000))
    (root / "tool").chmod(0o755)
    result = bring(root, "out/a.txt", "tool")
    text, tool = result.files
    assert (text.path, text.size, text.executable) == ("out/a.txt", 21, False)
    assert text.sha256 == hashlib.sha256(b"content of out/a.txt\n").hexdigest()
    assert text.local.read_text() == "content of out/a.txt\n"
    assert (tool.size, tool.executable) == (3_000_000, True)
    assert tool.local.read_bytes() == bytes(3_000_000)
    assert not result.refused
    assert not result.missing


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.txt", ["a.txt", "b.txt"]),
        ("**", ["a.txt", "b.txt", "out/a.txt", "out/deep/er/c.txt", "out/deep/x.log"]),
        ("**/*.txt", ["a.txt", "b.txt", "out/a.txt", "out/deep/er/c.txt"]),
        ("out/**", ["out/a.txt", "out/deep/er/c.txt", "out/deep/x.log"]),
        ("out/*", ["out/a.txt"]),
        ("out/**/c.txt", ["out/deep/er/c.txt"]),
        ("out/**/deep/**/*.txt", ["out/deep/er/c.txt"]),
        ("[ab].t?t", ["a.txt", "b.txt"]),
        ("[!a].txt", ["b.txt"]),
        ("out", []),
        (".*", [".hidden"]),
        ("**/.cache/*", ["out/.cache/z"]),
        ("a.txt/**", []),
    ],
)
def test_globs_mean_what_they_mean_in_python_and_in_a_shell(root: Path, pattern: str, expected: list[str]) -> None:
    write(root, "a.txt", "b.txt", ".hidden", "out/a.txt", "out/deep/er/c.txt", "out/deep/x.log", "out/.cache/z")
    assert names(bring(root, pattern)) == expected
    by_python = sorted(path for path in _glob(root, pattern) if (root / path).is_file() and path[-1] != "/")
    assert sorted(expected) == by_python


def _glob(root: Path, pattern: str) -> set[str]:
    return set(glob.glob(pattern, root_dir=root, recursive=True))


def test_stars_do_not_take_for_ever() -> None:
    pattern = Pattern("/".join(["**", "*a*a*a*b"] * 10))
    state = pattern.start()
    began = time.process_time()
    for _ in range(200):
        state = pattern.step(state, "a" * 30)
    assert time.process_time() - began < 5
    assert not pattern.matches(state)


def test_leading_folders_are_dropped_and_a_prefix_is_put_before(root: Path) -> None:
    write(root, "build/bin/tool", "build/x")
    assert names(bring(root, CollectRule(glob="build/**", strip=2, prefix="r/1"))) == ["r/1/tool", "r/1/x"]


def test_two_rules_may_bring_one_file_home_twice(root: Path) -> None:
    write(root, "a.txt")
    result = bring(root, "a.txt", CollectRule(glob="*", prefix="copy"), "**")
    assert sorted(names(result)) == ["a.txt", "copy/a.txt"]
    assert len({file.local for file in result.files}) == 1


def test_of_two_files_with_one_name_the_first_wins(root: Path) -> None:
    write(root, "a/x", "b/x", "c/x/y")
    result = bring(root, CollectRule(glob="**", strip=1))
    assert names(result) == ["x"]
    assert refused(result) == {
        "b/x": "would be x in the result, as another file is",
        "c/x/y": "would be x/y in the result, as another file is",
    }


def test_a_required_rule_that_matches_nothing_names_what_is_near(root: Path) -> None:
    write(root, "out/report.csv", "results/a", "results/b", "other/result.txt")
    required = [CollectRule(glob=each, required=True) for each in ("out/raport.csv", "results", "result.txt", "out/*")]
    result = bring(root, *required, CollectRule(glob="never"))
    assert [(missing.glob, missing.near) for missing in result.missing] == [
        ("out/raport.csv", ("out/report.csv",)),
        ("results", ("results/a", "results/b")),
        ("result.txt", ("other/result.txt",)),
    ]


def test_no_rule_makes_no_folder(root: Path) -> None:
    assert bring(root) == Collected()
    assert not (root.parent / "home").exists()


# ----------------------------------------------------------------------------------------------------- hostile folders
def test_links_are_refused_wherever_they_lead(root: Path) -> None:
    secret = root.parent / "secret"
    secret.mkdir()
    write(secret, "key")
    write(root, "real")
    (root / "file").symlink_to(secret / "key")
    (root / "within").symlink_to("real")
    (root / "folder").symlink_to(secret)
    (root / "up").symlink_to("..")
    (root / "loop").symlink_to("loop")
    (root / "proc").symlink_to("/proc/self/root")
    result = bring(root, "**", "folder/key", "up/secret/key", "proc/etc/passwd")
    assert names(result) == ["real"]
    assert set(refused(result)) == {"file", "within", "folder", "up", "loop", "proc"}
    assert set(refused(result).values()) == {"is a symbolic link"}


def test_a_link_that_was_matched_satisfies_no_rule(root: Path) -> None:
    (root / "out").symlink_to("/etc/passwd")
    result = bring(root, CollectRule(glob="out", required=True))
    assert [missing.glob for missing in result.missing] == ["out"]
    assert refused(result) == {"out": "is a symbolic link"}


def test_hard_links_are_refused(root: Path) -> None:
    write(root.parent, "outside")
    os.link(root.parent / "outside", root / "inside")
    result = bring(root, "*")
    assert (names(result), refused(result)) == ([], {"inside": "has 2 hard links"})


def test_pipes_and_sockets_do_not_block(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "socket"))
        result = bring(root, "*")
    assert refused(result) == {"pipe": "is a named pipe", "socket": "is a socket"}


@pytest.mark.needs("root")
def test_devices_are_not_opened(root: Path) -> None:
    os.mknod(root / "zero", 0o20666, os.makedev(1, 5))
    os.mknod(root / "disk", 0o60666, os.makedev(7, 0))
    assert set(refused(bring(root, "*")).values()) == {"is a device"}


@pytest.mark.needs("root")
def test_another_file_system_is_not_entered(root: Path) -> None:
    (root / "mnt").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", root / "mnt"], check=True)
    try:
        write(root, "mnt/file", "mine")
        result = bring(root, "**")
    finally:
        subprocess.run(["umount", root / "mnt"], check=True)
    assert (names(result), refused(result)) == (["mine"], {"mnt": "is on another file system"})


def test_an_enormous_file_of_holes_is_refused_by_its_size(root: Path) -> None:
    write(root, "small")
    with (root / "big").open("wb") as file:
        file.truncate(1 << 40)
    result = bring(root, "*", caps=Caps(file_bytes=1 << 20))
    assert names(result) == ["small"]
    assert refused(result) == {"big": f"has {1 << 40} bytes; {1 << 20} may still be collected"}


def test_the_total_is_limited(root: Path) -> None:
    for name, size in (("a", 600), ("b", 600), ("c", 400)):
        (root / name).write_bytes(bytes(size))
    result = bring(root, "*", caps=Caps(total_bytes=1000))
    assert names(result) == ["a", "c"]
    assert refused(result) == {"b": "has 600 bytes; 400 may still be collected"}


def test_the_number_of_files_is_limited(root: Path) -> None:
    write(root, *(f"f{number:02d}" for number in range(20)))
    result = bring(root, "*", caps=Caps(files=5))
    assert len(result.files) == 5
    assert refused(result) == {"f05": "is left out with all that follow: more than 5 files"}


def test_the_list_of_the_refused_is_limited(root: Path) -> None:
    for number in range(50):
        (root / f"l{number:02d}").symlink_to("x")
    result = bring(root, "*", caps=Caps(refused=3))
    assert [str(each) for each in result.refused[2:]] == ["l02 is a symbolic link", "47 more were refused"]


def test_folders_deeper_than_python_can_recurse_are_left_alone(root: Path) -> None:
    write(root, "a/x")
    here = os.open(root, os.O_RDONLY)
    for _ in range(5_000):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("deep", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    open_before = len(os.listdir("/proc/self/fd"))
    result = bring(root, "**", CollectRule(glob="**/nothing", required=True), caps=Caps(depth=50))
    assert names(result) == ["a/x"]
    assert refused(result) == {"d" + "/d" * 50: "is more than 50 folders deep"}
    assert len(result.missing) == 1
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_a_folder_with_endless_names_is_not_read_to_the_end(root: Path) -> None:
    write(root, *(f"many/{number}" for number in range(300)), "z")
    result = bring(root, "**", caps=Caps(names=100))
    assert len(result.files) < 100
    assert "many/" in refused(result)


def test_strange_names_are_written_clean(root: Path) -> None:
    for name in (b"\xff\xfe.bin", "żółw 🐢".encode(), b"new\nline", b"back\\slash", b"-rf", b"%41"):
        (root / os.fsdecode(name)).write_bytes(name)
    result = bring(root, "*")
    assert sorted(names(result)) == sorted(["%FF%FE.bin", "żółw 🐢", "new%0Aline", "back%5Cslash", "-rf", "%41"])
    for file in result.files:
        file.path.encode()
        assert clean(os.fsdecode(file.local.read_bytes())) == file.path


def test_the_longest_names_do_not_get_longer_than_a_result_may_have(root: Path) -> None:
    write(root, "/".join(["n" * 200] * 5) + "/ok", "/".join(["m" * 250] * 5))
    result = bring(root, "**")
    assert [len(name) for name in names(result)] == [1007]
    assert list(refused(result).values()) == ["has a name longer than 1024 bytes"]


def test_a_node_without_room_for_the_copy_says_so(root: Path) -> None:
    """The node's disk ends at 100,000 bytes a file; Python ignores the signal that comes with it."""
    (root / "big").write_bytes(bytes(2_000_000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(NodeFault) as fault:
            bring(root, "big")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert fault.value.kind == "node_disk"


def test_a_file_that_cannot_be_read_is_refused_and_the_others_come(root: Path) -> None:
    """A folder of /proc has files that look regular and cannot be read."""
    unreadable = Path(f"/proc/{os.getpid()}")
    result = collect(unreadable, [CollectRule(glob="mem"), CollectRule(glob="status")], into=root, caps=Caps())
    assert names(result) == ["status"]
    assert refused(result) == {"mem": "cannot be read: Input/output error"}
