// What the programs share: where the database and the data are, and the report.
import { readFileSync } from 'node:fs';

export const databaseUrl = process.env.DATABASE_URL;
export const distribute = 'DISTRIBUTE' in process.env;
export const data = JSON.parse(readFileSync(process.env.APP_DATA, 'utf8'));

/** One line of the report that the test reads. */
export function report(step, result) {
  console.log(JSON.stringify([step, result]));
}

/** What a program throws to have its transaction rolled back. */
export class Undo extends Error {}

/** Runs `work`, which must throw Undo. */
export async function undone(work) {
  try {
    await work();
  } catch (error) {
    if (error instanceof Undo) return;
    throw error;
  }
  throw new Error('not rolled back');
}

/** The SQLSTATE and the constraint of the error that `work` must throw; ORMs keep node-postgres's error within theirs. */
export async function violation(work) {
  try {
    await work();
  } catch (error) {
    for (let inner = error; inner; inner = inner.original ?? inner.driverError ?? inner.nativeError ?? inner.cause) {
      if (inner.code && inner.constraint) return [inner.code, inner.constraint];
    }
    throw error;
  }
  throw new Error('no violation');
}
