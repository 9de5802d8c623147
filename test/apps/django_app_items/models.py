from django.contrib.postgres.indexes import PostgresIndex
from django.db import models


class VectorField(models.Field):
    def __init__(self, *args, dimensions=None, **options):
        self.dimensions = dimensions
        super().__init__(*args, **options)

    def deconstruct(self):
        name, path, arguments, options = super().deconstruct()
        return name, path, arguments, {**options, "dimensions": self.dimensions}

    def db_type(self, connection):
        return f"vector({self.dimensions})"

    def get_prep_value(self, value):
        return None if value is None else "[" + ",".join(map(str, value)) + "]"

    def from_db_value(self, text, expression, connection):
        return None if text is None else [float(x) for x in text[1:-1].split(",")]


class Distance(models.Func):
    output_field = models.FloatField()

    def __init__(self, query, **options):
        text = "[" + ",".join(map(str, query)) + "]"
        super().__init__(models.F("embedding"), models.Value(text), **{"arg_joiner": self.operator, **options})

    template = "%(expressions)s"


class L2Distance(Distance):
    operator = " <-> "


class CosineDistance(Distance):
    operator = " <=> "


class HnswIndex(PostgresIndex):
    suffix = "hnsw"

    def __init__(self, *, m=None, ef_construction=None, **options):
        self.m = m
        self.ef_construction = ef_construction
        super().__init__(**options)

    def deconstruct(self):
        path, arguments, options = super().deconstruct()
        return path, arguments, {**options, "m": self.m, "ef_construction": self.ef_construction}

    def get_with_params(self):
        return [f"m = {self.m}", f"ef_construction = {self.ef_construction}"]


class Item(models.Model):
    category = models.TextField(db_index=True)
    name = models.TextField()
    price = models.IntegerField(default=0)
    embedding = VectorField(dimensions=8, null=True)

    class Meta:
        app_label = "django_app_items"
        db_table = "items"
        indexes = [HnswIndex(name="items_embedding", fields=["embedding"], m=16, ef_construction=64,
                             opclasses=["vector_l2_ops"])]
