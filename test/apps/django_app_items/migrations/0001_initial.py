from django.contrib.postgres.operations import CreateExtension
from django.db import migrations, models
from django_app_items.models import HnswIndex, VectorField


class Migration(migrations.Migration):
    operations = [
        CreateExtension("vector"),
        migrations.CreateModel("Item", [
            ("id", models.BigAutoField(primary_key=True, serialize=False)),
            ("category", models.TextField(db_index=True)),
            ("name", models.TextField()),
            ("price", models.IntegerField(default=0)),
            ("embedding", VectorField(dimensions=8, null=True)),
        ], options={"db_table": "items"}),
        migrations.AddIndex("item", HnswIndex(name="items_embedding", fields=["embedding"], m=16, ef_construction=64,
                                              opclasses=["vector_l2_ops"])),
    ]
