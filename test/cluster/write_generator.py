"""Random statements that write to a table `events` and its colocated `parts` (see test_random_writes.py)."""

COLUMNS = """create table events (
    id int primary key,
    grp int,
    name varchar(20),
    score numeric(10, 2),
    at timestamptz,
    tags text[],
    v vector(2),
    twice int generated always as (grp * 2) stored,
    check (score is null or score < 500))"""
PARTS = "create table parts (id int, part int, n int, note varchar(10), primary key (id, part))"


class WriteGenerator:
    def __init__(self, random):
        self.random = random

    def one(self, *choices):
        return self.random.choice(choices)

    def key(self):
        return self.random.randrange(1, 60)

    # ---------------------------------------------------------------- expressions
    def value(self, column):
        if self.random.random() < 0.12:
            return "null"
        if column == "grp":
            return str(self.random.randrange(8))
        if column == "name":
            return self.one("'a'", "'bb'", "'Ccc'", "'it''s'", "''", "'ä'")
        if column == "score":
            return self.one("1.5", "-3", "0", "499.99", "12.345", "7 / 2.0") if self.random.random() < 0.97 else "900"
        if column == "at":
            return f"timestamptz '2024-01-01 00:00+00' + interval '{self.random.randrange(50)} hours'"
        if column == "tags":
            return self.one("'{}'", "'{x}'", "'{x,y}'", "array['z', null]")
        return f"'[{self.random.randrange(5)},{self.random.randrange(5)}]'"

    def computed(self, column):
        """An expression over the row."""
        if self.random.random() < 0.4:
            return self.value(column)
        return self.random.choice({
            "grp": ["grp + 1", "coalesce(grp, 0) % 5", "length(name)", "case when grp > 3 then 0 else grp end",
                    "(select max(n) from local)"],
            "name": ["name || 'x'", "upper(name)", "left(name, 2)", "coalesce(name, 'none')", "'g' || grp"],
            "score": ["score * 1.1", "score + grp", "abs(score)", "nullif(score, 0)", "grp"],
            "at": ["at + interval '1 day'", "coalesce(at, timestamptz 'epoch')", "null"],
            "tags": ["tags || 'w'", "array_remove(tags, 'x')", "tags[1:1]"],
            "v": ["v + '[1,1]'", "v * '[2,2]'", "coalesce(v, '[0,0]')"],
        }[column])

    def condition(self, depth=0):
        if depth < 2 and self.random.random() < 0.35:
            operator = self.one("and", "or")
            return f"({self.condition(depth + 1)} {operator} {self.condition(depth + 1)})"
        text = self.one(
            f"id = {self.key()}",
            f"id = any (array[{self.key()}, {self.key()}, null])",
            f"id in ({self.key()}, {self.key()}, {self.key()})",
            f"id between {self.key()} and {self.key()}",
            f"grp = {self.random.randrange(8)}",
            f"grp <> {self.random.randrange(8)}",
            "name like '%x%'",
            "name is null",
            "score > 5",
            "score is distinct from 0",
            "'x' = any (tags)",
            f"v <-> '[1,1]' < {self.random.randrange(4)}",
            f"at > timestamptz '2024-01-02 00:00+00'",
            f"id in (select n from local where n < {self.random.randrange(10)})",
            "id not in (select n from local)",
            "exists (select from local where n = id)",
            f"exists (select from local where n = grp and n > {self.random.randrange(5)})",
            "not exists (select from local where n = grp)",
            f"grp = (select min(n) from local where n > {self.random.randrange(10)})",
            "grp > all (select n from local where n < 3)",
            "id in (select e.id from events e where e.grp = 2)",
            "score < (select avg(e.score) from events e)",
        )
        return f"not ({text})" if self.random.random() < 0.15 else text

    def where(self):
        return f" where {self.condition()}" if self.random.random() < 0.93 else ""

    def returning(self):
        return self.one("", "", " returning *", " returning id, grp + 1, name", " returning events",
                        " returning id, (select count(*) from local)", " returning twice, tags")

    # ---------------------------------------------------------------- statements
    def columns(self):
        names = [name for name in ("grp", "name", "score", "at", "tags", "v") if self.random.random() < 0.6]
        return names or ["grp"]

    def insert(self):
        columns = self.columns()
        head = f"insert into events (id, {', '.join(columns)}) "
        keys = self.random.sample(range(1, 60), self.random.choice([1, 1, 2, 5, 20]))
        if self.random.random() < 0.75:
            rows = [f"({key}, {', '.join(self.value(c) for c in columns)})" for key in keys]
            source = "values " + ", ".join(rows)
        else:
            first = self.random.randrange(1, 60)
            values = ", ".join(f"({self.value(c)})" for c in columns)
            source = self.one(
                f"select n + {first}, {values} from local",
                f"select g, {values} from generate_series({first}, {first + 8}) g",
                f"select id + 60, {', '.join(columns)} from events{self.where()}",
            )
            keys = None
        conflict = ""
        if self.random.random() < 0.7:
            sets = ", ".join(
                f"{c} = " + self.one(f"excluded.{c}", f"events.{c}", self.value(c)) for c in self.columns()
            )
            extra = self.one("", "", " where events.grp > 2", " where excluded.id % 2 = 0")
            conflict = self.one(
                " on conflict do nothing",
                " on conflict (id) do nothing",
                f" on conflict (id) do update set {sets}{extra}",
                f" on conflict on constraint events_pkey do update set {sets}",
            )
        return head + source + conflict + self.returning()

    def update(self):
        sets = ", ".join(f"{column} = {self.computed(column)}" for column in self.columns())
        return f"update events set {sets}{self.where()}{self.returning()}"

    def by_rows(self):
        """What the shards cannot evaluate by themselves: joins, subqueries over the row, volatile functions."""
        n = self.random.randrange(8)
        grp, key = self.random.randrange(8), self.key()
        return self.one(
            f"update events set grp = n + {n} from local where n = id{self.returning_of('n')}",
            f"update events set name = x.t from (select n, 'n' || n as t from local) x where x.n = grp{self.returning_of('x')}",
            f"update events e set score = o.grp from events o where o.id = e.id + 1 and o.grp > {grp} returning e.id, o.id, e.score",
            f"update events set grp = (select n from local where n = events.grp + {n}) where id > {key}{self.returning_of('1')}",
            f"update events set score = (select count(*) from events o where o.grp = events.grp) where id < {key}",
            f"update events set name = 'r' || (random() * 0)::int, grp = {n} where id > {key} and random() < 2{self.returning_of('2')}",
            f"update events set tags[{n % 3 + 1}] = name where id > {key}{self.returning_of('tags')}",
            f"update events set id = n, grp = {n} from local where n = id{self.returning_of('n')}",
            f"update events set score = 900 from local where n = id and n > {n}",
            f"delete from events using local where n = grp and n > {n}{self.returning_of('n')}",
            f"delete from events using events o where o.id = events.id + 7 and o.grp = {grp} returning events.id, o.grp",
            f"delete from events where exists (select from local where n = grp and n < id) and id > {key}",
            f"delete from events where grp = {grp} and random() < 2{self.returning_of('id')}",
        )

    def merge(self):
        source = self.one(
            "local s (n)",
            f"(select n, n + {self.key()} as m from local) s",
            "(select id as n, grp from events) s",
            f"(select g as n from generate_series({self.key()}, {self.key()}) g) s",
        )
        columns = self.columns()
        values = ", ".join(self.value(column) for column in columns)
        sets = ", ".join(f"{c} = " + self.one(self.value(c), f"events.{c}") for c in self.columns())
        actions = [
            f"when matched and {self.one('events.grp > 3', 'events.id % 2 = 0', 's.n > 5', 'random() < 2')} then "
            + self.one(f"update set {sets}", "delete", "do nothing"),
            f"when matched then update set {sets}",
            f"when not matched and s.n % 2 = 0 then insert (id, {', '.join(columns)}) values (s.n, {values})",
            f"when not matched then insert (id, grp) values (s.n + 60, {self.random.randrange(8)})",
        ]
        chosen = [action for action in actions if self.random.random() < 0.6] or [actions[0]]
        return f"merge into events using {source} on events.id = s.n {' '.join(chosen)}"

    def colocated(self):
        """What every shard can do by itself; `kinds` is a reference table. A row has one part 0 and one part 1."""
        n, key, part = self.random.randrange(8), self.key(), self.random.randrange(2)
        parts = f"parts p where p.id = events.id and p.part = {part}"
        return self.one(
            f"insert into parts select g, g % 2, g % 7, 'p' || g from generate_series({key}, {key + 12}) g on conflict do nothing",
            f"insert into parts select id, {part}, grp, left(name, 5) from events where id > {key} on conflict do nothing",
            f"insert into parts (id, part, n) select id, 2, grp from events where not exists (select from parts p where p.id = events.id and p.part = 2) and grp > {n}",
            f"insert into parts (id, part, n) select e.id, 3, count(*) from events e join parts p on p.id = e.id where e.id < {key} group by e.id",
            f"insert into events (id, grp, name) select p.id, max(p.n), 'new' from parts p where not exists (select from events e where e.id = p.id) group by p.id having min(p.n) > {n}",
            f"update events set grp = p.n from {parts} and p.n <> {n}{self.returning_of('p.n')}",
            f"update events set name = k.title, score = p.n * 1.5 from parts p, kinds k where p.id = events.id and p.part = {part} and k.n = p.n{self.one('', ' returning events.id, title')}",
            f"update events set score = (select sum(p.n) from parts p where p.id = events.id) where id > {key}{self.one('', ' returning id, score')}",
            f"update events set name = 'has' where exists (select from parts p where p.id = events.id and p.n = events.grp)",
            f"update events set grp = q.n from parts p left join parts q on q.id = p.id and q.part = 1 where p.id = events.id and p.part = 0",
            f"update events set grp = p.n from {parts} and events.id = {key}",
            f"update parts set n = grp, note = name from events where events.id = parts.id and grp > {n}{self.one('', ' returning parts.id, note, grp')}",
            f"delete from parts using events where events.id = parts.id and grp = {n} and part = {part}",
            f"delete from events using {parts} and p.n = {n}{self.returning_of('p.note')}",
            f"delete from events where not exists (select from parts p where p.id = events.id) and grp = {n}",
            f"delete from parts where id > {key} and part > 1",
        ).replace("returning id,", "returning events.id,")

    def returning_of(self, what):
        return self.one("", f" returning id, {what}", f" returning events, {what}")

    def delete(self):
        return f"delete from events{self.where()}{self.returning()}"

    def in_cte(self, statement):
        if " returning " not in statement:
            return f"with w as ({statement}) select 'done'"
        return f"with w as ({statement}) select * from w"

    def statement(self):
        kinds = [self.insert, self.update, self.by_rows, self.colocated, self.merge, self.delete]
        text = self.random.choices(kinds, [10, 6, 4, 5, 2, 1])[0]()
        if self.random.random() < 0.1 and text.count("events") == 1:
            return self.in_cte(text)
        return text
