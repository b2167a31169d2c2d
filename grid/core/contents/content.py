"""A content on its way into a store: counted, hashed, and held to what was promised of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tasks.errors import Fault, SpecError, TooLarge


@dataclass(frozen=True, slots=True)
class Stored:
    """A content that the store holds."""

    sha256: str
    size: int


class Content:
    """The bytes of ``chunks``, to be read once; afterwards ``stored`` says what they were."""

    def __init__(self, chunks: Iterable[bytes], sha256: str | None = None, limit: int | None = None) -> None:
        self._chunks = chunks
        self._promised = sha256
        self._limit = limit
        self._digest = hashlib.sha256()
        self._size = 0

    def __iter__(self) -> Iterator[bytes]:
        """The chunks. Raises TooLarge as soon as there are more bytes than the limit."""
        for chunk in self._chunks:
            self._size += len(chunk)
            if self._limit is not None and self._size > self._limit:
                raise TooLarge(f"the file has more than {self._limit} bytes, the most that is taken here")
            self._digest.update(chunk)
            yield chunk

    @property
    def stored(self) -> Stored:
        """Hash and size, once all has been read. Raises SpecError when it is not the content that was promised."""
        found = self._digest.hexdigest()
        if self._promised is not None and found != self._promised:
            words = f"the content has the sha256 {found}, not {self._promised}"
            raise SpecError([Fault("", words, "send the file again")])
        return Stored(found, self._size)
