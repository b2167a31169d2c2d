"""The Django application ``grid.core``."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import m2m_changed, post_migrate


class CoreConfig(AppConfig):
    """Tables are named ``core_*``."""

    name = "grid.core"
    label = "core"
    verbose_name = "Grid"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make the groups after migrations, and see changes of memberships and permissions at once."""
        from django.contrib.auth.models import Group, User

        from grid.core.people import access, audit
        from grid.core.people.groups import make_groups

        def changed(**sent: Any) -> None:
            access.forget()

        audit.watch()
        post_migrate.connect(make_groups, sender=self, dispatch_uid="grid.groups")
        for through in (User.groups.through, User.user_permissions.through, Group.permissions.through):
            m2m_changed.connect(changed, sender=through, weak=False, dispatch_uid=f"grid.{through.__name__}")
