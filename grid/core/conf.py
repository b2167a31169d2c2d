"""The settings of the server: read once from ``GRID_*`` variables, typed, unknown ones refused.

Every value can come from a file: ``GRID_SECRET_KEY_FILE=/run/secrets/key`` gives ``secret_key``.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from django.conf import settings
from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.fields import one_of
from tasks.limits import DEFAULT_LIMITS, Limits
from tasks.placement import Policy
from tasks.profiles import PROFILES
from tasks.terms import DaysByClass, Quota, Retention

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "GRID_"
# Variables of the client and of the supervisor that may stand in the same environment.
FOREIGN = frozenset({"GRID_SERVER", "GRID_TOKEN", "GRID_CONFIG"})

# Settings of these kinds are written as JSON.
_JSON = (Limits, Quota, dict[str, int], dict[str, str], tuple[str, ...], DaysByClass)


class SettingsError(ValueError):
    """A GRID_ variable is unknown or has a value of the wrong kind; the text says which and how to mend it."""


class GridSettings(BaseModel):
    """What an operator can set. Sizes and times in the defaults' units are bytes and seconds.

    ``default_limits`` are taken for what a task leaves open, ``max_limits`` cap what it asks; both are JSON objects
    with the keys and units of a task's ``limits``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dir: Path = Path(".grid")
    database_url: str = ""
    database_wait_seconds: float = Field(default=20.0, gt=0, description="How long to wait for a lock of the database.")
    broker_url: str = "redis://127.0.0.1:6379/0"
    secret_key: str = ""
    debug: bool = False
    allowed_hosts: str = "localhost,127.0.0.1,[::1]"
    public_url: str = "http://127.0.0.1:8080"
    flower_url: str = Field(default="", description="Where the server reaches Flower, with its prefix flower/.")
    flower_auth: str = Field(default="", description="USER:PASSWORD of Flower.")
    node_broker_url: str = Field(default="", description="Address of the broker as nodes see it; empty: broker_url.")
    broker_users: bool = Field(default=True, description="Give each node a user of its own on a Redis or Valkey.")
    store_url: str = Field(default="", description="Where blobs are kept: s3://BUCKET/PREFIX; empty: in the folder.")
    store_key: str = Field(default="", description="Access key of the bucket; empty: as the environment says (AWS_*).")
    store_secret: str = ""

    lease_seconds: float = Field(default=30.0, gt=0)
    heartbeat_seconds: float = Field(default=0.0, ge=0, description="0: a third of the lease.")
    tick_seconds: float = Field(default=1.0, gt=0)
    resend_seconds: float = Field(default=3.0, gt=0, description="An order not taken up is sent again after this.")
    staging_seconds: float = Field(default=1800.0, gt=0)
    upload_seconds: float = Field(default=1800.0, gt=0)
    run_grace_seconds: float = Field(default=30.0, gt=0)
    cancel_grace_seconds: float = Field(default=30.0, gt=0)
    patience_seconds: float = Field(default=60.0, ge=0)
    max_lost_attempts: int = Field(default=3, ge=1)

    licences: dict[str, int] = Field(default={}, description="Counters of the whole grid, as a JSON object.")
    allow_network: bool = False
    default_limits: Limits = DEFAULT_LIMITS
    max_limits: Limits = Limits()
    max_blob_bytes: int = Field(default=16 * 1024**3, gt=0)

    allow_callbacks: bool = Field(default=True, description="Whether the server posts to addresses that tasks name.")
    callback_hosts: tuple[str, ...] = Field(default=(), description="Patterns of hosts that may have inner addresses.")
    callback_tries: int = Field(default=10, ge=1, le=50)
    callback_delay_seconds: float = Field(default=5.0, gt=0, description="Before the second try; then four times it.")
    callback_seconds: float = Field(default=10.0, gt=0, description="The longest that one try may take.")
    email_url: str = Field(
        default="", description="smtp://USER:PASSWORD@HOST:PORT, smtp+tls://, smtps://, file:///DIR."
    )
    email_from: str = "grid@localhost"
    email_pause_seconds: float = Field(default=900.0, ge=0, description="Between two e-mails to one person.")

    session_hours: float = Field(default=14 * 24.0, gt=0, description="A log-in lasts so long.")
    oidc_issuer: str = Field(default="", description="Log-in with OpenID Connect at this address; empty: none.")
    oidc_client_id: str = ""
    oidc_client_secret: str = ""
    oidc_label: str = "Log in with your organisation"
    oidc_scopes: str = "openid email profile"
    oidc_algorithm: str = Field(default="RS256", description="How the provider signs: RS or ES, 256, 384 or 512.")
    oidc_name_claim: str = Field(default="preferred_username", description="The claim that names the account.")
    oidc_groups_claim: str = "groups"
    oidc_groups: dict[str, str] = Field(default={}, description="The provider's groups, and what they are here.")
    oidc_staff: str = Field(default="", description="The provider's group of operators.")
    oidc_adopt: bool = Field(default=False, description="Let it open accounts of the same name that are here already.")
    ldap_url: str = Field(default="", description="Log-in by this directory: ldaps://HOST, ldap://HOST; empty: none.")
    ldap_starttls: bool = Field(default=True, description="Turn on TLS over ldap://; false is for loopback.")
    ldap_plaintext: bool = Field(default=False, description="Let passwords go over a network in clear all the same.")
    ldap_ca_file: str = Field(default="", description="Whose certificates are believed; empty: those of the system.")
    ldap_timeout_seconds: float = Field(default=5.0, gt=0, description="For each question to the directory.")
    ldap_user_dn: str = Field(default="", description="The DN of whoever logs in as {name}.")
    ldap_base: str = Field(default="", description="Where else whoever logs in is looked for.")
    ldap_filter: str = "(uid={name})"
    ldap_bind_dn: str = Field(default="", description="Who looks; empty: nobody in particular.")
    ldap_bind_password: str = ""
    ldap_id_attribute: str = Field(default="entryUUID", description="What never changes, nor is used again.")
    ldap_name_attribute: str = Field(default="uid", description="What names the account.")
    ldap_email_attribute: str = "mail"
    ldap_label: str = Field(default="", description="What the log-in page says of it.")
    ldap_group_base: str = Field(default="", description="Where groups are looked for.")
    ldap_group_filter: str = "(|(member={dn})(uniqueMember={dn})(memberUid={name}))"
    ldap_groups: dict[str, str] = Field(default={}, description="The directory's groups, and what they are here.")
    ldap_allowed: tuple[str, ...] = Field(default=(), description="Only members of these log in; empty: everybody.")
    ldap_staff: str = Field(default="", description="The directory's group of operators.")
    ldap_adopt: bool = Field(default=False, description="Let it open accounts of the same name that are here already.")

    open_submit: bool = Field(default=True, description="False: only members of Clients, and staff, may submit.")
    user_quota: Quota = Field(default=Quota(), description="The quota of each user for whom nothing else is decided.")
    images: tuple[str, ...] = Field(default=(), description="Patterns of images that may be used; empty: all.")
    image_names: dict[str, str] = Field(default={}, description="Images put in place of others, by pattern.")
    profiles: tuple[str, ...] = Field(default=(), description="Container profiles that everybody may use.")
    retention_files: DaysByClass = Field(default={}, description="Days for which output files are kept, by class.")
    retention_inputs: DaysByClass = {}
    retention_logs: DaysByClass = {}
    retention_tasks: DaysByClass = Field(default={}, description="Days for which ended tasks are kept at all.")
    retention_unused_days: float = Field(default=1.0, ge=0, description="A content that nothing uses is kept so long.")
    retention_references_days: float = Field(
        default=30.0, ge=0, description="A content that kolejka's clients have a reference to is kept so long unread."
    )
    retention_pause_seconds: float = Field(default=3600.0, ge=0, description="Between two walks over all that is kept.")

    @field_validator("profiles")
    @classmethod
    def _known_profiles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(one_of(PROFILES, "a container profile")(name) for name in value)

    @property
    def heartbeat(self) -> float:
        """Seconds between two heartbeats of a node."""
        return self.heartbeat_seconds or self.lease_seconds / 3

    @property
    def placement(self) -> Policy:
        """The settings of placement."""
        return Policy(patience_seconds=self.patience_seconds, margin_seconds=self.run_grace_seconds)

    @property
    def retention(self) -> Retention:
        """How long ended tasks are kept where nothing else is decided for their owner."""
        return Retention(
            files=self.retention_files,
            inputs=self.retention_inputs,
            logs=self.retention_logs,
            tasks=self.retention_tasks,
        )

    @property
    def broker_for_nodes(self) -> str:
        """The broker's address as nodes reach it."""
        return self.node_broker_url or self.broker_url

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the settings; raises SettingsError that names every variable at fault."""
        found = dict(_variables(environ))
        unknown = sorted(set(found) - set(cls.model_fields))
        if unknown:
            raise SettingsError("; ".join(_unknown(name, cls) for name in unknown))
        try:
            return cls.model_validate({name: _parsed(cls, name, text) for name, text in found.items()})
        except ValueError as error:
            raise SettingsError(f"a {PREFIX} variable has a wrong value: {error}") from error


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, text in environ.items():
        if not name.startswith(PREFIX) or name in FOREIGN or name.removesuffix("_FILE") in FOREIGN:
            continue
        key = name.removeprefix(PREFIX).lower()
        if key.endswith("_file") and key not in GridSettings.model_fields:
            yield key.removesuffix("_file"), Path(text).read_text().strip()
        else:
            yield key, text


def _parsed(cls: type[GridSettings], name: str, text: str) -> object:
    if cls.model_fields[name].annotation in _JSON:
        return json.loads(text)
    return text


def _unknown(name: str, cls: type[GridSettings]) -> str:
    near = difflib.get_close_matches(name, cls.model_fields, n=1)
    hint = f'; did you mean "{PREFIX}{near[0].upper()}"?' if near else ""
    return f'"{PREFIX}{name.upper()}" is not a setting{hint}'


def conf() -> GridSettings:
    """The settings of this process."""
    found = settings.GRID
    if not isinstance(found, GridSettings):
        raise TypeError("settings.GRID has to be a GridSettings")
    return found
