from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("django_app_items", "0002_distribute")]
    operations = [migrations.AddField("item", "rating", models.IntegerField(default=3))]
