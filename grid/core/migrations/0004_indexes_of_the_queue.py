"""Indexes that SQLite chooses also without statistics, so that no look at the queue grows with its length."""

from __future__ import annotations

from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("core", "0003_attempt_memory_and_decision"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="task",
            name="task_queue",
        ),
        migrations.RemoveIndex(
            model_name="task",
            name="task_waiting",
        ),
        migrations.RemoveIndex(
            model_name="task",
            name="task_expires",
        ),
        migrations.AddIndex(
            model_name="attempt",
            index=models.Index(fields=["state", "node"], name="attempt_state"),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("state", "queued")), fields=["state", "demand", "id"], name="task_queued"
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("not_before__isnull", False)), fields=["state", "not_before"], name="task_delayed"
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("expires_at__isnull", False)), fields=["state", "expires_at"], name="task_expiring"
            ),
        ),
    ]
