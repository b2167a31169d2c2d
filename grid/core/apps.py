"""The Django application ``grid.core``."""

from __future__ import annotations

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """Tables are named ``core_*``."""

    name = "grid.core"
    label = "core"
    verbose_name = "Grid"
    default_auto_field = "django.db.models.BigAutoField"
