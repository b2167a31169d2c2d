"""What is told of people, groups and tokens, and what operators may ask to be changed of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.limits import Limits
from tasks.model import Record
from tasks.terms import Quota, Retention, Rules
from tasks.views import TokenView

Name = Annotated[str, Field(min_length=1, max_length=150, pattern=r"^[^\x00]+$")]
Scopes = Annotated[tuple[Literal["read", "submit", "admin"], ...], Field(min_length=1, max_length=3)]


class TokenBody(Record):
    """A token to be made: what it opens, and after how many days it expires (null: as the one it is made with)."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00]+$")]
    scopes: Scopes = ("read", "submit")
    days: Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)] | None = None


class NewToken(Record):
    """A token that was made. Its text is told this once, and kept nowhere."""

    token: str = Field(repr=False)
    view: TokenView


class TokenPage(Record):
    """Tokens, the newest first; ``next`` is the cursor of the page behind, empty at the end."""

    items: tuple[TokenView, ...]
    next: str = ""


class QuotaUse(Record):
    """A quota that holds for somebody, and what is used of it; the queue is counted up to ten thousand."""

    whose: str
    quota: Quota
    running: int
    queued: int
    cpu_hours: float
    storage: int


class AccountView(Record):
    """The caller's own account: whether their groups see their tasks, and which quotas hold."""

    name: str
    email: str
    staff: bool
    groups: tuple[str, ...]
    share: bool
    used: tuple[QuotaUse, ...]


class PersonView(Record):
    """A user as operators see them in a list; ``ruled`` says that something is decided for them."""

    name: str
    email: str
    staff: bool
    active: bool
    groups: tuple[str, ...]
    running: int
    ruled: bool


class PeoplePage(Record):
    """Users by name; ``next`` is where the page behind begins, empty at the end."""

    items: tuple[PersonView, ...]
    next: str = ""


class PersonDetail(PersonView):
    """One user, with what is decided for them and what is used of the quotas that hold."""

    rules: Rules
    used: tuple[QuotaUse, ...]


class NewPersonBody(Record):
    """A user to be made; without a password one is made up. Without groups they are in Clients."""

    name: Name
    email: Annotated[str, Field(max_length=254, pattern=r"^([^@\s\x00]+@[^@\s\x00]+)?$")] = ""
    password: Annotated[str, Field(max_length=200)] | None = Field(default=None, repr=False)
    groups: tuple[Name, ...] | None = None


class NewPerson(Record):
    """A user who was made. A password that was made up is told this once, and kept nowhere."""

    name: str
    password: str | None = Field(default=None, repr=False)


class PersonChange(Record):
    """What is to change of a user; what is left out stays. ``rules`` replace all that was decided before."""

    groups: Annotated[tuple[Name, ...], Field(max_length=200)] | None = None
    active: bool | None = None
    rules: Rules | None = None


class GroupView(Record):
    """A group as operators see it in a list; ``ruled`` says that something is decided for it."""

    name: str
    members: int
    ruled: bool


class GroupDetail(GroupView):
    """One group: its first members by name, what is decided for them together, and what they use of it."""

    names: tuple[str, ...]
    rules: Rules
    used: tuple[QuotaUse, ...]


class GroupBody(Record):
    """A group to be made."""

    name: Name


class GroupChange(Record):
    """What is decided for the members of a group; it replaces all that was decided before."""

    rules: Rules


class ServerRules(Record):
    """What holds for everybody by the server's settings, where nothing else was decided."""

    quota: Quota
    default_limits: Limits
    max_limits: Limits
    allow_network: bool
    images: tuple[str, ...]
    image_names: dict[str, str]
    profiles: tuple[str, ...]
    retention: Retention
    unused_days: float
    open_submit: bool
