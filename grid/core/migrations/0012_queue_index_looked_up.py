"""PostgreSQL looks up by all columns of the index of the queue, instead of walking it for each demand."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("core", "0011_kolejka")]

    operations = [
        migrations.RemoveIndex(model_name="task", name="task_queued"),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("state", "queued"), ("state", "waiting"), _connector="OR"),
                fields=["state", "demand", "id"],
                name="task_queued",
            ),
        ),
    ]
