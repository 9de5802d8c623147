"""What the tests are written with: servers, clusters, databases, wait_until. See test/README.md."""

from .cluster import Cluster, ClusterDatabase
from .postgres import wait_until
from .server import Database, Server

__all__ = ["Cluster", "ClusterDatabase", "Database", "Server", "wait_until"]
