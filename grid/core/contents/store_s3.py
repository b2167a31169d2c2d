"""Blobs in a bucket of an S3-compatible server, for grids whose servers share no disk.

A content is written to a file without a name first, and uploaded when its hash is known to be right; an upload is seen
under its name only when the server has all of it. What a killed server leaves is nothing here, and at most the parts of
an unfinished upload there, which a rule of the bucket removes (see docs/production.md).
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qsl, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from grid.core.contents.content import Content, Stored
from tasks.errors import NotFound, Unavailable

BLOCK_BYTES = 4 * 1024**2
"""What is fetched at once while a content is read."""

SMALL_BYTES = 1024**2
"""What is no larger is uploaded without asking whether it is there: that costs one request, and so would asking."""

_OPTIONS = ("endpoint", "region", "virtual_hosted")
_CONNECT_TIMEOUT = "5s"
# For one request: a block, or a part of an upload.
_TIMEOUT = "60s"
_RETRIES: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where blobs are kept: ``s3://NAME/PREFIX?endpoint=https://HOST&region=R&virtual_hosted=true``."""

    name: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    virtual_hosted: bool = False

    @classmethod
    def of_url(cls, url: str) -> Bucket:
        """Read the address; raises ValueError that says what is wrong with it."""
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc:
            raise ValueError("GRID_STORE_URL has to look like s3://BUCKET/PREFIX?endpoint=https://HOST")
        options = dict(parse_qsl(parts.query))
        if unknown := sorted(set(options) - set(_OPTIONS)):
            raise ValueError(f'"{unknown[0]}" is no option of GRID_STORE_URL; there are {", ".join(_OPTIONS)}')
        virtual = options.get("virtual_hosted", "") in ("1", "true")
        prefix, endpoint = parts.path.strip("/"), options.get("endpoint", "").rstrip("/")
        return cls(parts.netloc, prefix, endpoint, options.get("region", ""), virtual)

    def connect(self, key: str = "", secret: str = "") -> S3Store:
        """A client; without ``key`` the credentials are those of the environment (``AWS_*``) or of the machine."""
        known: dict[str, Any] = {"endpoint": self.endpoint, "region": self.region, "prefix": self.prefix}
        known |= {"access_key_id": key, "secret_access_key": secret} if key else {}
        return S3Store(
            self.name,
            **{name: value for name, value in known.items() if value},
            virtual_hosted_style_request=self.virtual_hosted,
            client_options={
                "allow_http": self.endpoint.startswith("http://"),
                "connect_timeout": _CONNECT_TIMEOUT,
                "timeout": _TIMEOUT,
            },
            retry_config=_RETRIES,
        )


class S3BlobStore:
    """Blobs as objects ``PREFIX/aa/REST``; ``spool`` is a folder on a disk with room for what is being uploaded."""

    def __init__(self, bucket: S3Store, spool: Path) -> None:
        self._bucket = bucket
        self._spool = spool
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, chunks: Iterable[bytes], sha256: str | None = None, limit: int | None = None) -> Stored:
        """See ``Store.put``. Raises Unavailable while the server does not answer."""
        content = Content(chunks, sha256, limit)
        with tempfile.TemporaryFile(dir=self._spool) as file:
            for chunk in content:
                file.write(chunk)
            stored = content.stored
            if stored.size > SMALL_BYTES and self.exists(stored.sha256):
                return stored
            file.seek(0)
            with _answering("keep", stored.sha256):
                obstore.put(self._bucket, _name(stored.sha256), cast("BinaryIO", file))
        return stored

    def open(self, sha256: str) -> BinaryIO:
        """See ``Store.open``; what is read is fetched in blocks. Raises Unavailable while nobody answers."""
        with _answering("open", sha256):
            size = int(obstore.head(self._bucket, _name(sha256))["size"])
        return cast("BinaryIO", io.BufferedReader(_Blocks(self._bucket, sha256, size), min(max(size, 1), BLOCK_BYTES)))

    def exists(self, sha256: str) -> bool:
        """See ``Store.exists``. Raises Unavailable while nobody answers: nobody knows then."""
        try:
            with _answering("find", sha256):
                obstore.head(self._bucket, _name(sha256))
        except NotFound:
            return False
        return True

    def delete(self, sha256: str) -> None:
        """See ``Store.delete``. Raises Unavailable while nobody answers."""
        with suppress(NotFound), _answering("delete", sha256):
            obstore.delete(self._bucket, _name(sha256))


class _Blocks(io.RawIOBase):
    """An object as a file that can be read from anywhere; each read is a request for the bytes asked for."""

    def __init__(self, bucket: S3Store, sha256: str, size: int) -> None:
        self._bucket = bucket
        self._sha256 = sha256
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere; costs nothing."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readall(self) -> bytes:
        """All that is left, block by block; the standard library's own would ask for some kilobytes at a time."""
        return b"".join(iter(lambda: self.read(BLOCK_BYTES) or b"", b""))

    def readinto(self, buffer: Any) -> int:
        """Fetch the next bytes. Raises Unavailable, NotFound when it was deleted meanwhile."""
        count = min(len(buffer), self._size - self._position)
        if count <= 0:
            return 0
        with _answering("read", self._sha256):
            found = obstore.get_range(self._bucket, _name(self._sha256), start=self._position, length=count)
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)


def _name(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256[2:]}"


@contextmanager
def _answering(verb: str, sha256: str) -> Iterator[None]:
    """What goes wrong with the server of the bucket as errors of ours; its words are long, their first line tells."""
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"the content {sha256} is not stored here") from None
    except (BaseError, OSError) as error:
        words = str(error).splitlines()[0][:300]
        raise Unavailable(f"the store cannot {verb} a content now: {words}") from error
