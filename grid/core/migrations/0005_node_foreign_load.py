"""Nodes tell what others than the grid use of what they offer."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("core", "0004_indexes_of_the_queue")]

    operations = [
        migrations.AddField(model_name="node", name="foreign_cpus", field=models.FloatField(default=0.0)),
        migrations.AddField(model_name="node", name="foreign_memory", field=models.BigIntegerField(default=0)),
    ]
