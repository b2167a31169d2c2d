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


def make(folder: Path) -> dict[str, Any]:
    """The rows of the site."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    # Its groups are made after a migration of which the permissions have been written.
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import Group, User
    from kolejka.server.blob.models import Blob, Reference
    from kolejka.server.task.models import Result, Task

    ada = User.objects.create_user("old-ada", "ada@host.example", PASSWORD, first_name="Ada")
    ada.groups.add(Group.objects.get(name="Clients"))
    node = User.objects.create_user("old-node", password=PASSWORD)
    node.groups.add(Group.objects.get(name="Processors"))
    Group.objects.create(name="teachers")

    def reference(content: bytes, *, lost: bool = False) -> Any:
        key = hashlib.sha256(content).hexdigest()
        blob, _ = Blob.objects.get_or_create(key=key, size=len(content))
        if not lost:
            Path(blob.store_path).write_bytes(content)
        return Reference.objects.create(user=ada, blob=blob)

    taken, brought, lost = reference(b"3 4\n"), reference(b"Linux\n"), reference(b"gone", lost=True)
    described = {
        "image": "ubuntu",
        "args": ["uname"],
        "limits": {"memory": "67108864b", "time": "2.0s", "cpus": 1},
        "files": {"in.txt": {"reference": taken.key}},
        "stdout": "stdout.txt",
    }
    tasks = [Task.objects.create(user=ada, description=json.dumps(described)) for _ in range(4)]
    for task in tasks[:2]:
        task.files.add(taken)
    results = [
        {"result": 0, "stats": {"time": "0.4s", "cpu": {"usage": "0.2s"}}, "stdout": "stdout.txt"},
        {"result": 137, "stats": {"time": "2.7s"}},
    ]
    for task, found in zip(tasks[:2], results, strict=True):
        files = {"stdout.txt": {"reference": brought.key}}
        text = json.dumps({"id": task.key, "tags": ["hostname:old", "cpu:amd"], "files": files, **found})
        result = Result.objects.create(task=task, user=node, description=text)
        result.files.add(brought)
        task.assignee, task.time_assign = node, task.time_create
        task.save()
    plain = {name: value for name, value in described.items() if name != "files"}
    Task.objects.filter(pk=tasks[2].pk).update(description=json.dumps({**plain, "image": "busybox:local"}))
    Task.objects.filter(pk=tasks[3].pk).update(description="{")
    Result.objects.create(task=tasks[3], description="{}")
    return {
        "password": PASSWORD,
        "tasks": [task.key for task in tasks],
        "taken": taken.key,
        "brought": brought.key,
        "lost": lost.key,
    }


if __name__ == "__main__":
    where = Path(sys.argv[1])
    settings(where)
    json.dump(make(where), sys.stdout)
