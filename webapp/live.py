"""How code in the event loop looks into the database: shortly, in one of a few threads that keep their connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from django.db import close_old_connections

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 4
_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="live")


async def in_thread(action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What ``action`` returns or raises; it runs in a thread and should be short."""
    return await asyncio.get_running_loop().run_in_executor(_pool, partial(_fresh, partial(action, *args, **kwargs)))


def _fresh(action: Callable[[], T]) -> T:
    """Connections that broke in the meantime are not used again; Django does this by itself only around requests."""
    close_old_connections()
    try:
        return action()
    finally:
        close_old_connections()
