import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("core", "0008_log_in"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="CpuSlice",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
                ("seconds", models.FloatField(default=0.0)),
                (
                    "owner",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["at", "owner", "seconds"], name="cpu_slice_at")],
                "constraints": [models.UniqueConstraint(fields=("owner", "at"), name="cpu_slice_once")],
            },
        ),
        migrations.CreateModel(
            name="NodeSample",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
                ("looks", models.PositiveSmallIntegerField()),
                ("online", models.FloatField()),
                ("ready", models.FloatField()),
                ("running", models.FloatField()),
                ("cpus", models.FloatField()),
                ("memory", models.FloatField()),
                ("others", models.FloatField()),
                (
                    "node",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="samples",
                        to="core.node",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["at"], name="node_sample_at")],
                "constraints": [models.UniqueConstraint(fields=("node", "at"), name="node_sample_once")],
            },
        ),
    ]
