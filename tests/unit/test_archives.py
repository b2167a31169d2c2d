"""Archives of strangers: what belongs into a task folder comes out, everything else is refused before it does harm."""

from __future__ import annotations

import contextlib
import io
import stat
import struct
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import GridError, SpecError, TooLarge
from webapp.archives import Box, Caps, unpack

SMALL = Caps(files=10, depth=4, bytes=100_000, ratio=20, ratio_from=20_000)


def a_zip(*entries: tuple[str, bytes], mode: int = stat.S_IFREG | 0o644) -> bytes:
    """A zip with these files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            with warnings.catch_warnings(action="ignore"):  # of names that stand there twice
                archive.writestr(info, content)
    return out.getvalue()


def a_tar(*entries: tuple[str, bytes], kind: bytes = tarfile.REGTYPE, packed: str = "", mode: int = 0o644) -> bytes:
    """A tar with these members; ``packed`` is gz, bz2 or xz."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{packed}") as archive:  # type: ignore[call-overload]
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.linkname = kind, mode, "elsewhere"
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def opened(archive: bytes, root: Path, caps: Caps = SMALL) -> dict[str, bytes]:
    """The files that come out."""
    root.mkdir(exist_ok=True)
    unpack(io.BytesIO(archive), len(archive), Box(root, caps))
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


FILES = (("task.json", b"{}"), ("data/in.txt", b"1 2\n"))


@pytest.mark.parametrize("packed", ["", "gz", "bz2", "xz"])
def test_a_tar_comes_out_as_it_went_in(tmp_path: Path, packed: str) -> None:
    assert opened(a_tar(*FILES, packed=packed), tmp_path) == dict(FILES)


def test_a_zip_comes_out_as_it_went_in_without_what_a_mac_adds(tmp_path: Path) -> None:
    assert opened(a_zip(*FILES, ("__MACOSX/._task.json", b"x")), tmp_path) == dict(FILES)


def test_programs_stay_programs_and_nothing_else_of_a_mode_stays(tmp_path: Path) -> None:
    opened(a_zip(("run", b""), mode=stat.S_IFREG | 0o6777), tmp_path / "a")
    opened(a_tar(("run", b""), mode=0o6755), tmp_path / "b")
    for folder in ("a", "b"):
        assert stat.S_IMODE((tmp_path / folder / "run").stat().st_mode) == 0o700


def test_empty_folders_come_out(tmp_path: Path) -> None:
    opened(a_tar(("./", b""), ("./empty", b""), kind=tarfile.DIRTYPE), tmp_path)
    assert (tmp_path / "empty").is_dir()


@pytest.mark.parametrize("make", [a_zip, a_tar])
@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("../evil",), '".."'),
        (("a/../../evil",), '".."'),
        (("/etc/passwd",), "absolute"),
        (("a\\b",), "backslash"),
        (("a\nb",), "control character"),
        (("x" * 256,), "longer than 255"),
        (("a/b/c/d/e",), "deeper"),
        (("a", "a"), "twice"),
        (("Read.me", "read.ME"), "upper and lower case"),
        (("A/x", "a/y"), "upper and lower case"),
        (("a", "a/b"), "file and a folder"),
        (("a/b", "a"), "file and a folder"),
    ],
)
def test_names_that_are_no_plain_relative_paths_are_refused(
    tmp_path: Path, make: Callable[..., bytes], names: tuple[str, ...], words: str
) -> None:
    root = tmp_path / "box"
    root.mkdir()
    archive = make(*((name, b"x") for name in names))
    with pytest.raises(SpecError, match=words):
        opened(archive, root)
    assert [path.name for path in tmp_path.iterdir()] == ["box"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.CONTTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = a_tar(("thing", b""), kind=kind)
    if kind == tarfile.CONTTYPE:  # an old way to say "file"
        assert opened(archive, tmp_path) == {"thing": b""}
        return
    with pytest.raises(SpecError, match="link or a device"):
        opened(archive, tmp_path)


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="link or a device"):
        opened(a_zip(("thing", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777), tmp_path)


def test_a_file_is_not_written_through_a_link_that_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "a").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="exists"):
        Box(tmp_path / "box", SMALL).file("a", [b"x"])
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("make", [a_zip, lambda *entries: a_tar(*entries, packed="gz")])
def test_bombs_are_noticed_while_they_unpack(tmp_path: Path, make: Callable[..., bytes]) -> None:
    with pytest.raises(TooLarge, match="20 times its size"):
        opened(make(("zeros", bytes(90_000))), tmp_path)


def test_caps_hold_on_bytes_and_count(tmp_path: Path) -> None:
    noise = bytes(number * 7919 % 251 for number in range(60_000))
    with pytest.raises(TooLarge, match="100000 bytes"):
        opened(a_tar(("a", noise), ("b", noise)), tmp_path / "a", Caps(files=10, bytes=100_000, ratio=10**6))
    with pytest.raises(TooLarge, match="more than 10 files"):
        opened(a_tar(*((f"f{number}", b"") for number in range(11))), tmp_path / "b")
    with pytest.raises(TooLarge, match="more than 10 files"):
        opened(a_zip(*((f"f{number}", b"") for number in range(11))), tmp_path / "c")
    with pytest.raises(TooLarge, match="more than 10 files"):
        opened(a_zip(*((f"f{number}", b"") for number in range(50))), tmp_path / "d")


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 5 * 1024**3
    with pytest.raises(SpecError, match="impossible size"):
        opened(info.tobuf(tarfile.PAX_FORMAT) + bytes(2048), tmp_path)


def test_a_zip_with_a_password_is_refused(tmp_path: Path) -> None:
    archive = bytearray(a_zip(("a", b"secret")))
    at = archive.rfind(b"PK\x01\x02")
    archive[at + 8 : at + 10] = struct.pack("<H", 1)
    with pytest.raises(SpecError, match="password"):
        opened(bytes(archive), tmp_path)


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path: Path) -> None:
    archive = bytearray(a_zip(("a", b"x" * 1000)))
    at = archive.rfind(b"PK\x01\x02")
    archive[at + 24 : at + 28] = struct.pack("<I", 10)
    with pytest.raises(SpecError, match="cannot be read"):
        opened(bytes(archive), tmp_path)


@pytest.mark.parametrize("archive", [b"", b"PK", b"hello", b"\x1f\x8b\x08broken", b"PK\x05\x06" + bytes(5)])
def test_what_is_no_archive_is_refused(tmp_path: Path, archive: bytes) -> None:
    with pytest.raises(SpecError):
        opened(archive, tmp_path)


@settings(max_examples=150, deadline=None)
@given(which=st.integers(0, 2), at=st.integers(0, 5000), noise=st.binary(min_size=1, max_size=40))
def test_a_damaged_archive_is_refused_or_harmless(which: int, at: int, noise: bytes) -> None:
    made = (a_zip(*FILES), a_tar(*FILES), a_tar(*FILES, packed="gz"))[which]
    at %= len(made)
    damaged = made[:at] + noise + made[at + len(noise) :]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "box"
        root.mkdir()
        with contextlib.suppress(GridError):
            opened(damaged, root)
        assert [path.name for path in Path(folder).iterdir()] == ["box"]
