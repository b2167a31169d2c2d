"""Why a log-in was refused for another reason than a wrong password; the back end tells, the doors ask."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest

_KEY = "log_in_refusal"


@dataclass(frozen=True, slots=True)
class Refusal:
    """``words`` are for who logs in; ``counts`` tells whether it counts as a wrong password all the same."""

    words: str
    counts: bool


def refuse(request: HttpRequest | None, refusal: Refusal) -> None:
    """Remember it for as long as the request is answered."""
    if request is not None:
        request.__dict__[_KEY] = refusal


def refusal_of(request: HttpRequest) -> Refusal | None:
    """What was remembered; None when nothing but the password was wrong."""
    found = request.__dict__.get(_KEY)
    return found if isinstance(found, Refusal) else None
