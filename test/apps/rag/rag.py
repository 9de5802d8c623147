#!/usr/bin/python3
"""Retrieval for RAG on Panvel: Markdown files are cut into chunks, embedded, stored; a question finds the nearest chunks.

    rag.py load DIRECTORY...                         (again at will: a file's chunks are replaced)
    rag.py ask QUESTION [--top 3] [--file PATTERN]   the passages to put into a prompt
    rag.py forget FILE

The database is $DATABASE_URL. With DISTRIBUTE=1, `load` spreads the table over the nodes when it creates it.

The embedding is NOT a language model: it hashes words and their stems into 512 dimensions (feature hashing), which
finds passages that share words with the question and knows nothing of meaning. Put a model in the place of embed();
nothing else changes but DIMENSIONS.
"""

import argparse
import hashlib
import json
import math
import os
import pathlib
import re
from collections import Counter

import psycopg

DIMENSIONS = 512
CHUNK_CHARACTERS = 900
COMMON = set("a an and are as at be been but by can do does for from has have how i if in into is it its not of on or so than "
             "that the their them then there these they this those to was what when where which who why will with you".split())


# ------------------------------------------------------------------ text to vectors
def words(text):
    return [word for word in re.findall(r"[a-z0-9]+", text.lower()) if word not in COMMON]


def features(text):
    """Words, and their beginnings for the sake of inflections."""
    for word in words(text):
        yield word
        if len(word) > 5:
            yield word[:5] + "~"


def embed(text):
    """A unit vector of DIMENSIONS floats; of a text without words, the first basis vector."""
    vector = [0.0] * DIMENSIONS
    for feature, count in Counter(features(text)).items():
        digest = int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=8).digest(), "big")
        vector[digest % DIMENSIONS] += (1 if digest >> 63 else -1) * (1 + math.log(count))
    length = math.hypot(*vector)
    if length == 0:
        return [1.0] + [0.0] * (DIMENSIONS - 1)
    return [x / length for x in vector]


def chunks(text):
    """(heading, passage) of the paragraphs under each heading, as many together as fit CHUNK_CHARACTERS."""
    heading, passage = "", ""
    for block in re.split(r"\n\s*\n", text):
        new_heading = re.match(r"#+\s+(.*)", block)
        if passage and (new_heading or len(passage) + len(block) > CHUNK_CHARACTERS):
            yield heading, passage
            passage = ""
        if new_heading:
            heading = new_heading[1].strip()
        passage = f"{passage}\n\n{block}".strip()
    if passage:
        yield heading, passage


# ------------------------------------------------------------------ the table
def create_table(connection):
    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    if connection.execute("SELECT to_regclass('chunks')").fetchone()[0]:
        return
    connection.execute(f"""
        CREATE TABLE chunks (
            file text NOT NULL,
            number int NOT NULL,
            content text NOT NULL,
            metadata jsonb NOT NULL,
            embedding vector({DIMENSIONS}) NOT NULL,
            PRIMARY KEY (file, number))""")
    connection.execute("CREATE INDEX ON chunks USING hnsw (embedding vector_cosine_ops)")
    if "DISTRIBUTE" in os.environ:
        connection.execute("SELECT panvel.create_distributed_table('chunks', 'file')")


def to_sql(vector):
    return "[" + ",".join(f"{x:.7g}" for x in vector) + "]"


def load(connection, directories):
    create_table(connection)
    for directory in directories:
        for path in sorted(pathlib.Path(directory).glob("**/*.md")):
            rows = [(str(path), number, passage, json.dumps({"heading": heading, "words": len(words(passage))}),
                     to_sql(embed(f"{heading}\n{passage}"))) for number, (heading, passage) in enumerate(chunks(path.read_text()))]
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute("DELETE FROM chunks WHERE file = %s", [str(path)])
                cursor.executemany("INSERT INTO chunks VALUES (%s, %s, %s, %s, %s)", rows)
            print(f"{path}: {len(rows)} chunks")


def ask(connection, question, top, pattern):
    """[(file, heading, distance, passage)], the nearest first, of files that match the LIKE pattern."""
    with connection.transaction():
        connection.execute("SET LOCAL hnsw.iterative_scan = 'strict_order'")  # on, should the filter leave few
        return connection.execute(
            "SELECT file, metadata->>'heading', embedding <=> %(query)s AS distance, content FROM chunks"
            " WHERE file LIKE %(pattern)s AND (metadata->>'words')::int >= 8 ORDER BY distance LIMIT %(top)s",
            {"query": to_sql(embed(question)), "pattern": pattern, "top": top}).fetchall()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("load").add_argument("directories", nargs="+")
    question = commands.add_parser("ask")
    question.add_argument("question")
    question.add_argument("--top", type=int, default=3)
    question.add_argument("--file", default="%")
    commands.add_parser("forget").add_argument("file")
    arguments = parser.parse_args()
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        if arguments.command == "load":
            load(connection, arguments.directories)
        elif arguments.command == "forget":
            print(connection.execute("DELETE FROM chunks WHERE file = %s", [arguments.file]).rowcount, "chunks forgotten")
        else:
            for file, heading, distance, passage in ask(connection, arguments.question, arguments.top, arguments.file):
                print(f"--- {file}: {heading} ({distance:.4f})\n{passage}\n")


if __name__ == "__main__":
    main()
