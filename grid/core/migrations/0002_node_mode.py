"""What an operator lets a node do becomes a state with who, when and why; nodes can be removed."""

from __future__ import annotations

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def _drained_to_draining(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    nodes = apps.get_model("core", "Node").objects
    nodes.filter(drained=True).update(mode="draining")  # type: ignore[misc]  # mypy knows only its successor


def _draining_to_drained(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    nodes = apps.get_model("core", "Node").objects
    nodes.exclude(mode="open").update(drained=True)  # type: ignore[misc]


class Migration(migrations.Migration):
    dependencies = [("core", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="node",
            name="mode",
            field=models.CharField(
                choices=[("open", "open"), ("cordoned", "cordoned"), ("draining", "draining")],
                default="open",
                max_length=10,
            ),
        ),
        migrations.AddField(model_name="node", name="mode_by", field=models.CharField(default="", max_length=150)),
        migrations.AddField(model_name="node", name="mode_at", field=models.DateTimeField(null=True)),
        migrations.AddField(model_name="node", name="mode_reason", field=models.CharField(default="", max_length=500)),
        migrations.AddField(model_name="node", name="drain_until", field=models.DateTimeField(null=True)),
        migrations.AddField(model_name="node", name="removed_at", field=models.DateTimeField(null=True)),
        migrations.RunPython(_drained_to_draining, _draining_to_drained),
        migrations.RemoveField(model_name="node", name="drained"),
    ]
