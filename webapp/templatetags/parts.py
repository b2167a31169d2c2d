"""What of the grid is there, for templates."""

from __future__ import annotations

from django import template
from django.urls import reverse

from grid.core.conf import conf

register = template.Library()


@register.simple_tag
def flower_address() -> str:
    """Where staff find Flower; empty without one."""
    return reverse("flower") if conf().flower_url else ""
