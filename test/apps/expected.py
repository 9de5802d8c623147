"""The data that every program works on, and what it must report, computed here without a database."""

import math
import random

DIMENSIONS = 8
ITEMS = 300


def data():
    random_numbers = random.Random(6)

    def vector():
        return [round(random_numbers.uniform(-4, 4), 3) for _ in range(DIMENSIONS)]

    items = [{"category": random_numbers.choice("abc"), "name": f"item {i}: 'ä\\\"", "price": random_numbers.randrange(100),
              "embedding": vector()} for i in range(1, ITEMS + 1)]
    query, added = vector(), vector()
    new = {"category": "b", "name": "new", "price": 5, "embedding": added}
    kept, item = next((id, item) for id, item in enumerate(items, start=1) if item["category"] == "b")
    return {
        "items": items,
        "query": query,
        "upsert": [{**item, "id": kept, "name": "changed", "price": 1000}, {**new, "id": ITEMS + 1}],
        "new": {**new, "id": ITEMS + 2},
    }


def l2(a, b):
    return math.dist(a, b)


def cosine(a, b):
    return 1 - sum(x * y for x, y in zip(a, b)) / math.hypot(*a) / math.hypot(*b)


def nearest(rows, query, limit, distance=l2):
    """[[id, distance], ...] of the nearest of {id: row}."""
    found = sorted([distance(row["embedding"], query), id] for id, row in rows.items())
    return [[id, d] for d, id in found[:limit]]


def expected(data):
    """What a program must report, in this order; see README.md for the steps."""
    query = data["query"]
    rows = {i: dict(row) for i, row in enumerate(data["items"], start=1)}
    steps = {"ids": list(rows), "loaded": [rows[7]["name"], rows[7]["embedding"]]}
    steps["nearest"] = nearest(rows, query, 10)
    steps["cosine"] = nearest(rows, query, 5, cosine)
    cheap = {i: row for i, row in rows.items() if row["category"] == "b" and row["price"] < 50}
    steps["filtered"] = nearest(cheap, query, 5)
    changed = [row for row in rows.values() if row["category"] == "a"]
    for row in changed:
        row["price"] += 100
    rows[3]["embedding"] = query
    steps["updated"] = len(changed)
    steps["total"] = sum(row["price"] for row in rows.values())
    steps["nearest_updated"] = [[3, 0.0]]
    for row in data["upsert"]:
        rows[row["id"]] = row
    steps["upserted"] = [[row["id"], row["name"], row["price"]] for row in data["upsert"]]
    steps["deleted"] = sum(row["category"] == "c" for row in rows.values())
    left = {i: row for i, row in rows.items() if row["category"] != "c"}
    steps["inside"] = 1 + sum(row["category"] == "b" for row in left.values())
    steps["rolled_back"] = len(left)
    steps["duplicate"] = ["23505", "items_pkey"]
    steps["ratings"] = 3 * len(left)
    return steps
