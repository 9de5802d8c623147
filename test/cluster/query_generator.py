"""Random SELECTs over {items}, {reviews} of the same keys, {categories} (a reference table), and the local
table labels (see test_reads.py)."""

import random
import re

from shard_generator import ShardQueries


class QueryGenerator(ShardQueries):
    def __init__(self, seed):
        self.random = random.Random(seed)

    def query(self):
        """A query and whether its rows have a complete order."""
        return self.random.choice([self.rows, self.rows, self.nearest, self.nearest, self.grouped,
                                   self.joined, self.nested, self.lateral, self.set_operation,
                                   self.colocated, self.colocated, self.colocated, self.several,
                                   self.lateral_join, self.windowed, self.locked,
                                   self.shard_query, self.shard_query, self.shard_query, self.shard_query])()

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

    # ------------------------------------------------------------------ joins that the nodes can do
    def review_condition(self, alias="r"):
        choose = self.random
        return choose.choice([
            f"{alias}.stars {choose.choice(['<', '>', '=', '<>'])} {choose.randrange(5)}",
            f"{alias}.stars is {choose.choice(['', 'not '])}null",
            f"{alias}.n % 2 = {choose.randrange(2)}",
            f"{alias}.item = {choose.randrange(1000)}",
            f"{alias}.item in ({choose.randrange(1000)}, {choose.randrange(1000)})",
            f"{alias}.body like '%{choose.randrange(9)}'",
        ])

    def category_condition(self, alias="c"):
        choose = self.random
        return choose.choice([
            f"{alias}.weight {choose.choice(['<', '>', '<='])} {choose.randrange(10)}",
            f"{alias}.parent is {choose.choice(['', 'not '])}null",
            f"{alias}.name > 'cat{choose.randrange(9)}'",
        ])

    def join_kind(self, kinds=("join", "join", "left join", "right join", "full join")):
        return self.random.choice(kinds)

    def join_step(self, known):
        """Joins one more relation to the aliases `known`; returns its alias and text."""
        choose = self.random
        alias = "r" if "r" not in known and choose.random() < 0.6 else "c" if "c" not in known else "p"
        if alias == "r":
            on = "r.item = i.id" if choose.random() < 0.9 else "r.item = i.id % 60"
            extra = self.review_condition()
            table = "{reviews} r"
        else:
            on = "c.name = i.category" if alias == "c" else f"p.name = {choose.choice(['c.parent', 'i.category'])}"
            if alias == "p" and "c" not in known:
                on = "p.name = i.category"
            extra = self.category_condition(alias)
            table = "{categories} " + alias
        kind = self.join_kind()
        if choose.random() < 0.3 and kind != "full join":
            on += f" and {extra}"
        return alias, f" {kind} {table} on {on}"

    def join_tree(self, steps):
        known, text = ["i"], "{items} i"
        for _ in range(steps):
            alias, step = self.join_step(known)
            if alias in known:
                break
            known.append(alias)
            text += step
        return known, text

    def join_where(self, known):
        conditions = []
        if self.random.random() < 0.6:
            conditions.append(self.condition("i", 1))
        if "r" in known and self.random.random() < 0.3:
            conditions.append(self.review_condition())
        if "c" in known and self.random.random() < 0.3:
            conditions.append(self.category_condition())
        if self.random.random() < 0.2:
            conditions.append(self.random.choice(["", "not "]) + "exists (select from {reviews} x where x.item = i.id"
                              + self.random.choice(["", " and " + self.review_condition("x")]) + ")")
        if self.random.random() < 0.1:
            conditions.append(f"i.category in (select y.name from {{categories}} y where {self.category_condition('y')})")
        return " where " + " and ".join(conditions) if conditions else ""

    KEYS = {"i": ["i.id"], "r": ["r.item", "r.n"], "c": ["c.name"], "p": ["p.name"]}

    def colocated(self):
        known, tree = self.join_tree(self.random.choice([1, 1, 2, 3]))
        where = self.join_where(known)
        keys = [key for alias in known for key in self.KEYS[alias]]
        if self.random.random() < 0.3:
            what = self.random.choice(["count(*)", "count(i.price)", "max(i.price)", "min(i.id), count(distinct i.category)"])
            if "r" in known:
                what += self.random.choice(["", ", sum(r.stars)", ", avg(r.stars)", ", max(r.body)"])
            group = self.random.choice(["i.category", "i.id % 5", "i.category is null"])
            return f"select {group}, {what} from {tree}{where} group by 1 order by 1", True
        more = self.random.sample(["i.price", "i.category", f"i.embedding <-> {self.point()}", "i.tags", "i.embedding"],
                                  self.random.randrange(3))
        columns = ", ".join(keys + more)
        if self.random.random() < 0.5:
            return f"select {columns} from {tree}{where}", False
        order = [f"i.embedding {self.random.choice(['<->', '<=>'])} {self.point()}"] if self.random.random() < 0.4 else []
        return f"select {columns} from {tree}{where} order by {', '.join(order + keys)}{self.limit()}", True

    def several(self):
        """A join with the same table again, or with one that is not colocated."""
        if self.random.random() < 0.4:
            return self.looked_up()
        other = self.random.choice(["{items} j on j.id = i.id", "{items} j on j.id = i.id % 7",
                                    "(select item as id, max(stars) as s from {reviews} group by 1) j on j.id = i.id",
                                    "(select * from {items} order by id limit 30) j on j.id = i.id"])
        known, tree = self.join_tree(self.random.choice([0, 1]))
        keys = ["j.id"] + [key for alias in known for key in self.KEYS[alias]]
        kind = self.join_kind(("join", "left join"))
        return f"select {', '.join(keys)} from {tree} {kind} {other}{self.join_where(known)}", False

    def looked_up(self):
        """By keys of a few rows."""
        few = self.random.choice(["(select weight as k, label from labels) o", "(select i.id * 3 as k, i.category as label "
                                  "from {items} i" + self.where() + " order by i.id limit 20) o"])
        kind = self.join_kind(("join", "left join"))
        if self.random.random() < 0.5:
            return f"select o.k, o.label, i.id, i.price from {few} {kind} {{items}} i on i.id = o.k and {self.condition()}", False
        return f"select o.k, o.label, r.item, r.n from {few} {kind} {{reviews}} r on r.item = o.k and {self.review_condition()}", False

    def lateral_join(self):
        outer = self.random.choice(["{categories} o", "labels o", "(select * from {items} where id % 40 = 0) o",
                                    "{reviews} o"])
        match = {"{categories} o": "i.category = o.name", "labels o": "i.category = o.category",
                 "{reviews} o": "i.id = o.item"}.get(outer, "i.id > o.id")
        order = self.random.choice(["i.id", f"i.embedding <-> {self.point()}, i.id"])
        if "items" in outer:
            order = self.random.choice([order, "i.embedding <-> o.embedding, i.id"])
        inner = f"select i.id from {{items}} i where {match} order by {order} limit {self.random.randrange(1, 4)}"
        kind = self.random.choice(["cross join lateral", "left join lateral"])
        on = " on true" if "left" in kind else ""
        key = {"{categories} o": "o.name", "labels o": "o.label", "{reviews} o": "o.item, o.n"}.get(outer, "o.id")
        return f"select {key}, n.id from {outer} {kind} ({inner}) n{on}", False

    def windowed(self):
        partition = self.random.choice(["partition by i.category ", "partition by i.id % 3 ", ""])
        function = self.random.choice(["row_number()", "rank()", "sum(i.id)", "lag(i.id, 2)", "first_value(i.price)"])
        source = self.random.choice(["{items} i", "{items} i join {reviews} r on r.item = i.id and r.n = 0",
                                     "{items} i left join {categories} c on c.name = i.category"])
        return (f"select i.id, {function} over ({partition}order by i.id) as w from {source}{self.where()} "
                f"order by i.id{self.limit()}", True)

    def locked(self):
        strength = self.random.choice(["update", "share", "no key update", "key share"])
        condition = self.condition("i", 2)
        return f"select i.id, i.price from {{items}} i where {condition} order by i.id for {strength} of i", True


VALUE = re.compile(r"(?P<before>(?:[=<>%]|\blimit|\boffset|\bbetween) )(?P<number>\d+)\b"
                   r"|(?P<point>'\[\d+,\d+,\d+\]')")


def with_parameters(sql):
    """The statement with its numbers and vectors as parameters, and their values as SQL."""
    values = []

    def replace(match):
        values.append(match["number"] or match["point"])
        if match["point"]:
            return f"${len(values)}::vector"
        kind = "bigint" if match["before"].strip() in ("limit", "offset") else "int"
        return f"{match['before']}${len(values)}::{kind}"

    return VALUE.sub(replace, sql), values
