"""The packages of requirements-ldap.txt for tests: built once into a folder that only those tests look into."""

from __future__ import annotations

import fcntl
import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements-ldap.txt"
FOLDER = ROOT / ".venv-ldap"


@cache
def ldap_packages() -> Path:
    """The folder for ``sys.path``, which is made at the first call and when the requirements have changed.

    They come without what they need themselves (Django), which is here. Raises CalledProcessError where they cannot be
    had or built.
    """
    wanted = REQUIREMENTS.read_text() + sys.version
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made, folder = FOLDER / "made-of.txt", FOLDER / "packages"
        if not made.exists() or made.read_text() != wanted:
            made.unlink(missing_ok=True)
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "--no-deps", "--upgrade", "--target", folder, "-r", REQUIREMENTS], check=True)
            made.write_text(wanted)
    return folder


def use_ldap_packages() -> None:
    """Let this process import them, unless it can already."""
    if importlib.util.find_spec("django_auth_ldap") is None:
        sys.path.append(str(ldap_packages()))
        importlib.invalidate_caches()


if __name__ == "__main__":
    # The suite's set-up: fetching and building may take longer than a test.
    ldap_packages()
