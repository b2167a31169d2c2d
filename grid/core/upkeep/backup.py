"""Back-up and restore of a whole grid: records, blobs, logs and the secret key, in a folder, made while the grid runs.

The database is copied first, as it was at one moment. A content never changes, and stays while something names it: what
the copy names is there when it is read afterwards; what came later is copied too or not, and does no harm.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

from grid.core.conf import conf
from grid.core.contents.store import get_store
from grid.core.ending import lost, returned
from grid.core.models import Attempt, Blob, Lock, Node, Task
from tasks.errors import GridError, NotFound
from tasks.model import Record
from tasks.states import AttemptState
from tasks.verdicts import Verdict

FORMAT = 1
MANIFEST = "backup.json"
SQLITE_FILE = "grid.sqlite3"
POSTGRES_FILE = "grid.pgdump"
BLOCK_BYTES = 1024**2
RESTORED = "the grid was restored from a back-up that was made while this attempt was under way"


class BackupError(GridError):
    """The back-up cannot be made or restored as asked; the text says why."""


class Manifest(Record):
    """What a back-up holds. ``with_blobs`` is false where the operator keeps the bucket by other means."""

    format: int = FORMAT
    made_at: datetime
    vendor: str
    migrations: tuple[str, ...]
    with_blobs: bool
    tasks: int
    blobs: int
    bytes: int


# ------------------------------------------------------------------------------------------------------------- back-up
def back_up(folder: Path, now: datetime, *, blobs: bool = True, earlier: Path | None = None) -> Manifest:
    """Write a back-up into ``folder``, which must not be there yet; it appears under its name when it is complete.

    Blobs that ``earlier``, a back-up on the same disk, has are linked instead of copied. Raises BackupError, OSError.
    """
    if folder.exists():
        raise BackupError(f"{folder} is there already; name a new folder for each back-up")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700, parents=True)
    _write_private(partial / "secret_key", settings.SECRET_KEY)
    migrations = tuple(sorted(f"{app}.{name}" for app, name in MigrationRecorder(connection).applied_migrations()))
    if connection.vendor == "sqlite":
        _copy_sqlite(partial / SQLITE_FILE)
    else:
        _dump_postgres(partial / POSTGRES_FILE)
    rows = list(Blob.objects.order_by("sha256").values_list("sha256", "size")) if blobs else []
    for sha256, size in rows:
        _keep_blob(partial / "blobs" / sha256[:2] / sha256[2:], sha256, size, earlier)
    _copy_logs(conf().dir / "logs", partial / "logs")
    manifest = Manifest(
        made_at=now,
        vendor=connection.vendor,
        migrations=migrations,
        with_blobs=blobs,
        tasks=Task.objects.count(),
        blobs=len(rows),
        bytes=sum(size for _, size in rows),
    )
    (partial / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
    _sync_all(partial)
    partial.rename(folder)
    return manifest


def _copy_sqlite(target: Path) -> None:
    """SQLite's own online copy: those who write meanwhile go on, and what they write is not in it."""
    connection.ensure_connection()
    source: sqlite3.Connection = connection.connection
    with closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
        [(word,)] = copy.execute("PRAGMA quick_check").fetchall()
        # A file of its own, without the log of writes that only a running server needs.
        copy.execute("PRAGMA journal_mode=DELETE")
    if word != "ok":
        raise BackupError(f"the copy of the database is damaged: {word}; is the disk well?")


def _dump_postgres(target: Path) -> None:
    _postgres("pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={target}")


def _postgres(program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs on the server's database; the password is in no list of processes."""
    given = settings.DATABASES["default"]
    names = {"PGHOST": "HOST", "PGPORT": "PORT", "PGUSER": "USER", "PGPASSWORD": "PASSWORD", "PGDATABASE": "NAME"}
    environment = {name: str(given[key]) for name, key in names.items() if given.get(key)}
    command = [program, "--no-password", *arguments]
    try:
        done = subprocess.run(
            command, env=os.environ | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise BackupError(f"{program} is not installed here: apt-get install postgresql-client") from None
    if done.returncode:
        raise BackupError(f"{program} failed: {done.stderr.strip()[-1000:]}")


def _keep_blob(target: Path, sha256: str, size: int, earlier: Path | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    known = None if earlier is None else earlier / "blobs" / sha256[:2] / sha256[2:]
    if known is not None and known.exists() and known.stat().st_size == size:
        target.hardlink_to(known)
        return
    try:
        with closing(get_store().open(sha256)) as source, target.open("xb") as file:
            shutil.copyfileobj(source, file, BLOCK_BYTES)
    except NotFound as error:
        if not Blob.objects.filter(sha256=sha256).exists():
            return  # what it belonged to was old enough to be deleted meanwhile
        raise BackupError(f"{error}, though the database names it: the store has lost it") from error


def _copy_logs(source: Path, target: Path) -> None:
    """Logs grow while they are copied; what they have by then is what the back-up has."""
    target.mkdir(exist_ok=True)
    for path in sorted(source.glob("*/*")):
        (target / path.parent.name).mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # deleted meanwhile, for its age
            shutil.copy2(path, target / path.parent.name / path.name)


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _sync_all(folder: Path) -> None:
    """Have the kernel write everything to the disk before the back-up is called complete."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    os.sync()


# ------------------------------------------------------------------------------------------------------------- restore
def restore(folder: Path, now: datetime) -> Manifest:
    """Make the grid of a back-up anew, on a server that has nothing yet and does not run.

    What was under way is tried again, nodes have to join anew, and no dispatcher has the role. Raises BackupError.
    """
    manifest = read_manifest(folder)
    key = (folder / "secret_key").read_text().strip()
    _refuse_unfit(manifest, key)
    if manifest.vendor == "sqlite":
        _place_sqlite(folder / SQLITE_FILE)
    else:
        options = ("--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction")
        name = str(settings.DATABASES["default"]["NAME"])
        _postgres("pg_restore", *options, f"--dbname={name}", str(folder / POSTGRES_FILE))
    for path in _files(folder / "blobs"):
        with path.open("rb") as file:
            get_store().put(_blocks(file), f"{path.parent.name}{path.name}")
    _copy_logs(folder / "logs", _made(conf().dir / "logs"))
    if not conf().secret_key:
        _write_private(conf().dir / "secret_key", key)
    call_command("migrate", interactive=False, verbosity=0)
    _begin_anew(now)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """What the back-up says of itself; raises BackupError when there is none, or one of a later version."""
    try:
        said = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise BackupError(f"{folder} is no complete back-up ({error})") from error
    if said.get("format") != FORMAT:
        raise BackupError(f"the back-up has the format {said.get('format')}, this version reads {FORMAT}")
    return Manifest.model_validate(said)


def _refuse_unfit(manifest: Manifest, key: str) -> None:
    if manifest.vendor != connection.vendor:
        words = f"the back-up is of {manifest.vendor}, GRID_DATABASE_URL is of {connection.vendor}"
        raise BackupError(f"{words}; restore it there where it is from")
    if connection.introspection.table_names():
        raise BackupError("there is a grid in this database; a back-up is restored into an empty one only")
    if conf().secret_key and conf().secret_key != key:
        raise BackupError("GRID_SECRET_KEY is not that of the back-up (its file secret_key): stored secrets need it")
    known = {f"{app}.{name}" for app, name in MigrationExecutor(connection).loader.disk_migrations}
    if unknown := sorted(set(manifest.migrations) - known):
        raise BackupError(f"the back-up is of a later version ({unknown[0]} is not known here); install that one")


def _place_sqlite(source: Path) -> None:
    target = Path(str(settings.DATABASES["default"]["NAME"]))
    connection.close()
    # Looking whether it is empty has made a file without tables, and its log.
    for path in (target, target.with_name(f"{target.name}-wal"), target.with_name(f"{target.name}-shm")):
        path.unlink(missing_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o600)


def _begin_anew(now: datetime) -> None:
    """Nobody who held something in the grid that was backed up holds it in this one."""
    Lock.objects.update(until=None)
    Node.objects.update(session="", lease_until=None, ready=False)
    for attempt in Attempt.objects.exclude(state=AttemptState.ENDED).select_related("task", "node"):
        if attempt.state == AttemptState.ASSIGNED:
            returned(attempt, RESTORED, now, Verdict.HANDED_BACK)
        else:
            lost(attempt, RESTORED, now, Verdict.HANDED_BACK)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*/*")) if path.is_file())


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
