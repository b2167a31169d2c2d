"""Encryption of secrets at rest, with a key derived from the server's secret key."""

from __future__ import annotations

import base64
import hashlib

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings

from tasks.errors import GridError


def seal(text: str) -> bytes:
    """Encrypt a value."""
    return _box().encrypt(text.encode())


def unseal(sealed: bytes) -> str:
    """Decrypt a value; raises GridError when the server's secret key has changed since."""
    try:
        return _box().decrypt(sealed).decode()
    except InvalidToken as error:
        raise GridError("a secret cannot be read: the server's secret key has changed; store it again") from error


def _box() -> Fernet:
    key = hashlib.sha256(b"celery-grid secrets\0" + settings.SECRET_KEY.encode()).digest()
    return Fernet(base64.urlsafe_b64encode(key))
