// Runs SQL on pgvector itself: PGlite, which is PostgreSQL in WebAssembly with pgvector 0.8.0.
//
// usage: node reference.mjs DATA_DIRECTORY DUMP_FILE < STEPS > ANSWERS
//   STEPS    a JSON array of arrays of SQL texts, each array for a database of its own; a text may have several statements
//   ANSWERS  the same of answers: of each text {rows: [[text or null]], notices: [text]}, rows of its last statement, or
//            {error: [SQLSTATE, message, hint or null]}
// The first database lies in DATA_DIRECTORY and, but for what is in its schema `work`, is dumped as pg_dump does it.
import { writeFileSync, readFileSync } from "node:fs";
import { PGlite } from "@electric-sql/pglite";
import { vector } from "@electric-sql/pglite/vector";
import { pgDump } from "@electric-sql/pglite-tools/pg_dump";

const [dataDirectory, dumpFile] = process.argv.slice(2);
const batches = JSON.parse(readFileSync(0, "utf8"));

// Every value as its text: PGlite knows no type then.
const parsers = Object.fromEntries(Array.from({ length: 100000 }, (_, oid) => [oid, (text) => text]));

async function answer(database, sql) {
  const notices = [];
  try {
    const results = await database.exec(sql, {
      rowMode: "array",
      parsers,
      onNotice: (notice) => notices.push(notice.message),
    });
    return { rows: results.at(-1)?.rows ?? [], notices };
  } catch (error) {
    return { error: [error.code, error.message, error.hint ?? null] };
  }
}

const answers = [];
for (const [number, batch] of batches.entries()) {
  const dataDir = number === 0 ? dataDirectory : undefined;
  const database = await PGlite.create({ dataDir, extensions: { vector } });
  answers.push([]);
  for (const sql of batch) answers[number].push(await answer(database, sql));
  if (number === 0) {
    await database.exec("checkpoint");
    const dump = await pgDump({ pg: database, args: ["--exclude-schema=work"] });
    writeFileSync(dumpFile, await dump.text());
  }
  await database.close();
}
process.stdout.write(JSON.stringify(answers));
