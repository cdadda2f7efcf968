/** Stands for recorder/record.sh in tests: takes its words, records on the emulator. FAKE_SET=decision=value is where it departs. */
import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { recordOnEmulator } from "./emulatedkernel.js";

const args = process.argv.slice(2);
const out = args[args.indexOf("--out") + 1]!;
const files = args.slice(args.indexOf("--") + 1);
const set = Object.fromEntries(
  (process.env["FAKE_SET"] ?? "").split(",").flatMap((w) => (w === "" ? [] : [w.split("=") as [string, string]])),
);
if (process.env["FAKE_ERROR"] !== undefined) {
  process.stderr.write(`record.sh: ${process.env["FAKE_ERROR"]}\n`);
  process.exit(2);
}
// A line for each boot; the last one of the test's limit never ends.
const log = process.env["FAKE_BOOTS"];
if (log !== undefined) {
  appendFileSync(log, `${files.length}\n`);
  const stop = `${log}.stop`;
  if (existsSync(stop) && readFileSync(log, "utf8").split("\n").length > Number(readFileSync(stop, "utf8")))
    setInterval(() => undefined, 1000);
}
for (const file of files) {
  const name = basename(file, ".rec");
  const commands = readFileSync(file, "utf8")
    .split("\n")
    .flatMap((l) => (l.startsWith("> ") ? [l.slice(2)] : []));
  writeFileSync(join(out, `${name}.rec`), recordOnEmulator(name, commands, set));
}
