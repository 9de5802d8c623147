import os

from django.db import migrations


class Migration(migrations.Migration):
    """The one change that makes the app distributed."""

    dependencies = [("django_app_items", "0001_initial")]
    operations = [migrations.RunSQL("SELECT panvel.create_distributed_table('items', 'id')")] if "DISTRIBUTE" in os.environ else []
