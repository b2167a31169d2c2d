"""Makes a site with kolejka's own server: its database by its own migrations, accounts, files, tasks, results.

Runs in the environment of kolejka's packages: ``make_site.py FOLDER``. Prints what it made as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

PASSWORD = "a password of before"


def settings(folder: Path) -> None:
    """kolejka's settings with a database and blobs in the folder."""
    from kolejka.server import settings as stock

    site = ModuleType("site_settings")
    site.__dict__.update({name: value for name, value in vars(stock).items() if name.isupper()})
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "site.sqlite3")}
    site.__dict__.update(DATABASES={"default": database}, BLOB_STORE_PATH=str(folder / "blobs"), SECRET_KEY="x")
    site.__dict__.update(DEFAULT_AUTO_FIELD="django.db.models.AutoField")
    sys.modules["site_settings"] = site
    os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"


def make() -> dict[str, Any]:
    """The rows of the site."""
    import django
    from django.core.management import call_command

    django.setup()
    for _ in range(2):  # its groups are made after a migration before which the permissions were written
        call_command("migrate", verbosity=0)
    from django.contrib.auth.models import Group, User

    ada = User.objects.create_user("old-ada", "ada@host.example", PASSWORD, first_name="Ada")
    ada.groups.add(Group.objects.get(name="Clients"))
    node = User.objects.create_user("old-node", password=PASSWORD)
    node.groups.add(Group.objects.get(name="Processors"))
    Group.objects.create(name="teachers")
    taken, brought = reference(ada, b"3 4\n"), reference(ada, b"Linux\n")
    lost = reference(ada, b"gone", lost=True)
    described = {
        "image": "ubuntu",
        "args": ["uname"],
        "limits": {"memory": "67108864b", "time": "2.0s", "cpus": 1},
        "files": {"in.txt": {"reference": taken.key}},
        "stdout": "stdout.txt",
    }
    ended = {"result": 0, "stats": {"time": "0.4s", "cpu": {"usage": "0.2s"}}, "stdout": "stdout.txt"}
    killed = {"result": 137, "stats": {"time": "2.7s"}}
    keys = [task(ada, node, described, (taken, brought), result) for result in (ended, killed)]
    keys.append(task(ada, node, {"image": "busybox:local", "args": ["uname"]}))
    keys.append(task(ada, node, "no task", (), {}))
    return {"password": PASSWORD, "tasks": keys, "taken": taken.key, "brought": brought.key, "lost": lost.key}


def reference(owner: Any, content: bytes, *, lost: bool = False) -> Any:
    """A reference to a content, whose file is not there when it is ``lost``."""
    from kolejka.server.blob.models import Blob, Reference

    key = hashlib.sha256(content).hexdigest()
    blob, _ = Blob.objects.get_or_create(key=key, size=len(content))
    if not lost:
        Path(blob.store_path).write_bytes(content)
    return Reference.objects.create(user=owner, blob=blob)


def task(
    owner: Any, node: Any, described: object, files: tuple[Any, ...] = (), result: dict[str, object] | None = None
) -> str:
    """The key of a new task: it takes the first of the files, and its result brings the second."""
    from kolejka.server.task.models import Result, Task

    made = Task.objects.create(user=owner, description=json.dumps(described))
    made.files.add(*files[:1])
    if result is not None:
        made.assignee, made.time_assign = node, made.time_create
        made.save()
        brought = {"stdout.txt": {"reference": files[1].key}} if files else {}
        text = json.dumps({"id": made.key, "tags": ["hostname:old", "cpu:amd"], "files": brought, **result})
        Result.objects.create(task=made, user=node, description=text).files.add(*files[1:])
    return str(made.key)


if __name__ == "__main__":
    where = Path(sys.argv[1])
    settings(where)
    json.dump(make(), sys.stdout)
