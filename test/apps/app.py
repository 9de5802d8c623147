"""What the Python programs share: where the database and the data are, and the report."""

import json
import os
import sys

database_url = os.environ["DATABASE_URL"]
distribute = "DISTRIBUTE" in os.environ


def load():
    with open(os.environ["APP_DATA"]) as file:
        return json.load(file)


def report(step, result):
    """One line of the report that the test reads."""
    json.dump([step, result], sys.stdout)
    print(flush=True)
