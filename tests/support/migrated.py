"""A database that has all tables and nothing in them: made once, and copied into the folder of each grid of a test.

To bring an empty database up to date takes the processor as long as everything else that a small grid does to start.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAME = "grid.sqlite3"
_PLACE = Path(tempfile.gettempdir()) / "celery-grid-test-databases"
# Whose tables there are.
_PACKAGES = ("django", "django-celery-results")


def give(directory: Path, environment: Mapping[str, str]) -> None:
    """Put the database into the folder of a grid that has none. ``environment`` is that of the grid's programs."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (directory / NAME).exists():
        shutil.copyfile(_template(environment), directory / NAME)


def _template(environment: Mapping[str, str]) -> Path:
    """The database that fits to the migrations as they are now, made by the first who asks."""
    _PLACE.mkdir(exist_ok=True)
    made = _PLACE / f"{_fingerprint()}.sqlite3"
    with (_PLACE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=_PLACE) as folder:
                where = {"GRID_DIR": folder, "DJANGO_SETTINGS_MODULE": "webapp.settings", "PYTHONPATH": str(ROOT)}
                command = [sys.executable, "-m", "django", "migrate", "--verbosity", "0", "--skip-checks"]
                subprocess.run(command, env={**environment, **where}, check=True)
                os.replace(Path(folder) / NAME, made)
    return made


def _fingerprint() -> str:
    """A name for the migrations as they are now: ours by their contents, those of packages by their versions."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "grid").rglob("migrations/*.py")):
        digest.update(path.read_bytes())
    for package in _PACKAGES:
        digest.update(importlib.metadata.version(package).encode())
    return digest.hexdigest()[:16]
