"""Downloads that can be gone on with: a part of a file by a Range request (RFC 9110), one range at a time."""

from __future__ import annotations

import os
import re
from typing import BinaryIO

from django.http import FileResponse, HttpRequest, HttpResponse

from webapp.api.answers import download
from webapp.problems import problem

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class _Part:
    """So many bytes of a file from where it stands."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file = file
        self._left = length

    def read(self, size: int) -> bytes:
        block = self._file.read(min(size, self._left))
        self._left -= len(block)
        return block

    def close(self) -> None:
        self._file.close()


def ranged(request: HttpRequest, file: BinaryIO, path: str, sha256: str) -> FileResponse | HttpResponse:
    """The file for saving, or the part of it that ``Range`` asks for (206), with its hash as the ETag.

    A part is given only of the content that ``If-Range`` names, where it does; one behind the end answers 416.
    """
    etag = f'"{sha256}"'
    asked = _RANGE.fullmatch(request.headers.get("Range", ""))
    size = file.seek(0, os.SEEK_END)
    first, behind = _bounds(asked[1], asked[2], size) if asked else (0, size)
    if asked is None or asked[0] == "bytes=-" or request.headers.get("If-Range", etag) != etag:
        file.seek(0)
        response = download(file, path)
    elif first >= behind:
        file.close()
        refusal = problem(416, "Range not satisfiable", f"the file has {size} bytes")
        refusal.headers["Content-Range"] = f"bytes */{size}"
        return refusal
    else:
        file.seek(first)
        response = download(_Part(file, behind - first), path)
        response.status_code = 206
        response.headers["Content-Range"] = f"bytes {first}-{behind - 1}/{size}"
        response.headers["Content-Length"] = str(behind - first)
    response.headers["ETag"] = etag
    response.headers["Accept-Ranges"] = "bytes"
    return response


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """The first byte, and the one behind the last; empty or backward when there is nothing there."""
    if not first:
        # The last so many bytes.
        return max(0, size - int(last or 0)), size
    return int(first), min(size, int(last) + 1) if last else size
