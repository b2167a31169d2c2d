"""Django's settings, made from the ``GRID_*`` variables; with none of them set it runs on a laptop.

Durability before speed: SQLite runs with ``synchronous=FULL``, because "a submit that returned an id is never lost"
includes a power cut; NORMAL would save one fsync per commit and break the promise.
"""

from __future__ import annotations

import os
import secrets
from typing import Any
from urllib.parse import unquote, urlsplit

import dj_database_url

from grid.core.conf import GridSettings, SettingsError
from grid.core.people import directory

GRID = GridSettings.from_environ()

_HTTPS = GRID.public_url.startswith("https://")
_MEBI = 1024**2


def _secret_key(settings: GridSettings) -> str:
    """The configured key, else the one in the server's folder, made at the first start."""
    if settings.secret_key:
        return settings.secret_key
    path = settings.dir / "secret_key"
    settings.dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(handle, "w") as file:
        key = secrets.token_urlsafe(64)
        file.write(key)
    return key


def _database(settings: GridSettings) -> dict[str, Any]:
    """SQLite in the server's folder, or what ``GRID_DATABASE_URL`` says; connections live as long as their thread."""
    url = settings.database_url or f"sqlite:///{settings.dir.resolve() / 'grid.sqlite3'}"
    found: dict[str, Any] = {**dj_database_url.parse(url, conn_max_age=None, conn_health_checks=True)}
    wait_seconds = settings.database_wait_seconds
    if found["ENGINE"].endswith("sqlite3"):
        found["CONN_HEALTH_CHECKS"] = False
        found["OPTIONS"] = {
            "timeout": wait_seconds,
            # DEFERRED transactions that read first and write later fail at once under contention, whatever the timeout.
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-16000;",
        }
    elif found["ENGINE"].endswith("postgresql"):
        # Nobody waits for ever, neither for a lock nor for a process that was stopped while it held one.
        bounds = {"lock_timeout": wait_seconds, "idle_in_transaction_session_timeout": wait_seconds}
        # Questions here are short walks of indexes that are in memory: to compile them costs more than it brings.
        texts = [f"-c {name}={round(seconds * 1000)}" for name, seconds in bounds.items()]
        texts += ["-c jit=off", "-c random_page_cost=1.1"]
        found.setdefault("OPTIONS", {}).setdefault("options", " ".join(texts))
    return found


def _email(settings: GridSettings) -> dict[str, Any]:
    """The mail server that ``GRID_EMAIL_URL`` names: plain, with STARTTLS, with TLS, or a folder to look into."""
    url = urlsplit(settings.email_url)
    if url.scheme == "file":
        return {"EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend", "EMAIL_FILE_PATH": url.path}
    ports = {"smtp": 25, "smtp+tls": 587, "smtps": 465}
    if settings.email_url and url.scheme not in ports:
        raise SettingsError("GRID_EMAIL_URL begins with smtp://, smtp+tls://, smtps:// or file://")
    return {
        "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "EMAIL_HOST": url.hostname or "localhost",
        "EMAIL_PORT": url.port or ports.get(url.scheme, 25),
        "EMAIL_HOST_USER": unquote(url.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(url.password or ""),
        "EMAIL_USE_TLS": url.scheme == "smtp+tls",
        "EMAIL_USE_SSL": url.scheme == "smtps",
        "EMAIL_TIMEOUT": 20,
    }


# ------------------------------------------------------------------------------------------------------------- basics
DEBUG = GRID.debug
SECRET_KEY = _secret_key(GRID)
ALLOWED_HOSTS = [
    *(host.strip() for host in GRID.allowed_hosts.split(",") if host.strip()),
    urlsplit(GRID.public_url).hostname or "localhost",
]
ROOT_URLCONF = "webapp.urls"
WSGI_APPLICATION = "webapp.wsgi.application"
ASGI_APPLICATION = "webapp.asgi.application"
APPEND_SLASH = True
INSTALLED_APPS = [
    "webapp",  # before the admin, whose frame it changes
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_results",
    "ninja",  # its page of the API, from our own static files
    "grid.core",
]
MIDDLEWARE = [
    "webapp.timing.timed",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "webapp.middleware.browser_policy",
    "webapp.problems.always_problems",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "webapp.origin.known_origin",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# ------------------------------------------------------------------------------------------------------------ records
DATABASES = {"default": _database(GRID)}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
# Outcomes are mirrored for Celery's tools by the server itself; nothing is read back or expires by Celery's clock.
CELERY_RESULT_BACKEND = "django-db"
CELERY_RESULT_EXTENDED = True
CELERY_RESULT_EXPIRES = None

# ------------------------------------------------------------------------------------------------------------- people
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
if _faults := directory.faults(GRID):
    raise SettingsError("\n".join(_faults))
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    *(["webapp.directory.LdapBackend"] if GRID.ldap_url else []),
    *(["webapp.identity.OpenIdBackend"] if GRID.oidc_issuer else []),
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "tasks"
LOGOUT_REDIRECT_URL = "login"

# ----------------------------------------------------------------------------------------------------------- security
# Cookies and redirects follow the public address: a grid on plain loopback HTTP works out of the box.
SESSION_COOKIE_SECURE = _HTTPS
SESSION_COOKIE_AGE = round(GRID.session_hours * 3600)
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SECURE = _HTTPS
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_TRUSTED_ORIGINS = [GRID.public_url.rstrip("/")] if _HTTPS else []
CSRF_FAILURE_VIEW = "webapp.views.errors.csrf_failed"
SECURE_SSL_REDIRECT = _HTTPS
# A token that came over plain HTTP is not sent twice; nodes and probes on the server's own machine speak plain HTTP.
SECURE_REDIRECT_EXEMPT = [r"^api/v1/", r"^health", r"^metrics$"]
SECURE_HSTS_SECONDS = 365 * 86400 if _HTTPS else 0
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SILENCED_SYSTEM_CHECKS = [
    "security.W005",  # subdomains of the grid's host may belong to others and speak plain HTTP
    "security.W021",  # nobody but the owner of the domain may ask browsers to preload it
]

# ------------------------------------------------------------------------------------------------------------ uploads
# The largest JSON body. Blobs are read as streams and have limits of their own.
DATA_UPLOAD_MAX_MEMORY_SIZE = 32 * _MEBI
DATA_UPLOAD_MAX_NUMBER_FILES = 5010
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000
FILE_UPLOAD_MAX_MEMORY_SIZE = _MEBI

# -------------------------------------------------------------------------------------------------------------- e-mail
DEFAULT_FROM_EMAIL = SERVER_EMAIL = GRID.email_from
globals().update(_email(GRID))

# ------------------------------------------------------------------------------------------------------- static files
STATIC_URL = "static/"
# Files are served from where they lie in the packages: there is no step to collect them.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
WHITENOISE_MAX_AGE = 0 if DEBUG else 3600
WHITENOISE_ALLOW_ALL_ORIGINS = False

# --------------------------------------------------------------------------------------------------------------- logs
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        # A server that is not ready says so to whoever asks; a line for each question would hide the others.
        "refusals": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: getattr(record, "status_code", 0) != 503,
        }
    },
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        # Refusals (404, 403...) are the caller's business, told in the answer.
        "django.request": {"level": "ERROR", "filters": ["refusals"]},
        "httpx": {"level": "WARNING"},
        # It tells what was typed as a name, which may be a password; webapp.directory says what was wrong.
        "django_auth_ldap": {"level": "ERROR"},
    },
}
