"""The profiles of containers: what a program finds itself to be inside of one."""

from __future__ import annotations

from enum import StrEnum


class Profile(StrEnum):
    """How a container is made.

    ``standard``: a user without rights, on a root file system that cannot be written. ``judge``: root with the few
    capabilities that judges of programs need, on a root file system that can be written and counts as storage, with
    the observer of the node where it has one. Judges are for those to whom it was allowed.
    """

    STANDARD = "standard"
    JUDGE = "judge"


PROFILES = tuple(str(one) for one in Profile)
EVERYBODYS = Profile.STANDARD
"""The profile that needs nobody's leave."""
