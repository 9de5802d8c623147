"""A coordinator with its workers, and a database that spans them."""

from .server import Database, Server

COORDINATOR = {"shared_preload_libraries": "panvel"}


class Cluster:
    """The servers: one coordinator (panvel preloaded) and `workers` plain ones.

    `conf` goes to all of them, `coordinator_conf` and `worker_conf` on top of it.
    """

    def __init__(self, workers=3, fsync=False, conf=None, coordinator_conf=None, worker_conf=None):
        conf = conf or {}
        settings = {**conf, **COORDINATOR, **(coordinator_conf or {})}
        self.coordinator = Server("coordinator", fsync, settings)
        settings = {**conf, **(worker_conf or {})}
        self.workers = [Server(f"w{i + 1}", fsync, settings) for i in range(workers)]
        self.servers = [self.coordinator, *self.workers]
        self.template = None  # a database on every server with extension vector, when it has been made

    def start(self):
        for server in self.servers:
            server.initialize().start()
        return self

    def remove(self):
        for server in self.servers:
            server.remove()

    def make_template(self):
        """For a cluster of many databases: they need not run extension vector's script each."""
        name = "vector_template"
        for server in self.servers:
            server.database(name).execute("create extension vector")
            server.execute(f"alter database {name} is_template true")
        self.template = name
        return self

    def database(self, name):
        """A database of this name on every server, the workers added as nodes w1, w2, ..."""
        template = self.template or "template0"
        workers = [server.database(name, template) for server in self.workers]
        if self.template is None:
            for worker in workers:
                worker.execute("create extension vector")
        database = ClusterDatabase(self, self.coordinator.database(name, template), workers)
        with database.connect() as connection:
            connection.execute("create extension panvel cascade")
            for worker in workers:
                label, port = worker.server.label, worker.server.port
                connection.execute("select panvel.add_node(%s, '127.0.0.1', %s)", [label, port])
        return database


class ClusterDatabase(Database):
    """A distributed database; as a Database it is the one on the coordinator.

    `workers` are the databases on the workers, for looking behind the coordinator's back;
    `workers[0].server.kill9()` and the like are for a private cluster only.
    """

    def __init__(self, cluster, coordinator, workers):
        super().__init__(coordinator.server, coordinator.name)
        self.cluster = cluster
        self.workers = workers

    def worker(self, name):
        """The worker's database by its node name, as the views call it."""
        return next(worker for worker in self.workers if worker.server.label == name)

    def drop(self):
        super().drop()
        for worker in self.workers:
            worker.drop()
