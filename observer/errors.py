"""What can go wrong between a caller and the observer; every failure is one of these.

::

    ObserverError
    +-- BadRequest    400  not a request of this protocol
    +-- Forbidden     403  wrong secret, or a session of another container
    +-- Failed        500  understood, but not done: an unknown operation, a limit that cannot be held, ...
    +-- Busy          503  more sessions or connections at one time than one container may have
    +-- Unreachable        (client only) nobody answers at the socket
"""

from __future__ import annotations


class ObserverError(Exception):
    """The base of all; the text is for people and names the field or the limit that is meant."""

    status = 500


class BadRequest(ObserverError):
    """Not a request of this protocol."""

    status = 400


class Forbidden(ObserverError):
    """The secret is wrong, or the session is another container's."""

    status = 403


class Failed(ObserverError):
    """The request was understood, and could not be carried out."""


class Busy(ObserverError):
    """The caller has as many sessions or connections as it may have."""

    status = 503


class Unreachable(ObserverError):
    """Nobody answers at the socket, or what answers is not an observer."""

    status = 0


BY_STATUS: dict[int, type[ObserverError]] = {one.status: one for one in (BadRequest, Forbidden, Failed, Busy)}
