#!/usr/bin/env python
"""The operator's door to Django's commands: migrate, createsuperuser, rundispatcher, check..."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
    execute_from_command_line(sys.argv)
