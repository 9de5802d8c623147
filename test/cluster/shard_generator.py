"""Random SELECTs whose tables are mostly restricted to one value of the distribution column, so that one node can
answer them as a whole: over the tables of query_generator.py, of any SQL."""


class ShardQueries:
    """Part of QueryGenerator: its pieces are used here."""

    def shard_query(self):
        """A query and whether its rows have a complete order."""
        self.key = self.random.randrange(1, 1001)
        return self.random.choice([self.shard_rows, self.shard_rows, self.shard_groups, self.shard_windows,
                                   self.shard_set_operation, self.shard_cte, self.shard_nested, self.shard_locked])()

    # ------------------------------------------------------------------ pieces
    def pin(self, column):
        """Mostly the query's key; now and then something else, which only the ordinary plan can do."""
        key = self.key if self.random.random() < 0.95 else self.random.randrange(1, 1001)
        return self.random.choice([f"{column} = {key}", f"{column} = {key}", f"{column} = {key}", f"{key} = {column}",
                                   f"{column} = {key}::bigint", f"{column} = {key} + 0", f"{column} = null",
                                   f"({column} = {key} and {column} is not null)"])

    def shard_value(self, alias):
        choose = self.random
        if alias == "r":
            return choose.choice(["r.stars", "r.body::varchar(2)", "left(r.body, 2)", "r.n", "r.stars::numeric(4,1)",
                                  "case r.stars when 1 then 'one' when 2 then 'two' else r.body end",
                                  "greatest(r.stars, r.n, 2)", "r.body collate \"C\"", "coalesce(r.stars, 9)"])
        if alias == "c":
            return choose.choice(["c.weight", "c.parent", "nullif(c.weight, 3)", "c.name || c.weight"])
        return choose.choice(["i.category", "i.price", "i.price::numeric(5,1)", "i.category::char(3)",
                              f"i.embedding <-> {self.point()}", "i.tags[1]", "i.payload ->> 'k'",
                              "extract(hour from i.ts)", "i.ts at time zone 'UTC'", "upper(i.category)",
                              "date_trunc('day', i.ts)", "i.price is distinct from 3", "array[i.id, 7]",
                              "now() > i.ts", "to_char(i.ts, 'YYYY-MM-DD')", "i.id + (random() * 0)::int"])

    def shard_condition(self, alias):
        choose = self.random
        if alias == "r":
            return choose.choice([self.review_condition("r"), "r.body::varchar(3) = 'b1'", "(r.stars, r.n) < (3, 1)",
                                  "r.stars in (select x.weight from {categories} x where x.weight > 2)",
                                  "r.body like any (array['b1%', 'b2%'])"])
        if alias == "c":
            return self.category_condition("c")
        return choose.choice([self.condition("i", 1), "exists (select from {reviews} x where x.item = i.id and x.stars > 1)",
                              "i.price > (select avg(y.stars) from {reviews} y where y.item = i.id)",
                              f"i.id not in (select y.item from {{reviews}} y where {self.pin('y.item')} and y.stars > 3)",
                              "i.category in (select x.name from {categories} x)", "i.category::varchar(3) = 'cat'"])

    def shard_source(self):
        """FROM and WHERE, and the aliases in it: i, r, c."""
        choose = self.random
        known = choose.choice(["i", "i", "ir", "ir", "ic", "irc", "r", "rc"])
        conditions = []
        if "i" in known:
            text = choose.choice(["{items} i", "{items} i", f"(select * from {{items}} z where {self.pin('z.id')}) i",
                                  "(select * from {items}) i"])
            conditions.append(self.pin("i.id"))
            if "r" in known:
                kind = choose.choice(["join", "left join", "right join", "full join"])
                on = "r.item = i.id"
                if choose.random() < 0.3:
                    on = f"{self.pin('r.item')} and {self.review_condition('r')}"
                elif choose.random() < 0.3:
                    on += f" and {self.review_condition('r')}"
                if kind == "full join":
                    on = "r.item = i.id"
                text = choose.choice([f"{text} {kind} {{reviews}} r on {on}",
                                      f"{text} cross join lateral (select * from {{reviews}} q where q.item = i.id) r"])
                if choose.random() < 0.3:
                    conditions.append(self.pin("r.item"))
        else:
            text = "{reviews} r"
            conditions.append(self.pin("r.item"))
        if "c" in known:
            kind = choose.choice(["join", "left join", "join", "right join"])
            on = "c.name = i.category" if "i" in known else "c.weight = r.stars"
            text += f" {kind} {{categories}} c on {on}"
        if choose.random() < 0.2:
            text += ", generate_series(1, 2) g"
            known += "g"
        for alias in known:
            if alias != "g" and choose.random() < 0.3:
                conditions.append(self.shard_condition(alias))
        choose.shuffle(conditions)
        return text, " where " + " and ".join(conditions), known

    SHARD_KEYS = {**{"i": ["i.id"], "r": ["r.item", "r.n"], "c": ["c.name"]}, "g": ["g"]}

    def shard_keys(self, known):
        return [key for alias in known for key in self.SHARD_KEYS[alias]]

    def shard_columns(self, known):
        aliases = [alias for alias in known if alias != "g"]
        return self.shard_keys(known) + [self.shard_value(self.random.choice(aliases))
                                         for _ in range(self.random.randrange(3))]

    # ------------------------------------------------------------------ queries
    def shard_rows(self):
        source, where, known = self.shard_source()
        columns = ", ".join(self.shard_columns(known))
        distinct = self.random.choice(["", "", "distinct "])
        order = [self.shard_value("i")] if "i" in known and not distinct and self.random.random() < 0.5 else []
        order = ", ".join(order + self.shard_keys(known))
        return f"select {distinct}{columns} from {source}{where} order by {order}{self.limit()}", True

    def shard_groups(self):
        source, where, known = self.shard_source()
        aliases = [alias for alias in known if alias != "g"]
        group = self.random.choice(["%s", "%s", "rollup (%s, 1 + 1)", "grouping sets ((%s), ())", ""])
        value = self.shard_value(self.random.choice(aliases))
        while "random" in value or "'[" in value:  # two parameters of a prepared statement are two expressions
            value = self.shard_value(self.random.choice(aliases))
        keys = self.shard_keys(known)
        what = self.random.choice(["count(*)", f"min({keys[0]}), max({keys[-1]})", f"count(distinct {keys[-1]})",
                                   f"array_agg({keys[-1]} order by {', '.join(keys)})", f"sum({keys[0]}) filter (where {keys[0]} > 3)",
                                   f"percentile_disc(0.5) within group (order by {keys[0]})",
                                   f"string_agg({keys[-1]}::text, ',' order by {', '.join(keys)})"])
        if not group:
            return f"select {what} from {source}{where}", True
        having = self.random.choice(["", " having count(*) > 1", " having bool_or(true)"])
        return f"select {value} as v, {what} from {source}{where} group by {group % value}{having}", False

    def shard_windows(self):
        source, where, known = self.shard_source()
        keys = ", ".join(self.shard_keys(known))
        function = self.random.choice(["row_number()", "rank()", f"count(*)", "ntile(3)", f"lag({keys.split(',')[0]}, 1, 0)",
                                       f"first_value({keys.split(',')[-1]})"])
        frame = self.random.choice(["", "", " rows between 1 preceding and current row", " range unbounded preceding"])
        partition = self.random.choice(["", f"partition by {keys.split(',')[0]} "])
        return (f"select {keys}, {function} over ({partition}order by {keys}{frame}) as w from {source}{where} "
                f"order by {keys}{self.limit()}", True)

    def shard_set_operation(self):
        parts = []
        for _ in range(self.random.randrange(2, 4)):
            source, where, known = self.shard_source()
            parts.append(f"select {self.shard_keys(known)[0]}, {self.shard_keys(known)[-1]}::text from {source}{where}")
        operator = self.random.choice([" union ", " union all ", " except ", " intersect ", " except all "])
        return operator.join(parts) + " order by 1, 2" + self.limit(), True

    def shard_cte(self):
        source, where, known = self.shard_source()
        keys = self.shard_keys(known)
        names = [f"k{number}" for number in range(len(keys))]
        kind = self.random.choice(["", "materialized ", "not materialized "])
        other = self.random.choice(["", f", (select count(*) from {{reviews}} o where {self.pin('o.item')})",
                                    ", (select count(*) from x y where y.k0 >= x.k0)"])
        return (f"with x ({', '.join(names)}) as {kind}(select {', '.join(keys)} from {source}{where}) "
                f"select x.k0, x.{names[-1]}::text{other} from x", False)

    def shard_nested(self):
        inner, _ = self.random.choice([self.shard_rows, self.shard_windows])()
        if self.random.random() < 0.5:
            return f"select count(*) from ({inner}) s", True
        return (f"select i.id, (select count(*) from ({inner}) s) from {{items}} i "
                f"where {self.pin('i.id')} and exists ({inner})", False)

    def shard_locked(self):
        strength = self.random.choice(["update", "share", "no key update", "key share"])
        extra = self.random.choice(["", " nowait", " skip locked"])
        return (f"select i.id, r.n, i.price from {{items}} i join {{reviews}} r on r.item = i.id "
                f"where {self.pin('i.id')} order by 1, 2 for {strength} of {self.random.choice(['i', 'r', 'i, r'])}{extra}", True)
