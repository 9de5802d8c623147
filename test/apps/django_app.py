"""Django 3.2 with psycopg2, vector as a custom field; Django's own migrations."""

import django
from app import database_url, load, report
from django.conf import settings
from psycopg2.extensions import parse_dsn

place = parse_dsn(database_url)
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": place["dbname"], "USER": place["user"],
                           "HOST": place["host"], "PORT": place["port"]}},
    INSTALLED_APPS=["django_app_items"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.core.management import call_command  # noqa: E402  needs setup()
from django.db import IntegrityError, connection, transaction  # noqa: E402
from django.db.models import F, Sum  # noqa: E402
from django_app_items.models import CosineDistance, Item, L2Distance  # noqa: E402


def nearest(query, limit, **filters):
    found = Item.objects.filter(**filters).annotate(distance=L2Distance(query)).order_by("distance")[:limit]
    return [[item.id, item.distance] for item in found]


def main():
    data = load()
    query = data["query"]
    call_command("migrate", "django_app_items", "0002", verbosity=0)
    items = Item.objects.bulk_create(Item(**row) for row in data["items"])
    report("ids", [item.id for item in items])
    item = Item.objects.get(pk=7)
    report("loaded", [item.name, item.embedding])
    report("nearest", nearest(query, 10))
    found = Item.objects.annotate(distance=CosineDistance(query)).order_by("distance")[:5]
    report("cosine", [[item.id, item.distance] for item in found])
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL hnsw.iterative_scan = 'strict_order'")
        report("filtered", nearest(query, 5, category="b", price__lt=50))
    report("updated", Item.objects.filter(category="a").update(price=F("price") + 100))
    item = Item.objects.get(pk=3)
    item.embedding = query
    item.save()
    report("total", Item.objects.aggregate(total=Sum("price"))["total"])
    report("nearest_updated", nearest(query, 1))
    for row in data["upsert"]:  # Django 3.2 has no ON CONFLICT DO UPDATE: it locks the row, then updates or inserts
        Item.objects.update_or_create(id=row["id"], defaults=row)
    ids = [row["id"] for row in data["upsert"]]
    report("upserted", [list(row) for row in Item.objects.filter(id__in=ids).order_by("id").values_list("id", "name", "price")])
    report("deleted", Item.objects.filter(category="c").delete()[0])
    try:
        with transaction.atomic():
            Item.objects.create(**data["new"])
            Item.objects.filter(category="a").delete()
            report("inside", Item.objects.count())
            raise InterruptedError
    except InterruptedError:
        report("rolled_back", Item.objects.count())
    try:
        Item.objects.create(**data["upsert"][0])
    except IntegrityError as error:
        report("duplicate", [error.__cause__.pgcode, error.__cause__.diag.constraint_name])
    call_command("migrate", "django_app_items", "0003", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(rating) FROM items")
        report("ratings", cursor.fetchone()[0])


main()
