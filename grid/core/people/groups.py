"""The groups that every grid has, as in kolejka: made after migrations, with the permissions that they stand for."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db.models import Q

CLIENTS, PROCESSORS, INSPECTORS, MANAGERS = "Clients", "Processors", "Inspectors", "Managers"

_SEE = ("view_task", "view_attempt", "view_event", "view_inputfile", "view_outputfile", "view_blob", "view_node")
PERMISSIONS: dict[str, tuple[str, ...]] = {
    CLIENTS: ("add_task", "view_blob"),
    PROCESSORS: ("view_blob", "view_node", "add_attempt"),
    INSPECTORS: _SEE,
    MANAGERS: (*_SEE, "delete_task", "delete_blob"),
}
"""Clients submit. Processors own nodes' tokens, and are the accounts of kolejka's foremen. Inspectors see all.
Managers see, cancel and remove all."""


def make_groups(**sent: Any) -> None:
    """Make the groups that are not there yet; those that are keep what operators made of them."""
    for name, words in PERMISSIONS.items():
        group, made = Group.objects.get_or_create(name=name)
        if made:
            group.permissions.set(Permission.objects.filter(Q(codename__in=words), content_type__app_label="core"))
