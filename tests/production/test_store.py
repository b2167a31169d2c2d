"""The contract of the store of blobs, over a folder and over a real S3 server; and a whole grid over S3."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from grid.core.contents.store import DirectoryStore, Store
from grid.core.contents.store_s3 import BLOCK_BYTES, Bucket, S3BlobStore
from tasks.errors import NotFound, SpecError, TooLarge, Unavailable
from tasks.verdicts import Verdict
from tasks.views import Level
from tests.support.grid_fixtures import pytest_runtest_makereport
from tests.support.grids import RunningGrid
from tests.support.images import ensure_test_image
from tests.support.s3 import KEY, SECRET, S3Server

__all__ = ["pytest_runtest_makereport"]

pytestmark = [pytest.mark.timeout(300)]

HELLO = hashlib.sha256(b"hello").hexdigest()
# More than one part of an upload and one block of a download.
LARGE = os.urandom(BLOCK_BYTES) * 2 + b"the end"

needs_s3 = pytest.mark.needs("swift")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as running:
        yield running


def in_a_folder(request: pytest.FixtureRequest, folder: Path) -> Store:
    return DirectoryStore(folder)


def in_s3(request: pytest.FixtureRequest, folder: Path) -> Store:
    server: S3Server = request.getfixturevalue("s3")
    return S3BlobStore(Bucket.of_url(server.url(folder.name)).connect(KEY, SECRET), folder)


@pytest.fixture(params=[pytest.param(in_a_folder, id="folder"), pytest.param(in_s3, id="s3", marks=needs_s3)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    make: Callable[[pytest.FixtureRequest, Path], Store] = request.param
    return make(request, tmp_path)


def content_of(store: Store, sha256: str) -> bytes:
    with closing(store.open(sha256)) as file:
        return file.read()


# ------------------------------------------------------------------------------------------------------- the contract
def test_a_content_is_kept_once_and_whole(store: Store) -> None:
    assert not store.exists(HELLO)
    assert store.put([b"hel", b"lo"]) == store.put([b"hello"], HELLO)
    assert store.exists(HELLO)
    assert content_of(store, HELLO) == b"hello"


def test_a_large_content_and_an_empty_one_come_back_as_they_were(store: Store) -> None:
    chunks = [LARGE[start : start + 100_000] for start in range(0, len(LARGE), 100_000)]
    for content in (chunks, []):
        put = store.put(content)
        assert put.size == len(b"".join(content))
        assert content_of(store, put.sha256) == b"".join(content)
        assert store.put(content, put.sha256) == put


def test_a_content_can_be_read_from_anywhere(store: Store) -> None:
    put = store.put([LARGE])
    with closing(store.open(put.sha256)) as file:
        assert file.read(10) == LARGE[:10]
        assert file.seek(BLOCK_BYTES - 5) == BLOCK_BYTES - 5
        assert file.read(10) == LARGE[BLOCK_BYTES - 5 : BLOCK_BYTES + 5]
        assert file.seek(-7, os.SEEK_END) == len(LARGE) - 7
        assert file.read() == b"the end"
        assert file.read() == b""


def test_a_content_that_is_not_what_was_promised_is_never_seen(store: Store) -> None:
    promised = hashlib.sha256(LARGE).hexdigest()
    with pytest.raises(SpecError, match="send the file again"):
        store.put([LARGE, b"more"], promised)
    assert not store.exists(promised)
    assert not store.exists(hashlib.sha256(LARGE + b"more").hexdigest())


def test_an_upload_that_breaks_off_or_is_too_large_leaves_nothing(store: Store) -> None:
    def broken() -> Iterator[bytes]:
        yield LARGE
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        store.put(broken(), hashlib.sha256(LARGE).hexdigest())
    with pytest.raises(TooLarge):
        store.put([LARGE], limit=len(LARGE) - 1)
    assert not store.exists(hashlib.sha256(LARGE).hexdigest())
    assert store.put([LARGE], limit=len(LARGE)).size == len(LARGE)


def test_what_was_deleted_is_gone_and_may_be_deleted_again(store: Store) -> None:
    store.put([b"hello"])
    store.delete(HELLO)
    store.delete(HELLO)
    assert not store.exists(HELLO)
    with pytest.raises(NotFound):
        store.open(HELLO)


# -------------------------------------------------------------------------------------------------------------- S3 only
@needs_s3
def test_a_bucket_that_refuses_or_is_away_is_no_missing_content(s3: S3Server, tmp_path: Path) -> None:
    stranger = S3BlobStore(Bucket.of_url(s3.url()).connect("stranger", "guess"), tmp_path)
    nowhere = S3BlobStore(Bucket.of_url("s3://b?endpoint=http://127.0.0.1:9").connect("a", "b"), tmp_path)
    missing = S3BlobStore(Bucket.of_url(s3.url().replace("blobs", "no-such-bucket")).connect(KEY, SECRET), tmp_path)
    for store in (stranger, nowhere):
        for verb in (lambda: store.exists(HELLO), lambda: store.open(HELLO), lambda: store.delete(HELLO)):  # noqa: B023
            with pytest.raises(Unavailable):
                verb()
    for store in (stranger, nowhere, missing):
        with pytest.raises((Unavailable, NotFound)):
            store.put([b"hello"])


@pytest.mark.parametrize(
    "url", ["s3://", "http://bucket", "s3://key:secret@bucket", "s3://bucket?endpont=http://there", "bucket"]
)
def test_an_address_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="GRID_STORE_URL"):
        Bucket.of_url(url)


def test_the_address_of_a_bucket_names_all_that_is_needed() -> None:
    url = "s3://bucket/a/prefix?endpoint=https://s3.example.org/&region=eu-1&virtual_hosted=true"
    assert Bucket.of_url(url) == Bucket("bucket", "a/prefix", "https://s3.example.org", "eu-1", virtual_hosted=True)


@needs_s3
@pytest.mark.needs("docker", "busybox", "root")
def test_a_grid_keeps_inputs_and_outputs_in_s3(s3: S3Server, tmp_path: Path) -> None:
    ensure_test_image()
    settings = {"store_url": s3.url("a-grid"), "store_key": KEY, "store_secret": SECRET}
    with RunningGrid(tmp_path / "site", lease_seconds=300, **settings) as grid:  # type: ignore[arg-type]  # of all kinds
        command = ("sh", "-c", "cat in.bin in.bin > out.bin; cat small.txt")
        files = {"in.bin": LARGE, "small.txt": "a small one"}
        result = grid.run(
            *command, files=files, collect=[{"glob": "out.bin"}], stdout="said.txt", limits={"storage": "64M"}
        )
        assert result.verdict is Verdict.SUCCEEDED
        assert result.files["out.bin"].read_bytes() == LARGE * 2
        assert result.files["said.txt"].read_text() == "a small one"
        assert not (grid.directory / "blobs").exists()
        assert list((grid.directory / "incoming").iterdir()) == []
        digest = hashlib.sha256(LARGE * 2).hexdigest()
        kept = S3BlobStore(Bucket.of_url(s3.url("a-grid")).connect(KEY, SECRET), tmp_path)
        assert kept.exists(digest)
        found = {one.name: one.level for one in grid.client.doctor().findings}
        assert (found["store"], found["logs"]) == (Level.PASS, Level.PASS)

        # As on a second server that does not share the folder of logs.
        for folder in (grid.directory / "logs").glob("??"):
            shutil.rmtree(folder)
        assert {one.name: one.level for one in grid.client.doctor().findings}["logs"] is Level.FAIL
