"""Deliveries of one state, such as those that failed, are found without a walk over all the others."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("core", "0012_queue_index_looked_up")]

    operations = [
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(fields=["state", "-id"], name="delivery_state"),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(fields=["owner", "state", "-id"], name="delivery_owner_state"),
        ),
    ]
