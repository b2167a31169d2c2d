import django.db.models.deletion
from django.apps.registry import Apps
from django.conf import settings
from django.db import migrations, models

import grid.core.ids


def let_processors_work(apps: Apps, schema_editor: object) -> None:
    """Groups that are there keep what operators made of them; what this version invents is given to Processors here."""
    group = apps.get_model("auth", "Group").objects.filter(name="Processors").first()
    if group is None:
        return
    kind, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(app_label="core", model="attempt")
    permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
        codename="add_attempt", content_type=kind, defaults={"name": "Can add attempt"}
    )
    group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [
        ("core", "0010_likeness_of_tasks"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="OlderKey",
            fields=[
                ("key", models.CharField(max_length=64, primary_key=True, serialize=False)),
                (
                    "task",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, related_name="older_key", to="core.task"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Reference",
            fields=[
                (
                    "key",
                    models.CharField(default=grid.core.ids.new_id, max_length=64, primary_key=True, serialize=False),
                ),
                ("public", models.BooleanField(default=False)),
                ("created_at", models.DateTimeField()),
                ("accessed_at", models.DateTimeField()),
                (
                    "blob",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="references", to="core.blob"
                    ),
                ),
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
        ),
        migrations.RunPython(let_processors_work, migrations.RunPython.noop),
    ]
