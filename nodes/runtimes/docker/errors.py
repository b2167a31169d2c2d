"""What can go wrong between us and the container engine; none of these leaves ``nodes.runtimes.docker``.

::

    EngineError          the engine says no (``status`` is that of HTTP)
    ├── NotThere         no such container, image...
    └── NameTaken        in the way: a name is in use, or the container is not in the right state
    EngineGone           the engine does not answer, or the connection was cut
"""

from __future__ import annotations


class EngineError(Exception):
    """The engine understood the request and says no; the text is its own sentence."""

    def __init__(self, message: str, status: int = 500) -> None:
        self.message, self.status = message, status
        super().__init__(message)


class NotThere(EngineError):
    """There is no such container, image or network."""


class NameTaken(EngineError):
    """The name is in use, or the thing is not in the state that the request needs."""


class EngineGone(Exception):
    """The engine does not answer, or the connection was cut in the middle of an answer."""
