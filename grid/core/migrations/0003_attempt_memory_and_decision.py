"""Attempts keep the memory that they were given, and why their task was, or was not, tried again."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("core", "0002_node_mode")]

    operations = [
        migrations.AddField(model_name="attempt", name="memory_bytes", field=models.BigIntegerField(null=True)),
        migrations.AddField(model_name="attempt", name="decision", field=models.TextField(default="")),
    ]
