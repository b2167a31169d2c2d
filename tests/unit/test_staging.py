"""Input files get into a workspace whole and owned by the task's user; a blob is downloaded once for all."""

from __future__ import annotations

import base64
import os
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from nodes.staging import BlobCache, Staging
from tasks.errors import NodeFault, NotFound, Unavailable
from tasks.order import StagedFile
from tests.support.node_api import sha256

ONE, TWO, THREE = b"one" * 1000, b"two" * 1000, b"three" * 1000


class Source:
    """Blobs to download, counted; ``cuts`` downloads break off in the middle first."""

    def __init__(self, *contents: bytes, cuts: int = 0) -> None:
        self.blobs = {sha256(content): content for content in contents}
        self.downloads: Counter[str] = Counter()
        self.cuts = cuts
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, name: str) -> AbstractContextManager[Iterator[bytes]]:
        return self._download(name)

    @contextmanager
    def _download(self, name: str) -> Iterator[Iterator[bytes]]:
        self.downloads[name] += 1
        self.gate.wait(10)
        if name not in self.blobs:
            raise NotFound("no such blob")
        yield self._chunks(self.blobs[name])

    def _chunks(self, content: bytes) -> Iterator[bytes]:
        yield content[:100]
        if self.cuts:
            self.cuts -= 1
            raise Unavailable("cut")
        yield content[100:]


def staged(path: str, content: bytes, *, executable: bool = False) -> StagedFile:
    return StagedFile(path=path, sha256=sha256(content), size=len(content), executable=executable)


@pytest.fixture
def cache(tmp_path: Path) -> BlobCache:
    return BlobCache(tmp_path / "blobs", limit_bytes=10_000)


@pytest.fixture
def staging(cache: BlobCache) -> Staging:
    return Staging(cache, os.geteuid(), os.getegid())


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def read(cache: BlobCache, content: bytes, source: Source) -> bytes:
    with cache.open(sha256(content), len(content), source) as file:
        return file.read()


def test_files_come_from_the_order_and_from_the_server(staging: Staging, workspace: Path) -> None:
    files = (staged("run.sh", ONE, executable=True), staged("deep/er/data.txt", TWO))
    staging.put(workspace, files, {sha256(ONE): base64.b64encode(ONE).decode()}, Source(TWO))
    assert (workspace / "run.sh").read_bytes() == ONE
    assert (workspace / "deep/er/data.txt").read_bytes() == TWO
    assert (workspace / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (workspace / "deep/er/data.txt").stat().st_mode & 0o777 == 0o644


@pytest.mark.needs("root")
def test_everything_belongs_to_the_tasks_user(cache: BlobCache, workspace: Path) -> None:
    Staging(cache, 65532, 65531).put(workspace, (staged("a/b", ONE),), {}, Source(ONE))
    owners = [((workspace / path).stat().st_uid, (workspace / path).stat().st_gid) for path in ("a", "a/b")]
    assert owners == [(65532, 65531), (65532, 65531)]


def test_staging_again_after_a_crash_replaces_half_a_file(staging: Staging, workspace: Path) -> None:
    (workspace / "a").write_bytes(b"half")
    staging.put(workspace, (staged("a", ONE),), {}, Source(ONE))
    assert (workspace / "a").read_bytes() == ONE


def test_two_tasks_that_want_one_blob_download_it_once(cache: BlobCache) -> None:
    source = Source(ONE)
    source.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read, cache, ONE, source) for _ in range(4)]
        source.gate.set()
        assert [reader.result() for reader in readers] == [ONE] * 4
    assert source.downloads[sha256(ONE)] == 1


def test_a_cut_download_starts_over(cache: BlobCache) -> None:
    source = Source(ONE, cuts=2)
    assert read(cache, ONE, source) == ONE
    assert source.downloads[sha256(ONE)] == 3


def test_a_download_that_is_always_cut_is_a_fault(cache: BlobCache) -> None:
    with pytest.raises(NodeFault) as caught:
        read(cache, ONE, Source(ONE, cuts=99))
    assert caught.value.kind == "staging"


def test_a_blob_that_the_server_lost_is_a_missing_input(cache: BlobCache) -> None:
    with pytest.raises(NodeFault) as caught:
        read(cache, ONE, Source())
    assert caught.value.kind == "input_missing"


def test_content_that_is_not_what_its_name_says_is_refused(cache: BlobCache, staging: Staging, workspace: Path) -> None:
    source = Source()
    source.blobs[sha256(ONE)] = TWO
    with pytest.raises(NodeFault, match="what came is"):
        read(cache, ONE, source)
    with pytest.raises(NodeFault, match="is not"):
        staging.put(workspace, (staged("a", ONE),), {sha256(ONE): base64.b64encode(TWO).decode()}, source)


def test_the_least_recently_used_blob_makes_room(cache: BlobCache, tmp_path: Path) -> None:
    source = Source(ONE, TWO, THREE)
    read(cache, ONE, source)
    read(cache, TWO, source)
    for age, content in ((50, TWO), (100, ONE)):
        path = tmp_path / "blobs" / sha256(content)[:2] / sha256(content)
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
    read(cache, ONE, source)
    read(cache, THREE, source)
    read(cache, ONE, source)
    read(cache, TWO, source)
    assert [source.downloads[sha256(content)] for content in (ONE, TWO, THREE)] == [1, 2, 1]


def test_a_blob_stays_readable_while_it_is_pushed_out(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path / "blobs", limit_bytes=10)
    with cache.open(sha256(ONE), len(ONE), Source(ONE)) as file:
        read(cache, TWO, Source(TWO))
        assert file.read() == ONE


def test_a_torn_file_of_a_crash_is_fetched_again(cache: BlobCache, tmp_path: Path) -> None:
    source = Source(ONE)
    read(cache, ONE, source)
    (tmp_path / "blobs" / sha256(ONE)[:2] / sha256(ONE)).write_bytes(b"")
    assert read(cache, ONE, source) == ONE


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a/../../b"])
def test_no_order_can_write_outside_of_the_workspace(staging: Staging, workspace: Path, path: str) -> None:
    with pytest.raises(NodeFault, match="names a file that"):
        staging.put(workspace, (staged(path, ONE),), {}, Source(ONE))
