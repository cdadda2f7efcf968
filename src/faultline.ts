#!/usr/bin/env node
/**
 * The executable `faultline`: starts the command (cli.ts), bundled into one file beside this one, with the code that V8
 * compiled for it when it was built. To compile it anew would be a third of a short run. V8 itself refuses compiled code of another
 * version or of other flags, and then compiles the text.
 */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { Script } from "node:vm";
import { compileLater, inlineMore } from "./cli/v8flags.js";

/** The compiled code, where there is some. */
function compiled(file: string): Buffer | undefined {
  try {
    return readFileSync(file);
  } catch {
    return undefined;
  }
}

inlineMore();
compileLater();
const filename = join(import.meta.dirname, "command.cjs");
const cachedData = compiled(join(import.meta.dirname, "command.cache"));
const script = new Script(readFileSync(filename, "latin1"), {
  filename,
  ...(cachedData === undefined ? {} : { cachedData }),
});
type Start = (require: NodeJS.Require, load: (id: string) => Promise<unknown>, file: string) => void;
// What is no part of the one file (packages, charts) is imported from here: a script has no importer of its own.
(script.runInThisContext() as Start)(createRequire(filename), (id) => import(id), filename);
/** For tools/codecache.mjs, which asks for what has been compiled. */
export { script };
