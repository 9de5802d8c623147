"""Random SELECTs over {items} and labels (see test_reads.py)."""

import random


class QueryGenerator:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def query(self):
        """A query and whether its rows have a complete order."""
        return self.random.choice([self.rows, self.rows, self.nearest, self.nearest, self.grouped,
                                   self.joined, self.nested, self.lateral, self.set_operation])()

    # ------------------------------------------------------------------ pieces
    def point(self):
        return "'[%d,%d,%d]'" % tuple(self.random.randrange(110) for _ in range(3))

    def condition(self, alias="i", depth=0):
        choose = self.random
        number = choose.randrange(1000)
        kinds = [
            f"{alias}.id = {number}",
            f"{alias}.id in ({number}, {number // 2}, {number // 3})",
            f"{alias}.id between {number} and {number + choose.randrange(300)}",
            f"{alias}.id % {choose.randrange(2, 9)} = 1",
            f"{alias}.category = 'cat{choose.randrange(9)}'",
            f"{alias}.category > 'cat{choose.randrange(7)}'",
            f"{alias}.category like '%{choose.randrange(7)}'",
            f"{alias}.price {choose.choice(['<', '>', '<=', '>=', '<>'])} {choose.randrange(100)}",
            f"{alias}.price is {choose.choice(['', 'not '])}null",
            f"{alias}.embedding is {choose.choice(['', 'not '])}null",
            f"{alias}.embedding <-> {self.point()} < {choose.randrange(20, 120)}",
            f"vector_dims({alias}.embedding) = 3",
            f"{alias}.tags @> array['t{choose.randrange(5)}']",
            f"'t{choose.randrange(5)}' = any ({alias}.tags)",
            f"{alias}.payload ->> 'k' = '{choose.randrange(10)}'",
            f"{alias}.ts < timestamptz '2024-01-01' + interval '{choose.randrange(1000)} hours'",
            f"extract(day from {alias}.ts) = {choose.randrange(1, 29)}",
            f"coalesce({alias}.price, 0) > {choose.randrange(100)}",
            f"case when {alias}.price > 50 then {alias}.id > {number} else {alias}.id < {number} end",
            f"{alias}.id = (select max(weight) from labels)",
            f"{alias}.category in (select category from labels where weight > {choose.randrange(9)})",
            f"exists (select 1 from labels l where l.category = {alias}.category and l.weight < {choose.randrange(9)})",
            "now() > timestamptz '2020-01-01'",
            f"{alias}.id > (random() * 0)::int",
        ]
        if depth < 2 and choose.random() < 0.3:
            parts = [self.condition(alias, depth + 1) for _ in range(choose.randrange(2, 4))]
            return "(" + choose.choice([" and ", " or "]).join(parts) + ")"
        condition = choose.choice(kinds)
        return f"not ({condition})" if choose.random() < 0.1 else condition

    def where(self, alias="i"):
        if self.random.random() < 0.2:
            return ""
        count = self.random.choice([1, 1, 2, 3])
        return " where " + " and ".join(self.condition(alias) for _ in range(count))

    def limit(self):
        if self.random.random() < 0.3:
            return ""
        text = f" limit {self.random.choice([0, 1, 3, 10, 50, 2000])}"
        if self.random.random() < 0.3:
            text += f" offset {self.random.choice([0, 1, 7, 400])}"
        return text

    def columns(self, alias="i"):
        expressions = ["id", "category", "price", "embedding", "ts", "tags", "payload"]
        extras = [f"{alias}.id * 2", f"upper({alias}.category)", f"{alias}.embedding <-> {self.point()}",
                  f"{alias}.embedding <=> {self.point()}", f"{alias}.embedding is null", f"{alias}.price / 2",
                  f"coalesce({alias}.tags[1], 'none')", f"{alias}.payload -> 'k'"]
        chosen = [f"{alias}.{name}" for name in self.random.sample(expressions, self.random.randrange(1, 4))]
        chosen += self.random.sample(extras, self.random.randrange(0, 3))
        return ", ".join(chosen)

    def order(self, alias="i"):
        """Always complete: the key comes last."""
        keys = [f"{alias}.price", f"{alias}.category", f"{alias}.ts", f"{alias}.embedding <-> {self.point()}",
                f"{alias}.embedding <+> {self.point()}", f"{alias}.id % 7", f"lower({alias}.category)"]
        chosen = self.random.sample(keys, self.random.randrange(0, 3))
        directions = ["", " desc", " nulls first", " desc nulls last"]
        return ", ".join([key + self.random.choice(directions) for key in chosen]
                         + [f"{alias}.id" + self.random.choice(["", " desc"])])

    # ------------------------------------------------------------------ queries
    def rows(self):
        if self.random.random() < 0.3:
            return f"select {self.columns()} from {{items}} i{self.where()}", False
        return f"select {self.columns()} from {{items}} i{self.where()} order by {self.order()}{self.limit()}", True

    def nearest(self):
        operator = self.random.choice(["<->", "<#>", "<=>", "<+>"])
        distance = f"i.embedding {operator} {self.point()}"
        shown = f", {distance} as d" if self.random.random() < 0.5 else ""
        return (f"select i.id{shown} from {{items}} i{self.where()} order by {distance}, i.id{self.limit()}", True)

    def grouped(self):
        key = self.random.choice(["i.category", "i.id % 5", "i.price is null", "i.tags[1]"])
        what = self.random.choice(["count(*)", "count(i.price)", "min(i.id), max(i.id)", "sum(i.id)",
                                   "count(distinct i.category)", "max(i.price)",
                                   "count(*) filter (where i.price > 30)"])
        having = self.random.choice(["", "", f" having count(*) > {self.random.randrange(200)}"])
        return f"select {key}, {what} from {{items}} i{self.where()} group by 1{having} order by 1", True

    def joined(self):
        kind = self.random.choice(["join", "left join", "right join", "full join"])
        return (f"select i.id, l.label from {{items}} i {kind} labels l on l.category = i.category"
                f"{self.where()}", False)

    def nested(self):
        inner = f"select * from {{items}} i{self.where()} order by {self.order()}{self.limit()}"
        if self.random.random() < 0.5:
            return f"select {self.columns('s')} from ({inner}) s{self.where('s')} order by {self.order('s')}", True
        return (f"with s as {self.random.choice(['', 'materialized '])}({inner}) "
                f"select s.category, count(*) from s{self.where('s')} group by 1 order by 1", True)

    def lateral(self):
        return (f"select l.label, n.id from labels l, lateral (select i.id from {{items}} i "
                f"where i.category = l.category order by {self.order()} limit {self.random.randrange(1, 5)}) n "
                f"order by 1, 2", True)

    def set_operation(self):
        operator = self.random.choice(["union", "union all", "except", "intersect"])
        return (f"select i.id, i.category from {{items}} i{self.where()} {operator} "
                f"select i.id, i.category from {{items}} i{self.where()} order by 1, 2{self.limit()}", True)
