"""The output of a task on its page: a window of a log that may be huge, searched on the server, and the download."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from grid.core import logs
from grid.core.models import Attempt
from tasks.views import AttemptView, TaskView
from webapp.middleware import inert
from webapp.views.finding import task_or_404

WINDOW_BYTES = 64 * 1024
MOST_SOUGHT = 200
# So much is shown before a match, and a window begins at a line where one begins so near.
_BEFORE_BYTES = 8 * 1024
_LINE_BYTES = 4 * 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the shown text; ``match`` is what was searched for, ``here`` the very match that was jumped to."""

    text: str
    match: bool = False
    here: bool = False


@dataclass(frozen=True, slots=True)
class LogWindow:
    """A part of a stream: its bytes ``start`` to ``end`` of ``size``. ``live`` when it follows the end as it grows.

    ``earlier``, ``later``, ``previous`` and ``next`` are the queries of the neighbouring windows and matches, empty
    where there are none; ``note`` tells how a search went.
    """

    stream: str
    number: int
    pieces: tuple[Piece, ...] = ()
    start: int = 0
    end: int = 0
    size: int = 0
    live: bool = False
    sought: str = ""
    note: str = ""
    earlier: str = ""
    later: str = ""
    previous: str = ""
    next: str = ""

    @property
    def text(self) -> str:
        """All that is shown."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def at_end(self) -> bool:
        """Whether the window reaches to the end."""
        return self.end >= self.size


@dataclass(frozen=True, slots=True)
class Wish:
    """What the address asks for: a stream of an attempt, from an offset on, or the match at or before one."""

    stream: str
    number: int | None = None
    start: int | None = None
    sought: str = ""
    at: int | None = None
    backward: bool = False


def wish_of(query: Mapping[str, str]) -> Wish:
    """The wish in an address; what makes no sense in it is left out."""
    return Wish(
        stream="stderr" if query.get("stream") == "stderr" else "stdout",
        number=_number(query.get("attempt", "")),
        start=_number(query.get("from", "")),
        sought=query.get("find", "")[:MOST_SOUGHT],
        at=_number(query.get("at", "")),
        backward=query.get("way") == "back",
    )


def window(task: TaskView, attempts: list[AttemptView], wish: Wish) -> LogWindow:
    """The part of a log that was asked for: by default its end, which a page goes on with as it grows."""
    chosen = next((one for one in attempts if one.number == wish.number), attempts[-1] if attempts else None)
    if chosen is None:
        return LogWindow(wish.stream, 0, live=not task.state.final)
    attempt = Attempt(id=chosen.id, state=chosen.state)
    size = logs.read(attempt, wish.stream, 0, 0).size
    last = chosen is attempts[-1]
    if wish.sought:
        return _search(attempt, chosen.number, wish, size)
    start = max(0, size - WINDOW_BYTES) if wish.start is None else min(wish.start, size)
    found = _cut(attempt, wish.stream, start)
    return _built(chosen.number, wish, found, size, live=wish.start is None and last and not task.state.final)


def _search(attempt: Attempt, number: int, wish: Wish, size: int) -> LogWindow:
    """The window around the match that was asked for; without one the end of the log, and how far it was looked."""
    needle = wish.sought.encode()
    at = wish.at if wish.at is not None else size if wish.backward else 0
    found = logs.find(attempt.id, wish.stream, needle, at, backward=wish.backward)
    if found.offset is not None:
        cut = _cut(attempt, wish.stream, max(0, found.offset - _BEFORE_BYTES))
        return replace(
            _built(number, wish, cut, size, here=found.offset),
            previous=_query(wish, number, at=found.offset, back=True),
            next=_query(wish, number, at=found.offset + len(needle), back=False),
        )
    shown = _built(number, wish, _cut(attempt, wish.stream, max(0, size - WINDOW_BYTES)), size)
    where = "before" if wish.backward else "after"
    if found.over:
        none = "Nothing of that is in this log." if wish.at is None else f"There is none {where} that one."
        return replace(shown, note=none)
    further = _query(wish, number, at=found.looked_to, back=wish.backward)
    note = f"There is none {where} that in {logs.SEARCH_BYTES >> 20}M; go on looking."
    if wish.backward:
        return replace(shown, note=note, previous=further)
    return replace(shown, note=note, next=further)


@dataclass(frozen=True, slots=True)
class _Cut:
    start: int
    data: bytes


def _cut(attempt: Attempt, stream: str, start: int) -> _Cut:
    """A window of the log that begins at a line, or at least at a character."""
    data = logs.read(attempt, stream, start, WINDOW_BYTES).data
    if not start:
        return _Cut(start, data)
    line = data.find(b"\n", 0, _LINE_BYTES) + 1
    skip = line or next((place for place in range(min(4, len(data))) if data[place] & 0xC0 != 0x80), 0)
    return _Cut(start + skip, data[skip:])


def _built(number: int, wish: Wish, cut: _Cut, size: int, *, live: bool = False, here: int | None = None) -> LogWindow:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    end = cut.start + len(cut.data)
    # A character that is not whole yet belongs to the next window.
    text = decoder.decode(cut.data, final=end >= size and not live)
    end -= len(decoder.getstate()[0])
    base: dict[str, str | int] = {"stream": wish.stream, "attempt": number}
    mark = None if here is None else len(cut.data[: max(0, here - cut.start)].decode(errors="replace"))
    return LogWindow(
        stream=wish.stream,
        number=number,
        pieces=tuple(_pieces(text, wish.sought, mark)),
        start=cut.start,
        end=end,
        size=size,
        live=live,
        sought=wish.sought,
        earlier=urlencode({**base, "from": max(0, cut.start - WINDOW_BYTES)}) if cut.start else "",
        later=urlencode({**base, "from": end}) if end < size else "",
    )


def _pieces(text: str, sought: str, here: int | None) -> list[Piece]:
    if not sought:
        return [Piece(text)] if text else []
    found, done = [], 0
    for match in re.finditer(re.escape(sought), text, re.IGNORECASE | re.ASCII):
        if match.start() > done:
            found.append(Piece(text[done : match.start()]))
        found.append(Piece(match.group(), match=True, here=match.start() == here))
        done = match.end()
    return [*found, Piece(text[done:])] if done < len(text) else found


def _query(wish: Wish, number: int, *, at: int, back: bool) -> str:
    query = {"stream": wish.stream, "attempt": str(number), "find": wish.sought, "at": str(at)}
    return urlencode(query | ({"way": "back"} if back else {}))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


@login_required
@require_safe
def download(request: HttpRequest, task_id: str, stream: str) -> StreamingHttpResponse:
    """All of a stream of an attempt (the newest unless told otherwise), for saving; never held in memory."""
    task = task_or_404(request, task_id)
    number = _number(request.GET.get("attempt", "")) or task.attempts_made
    attempt = task.attempts.filter(number=number).first()
    if stream not in logs.STREAMS or attempt is None:
        raise Http404(f"the task {task_id} has no such log")
    response = StreamingHttpResponse(logs.whole(attempt.id, stream), content_type="application/octet-stream")
    response.headers["Content-Disposition"] = f'attachment; filename="{task.id}-{number}.{stream}.txt"'
    return inert(response, "no-store")
