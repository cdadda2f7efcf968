// npm run bench:instructions -- [NAME…] [--by code|function|line] [--top N]: machine instructions of one operation of the fault paths.
// Processors and their neighbours change, the count does not: what a change gives is seen where the clock shows only noise.
//
// The process is stepped through (instructions/step.c: Linux, x86-64, a C compiler), some 20,000 instructions a second: one to
// ten minutes for a workload. Three parts of it, and the least is told: in the others V8 collected garbage or compiled. V8 compiles on the same
// thread, so that two counts of one build agree to some tenths of a per cent. With --by they are laid out by what V8 compiled them
// from (its perf-prof records): the compiled function, the function of ours that was put into it, or the line of the bundle.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { parse } from "acorn";
import { build } from "esbuild";
import { inlineConstants } from "../tools/constants.mjs";
import { BUNDLING } from "./bundling.mjs";

const FOLDER = resolve("node_modules/.cache/faultline/instructions");
const BUNDLE = join(FOLDER, "workloads.js");
const STEP = join(FOLDER, "step");
/** A part that is longer than this is no steady state. */
const MOST = 40_000_000;

async function prepare() {
  mkdirSync(FOLDER, { recursive: true });
  await build({
    ...BUNDLING,
    entryPoints: ["bench/instructions/workloads.ts"],
    outfile: BUNDLE,
    define: { __FAULTLINE_VERSION__: '"bench"', __FAULTLINE_BRACKETS__: "true" },
  });
  await inlineConstants([BUNDLE]);
  writeFileSync(join(FOLDER, "run.mjs"), `import { run } from ${JSON.stringify(BUNDLE)};\nrun(process.argv[2]);\n`);
  execFileSync("cc", ["-O2", "-o", STEP, "bench/instructions/step.c"], { stdio: "inherit" });
}

/** The code that V8 made in a process, by address: linux/tools/perf/Documentation/jitdump-specification.txt. */
function codeOf(dump) {
  const codes = new Map();
  const lines = new Map();
  const word = (at) => Number(dump.readBigUInt64LE(at));
  const textEnd = (at) => dump.indexOf(0, at);
  for (let at = 40; at + 16 <= dump.length;) {
    const kind = dump.readUInt32LE(at);
    const size = dump.readUInt32LE(at + 4);
    if (size === 0 || at + size > dump.length) break;
    if (kind === 0) {
      const start = word(at + 32);
      const name = dump.toString("utf8", at + 56, textEnd(at + 56));
      codes.set(start, { start, end: start + word(at + 40), name, lines: lines.get(start) ?? [] });
    } else if (kind === 2) {
      const list = [];
      let entry = at + 32;
      let bundled = false;
      for (let n = word(at + 24); n > 0; n--) {
        const end = textEnd(entry + 16);
        // A name of one byte, 255, is the last one again. A guest's loop that was put into a function of ours has no file.
        if (dump[entry + 16] !== 255) bundled = dump.toString("utf8", entry + 16, end).includes(BUNDLE);
        // perf expects an ELF header in front of the code.
        list.push([word(entry) - 64, dump.readUInt32LE(entry + 8), bundled]);
        entry = end + 1;
      }
      lines.set(word(at + 16), list);
    }
    at += size;
  }
  return [...codes.values()].sort((a, b) => a.start - b.start);
}

/** The last of a sorted list whose key is not above the value. */
function below(list, key, value) {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (key(list[middle]) <= value) low = middle + 1;
    else high = middle;
  }
  return list[low - 1];
}

/** The name of the innermost function at each line of the bundle. */
function functionsOf(text) {
  const names = [];
  const isFunction = (node) => /Function/.test(node?.type ?? "");
  const visit = (node, name, owner) => {
    if (Array.isArray(node)) return node.forEach((n) => visit(n, name, owner));
    if (typeof node?.type !== "string") return;
    let [here, ours] = [name, owner];
    if (node.type === "VariableDeclarator" && node.init?.type === "ClassExpression") ours = node.id.name;
    else if (node.type === "ClassDeclaration") ours = node.id.name;
    else if (node.type === "MethodDefinition") here = `${owner}.${node.key.name}`;
    else if (node.type === "FunctionDeclaration") here = node.id.name;
    else if (node.type === "VariableDeclarator" && isFunction(node.init)) here = node.id.name;
    else if (node.type === "AssignmentExpression" && isFunction(node.right)) here = `${owner}.${node.left.property?.name}`;
    if (here !== name) for (let l = node.loc.start.line; l <= node.loc.end.line; l++) names[l] = here;
    for (const key in node) if (key !== "type" && key !== "loc") visit(node[key], here, ours);
  };
  visit(parse(text, { ecmaVersion: "latest", sourceType: "module", locations: true }), "", "");
  return names;
}

function layOut(folder, addresses, ops, by, top) {
  const codes = codeOf(
    readFileSync(
      join(
        folder,
        readdirSync(folder).find((f) => /^jit-.*\.dump$/.test(f)),
      ),
    ),
  );
  const text = readFileSync(BUNDLE, "utf8");
  const source = text.split("\n");
  const names = functionsOf(text);
  const counts = new Map();
  for (const address of addresses) {
    const code = below(codes, (c) => c.start, Number(address));
    let what = "(V8's own)";
    if (code !== undefined && Number(address) < code.end) {
      what = code.name.replace(/ file:.*/, "");
      const [, line, bundled] = by === "code" ? [] : (below(code.lines, (l) => l[0], Number(address)) ?? []);
      if (bundled === false) what = "(compiled loop)";
      else if (line !== undefined)
        what = `${names[line] ?? "(no function)"}${by === "line" ? `  ${source[line - 1].trim().slice(0, 120)}` : ""}`;
    }
    counts.set(what, (counts.get(what) ?? 0) + 1);
  }
  const rows = [...counts].sort((a, b) => b[1] - a[1]).slice(0, top);
  for (const [what, n] of rows) console.log(`${(n / ops).toFixed(1).padStart(10)}  ${what}`);
}

function count(name, ops, by, top) {
  const folder = mkdtempSync(join(tmpdir(), "faultline-instructions-"));
  try {
    const node = [
      process.execPath,
      "--no-concurrent-recompilation",
      ...(by === undefined ? [] : ["--perf-prof"]),
      join(FOLDER, "run.mjs"),
      name,
    ];
    const trace = join(folder, "addresses");
    const { status, stdout } = spawnSync(STEP, [trace, String(MOST), ...node], {
      cwd: folder,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "inherit"],
    });
    const parts = stdout.trim().split("\n").map(Number);
    if (status !== 0 || parts.length === 0) throw new Error(`${name}: the process ended with status ${status}`);
    const least = Math.min(...parts);
    console.log(
      `${name.padEnd(20)}${(least / ops).toFixed(0).padStart(8)} instructions   (${parts.map((p) => (p / ops).toFixed(0)).join(", ")})`,
    );
    if (by === undefined) return;
    const from = parts.slice(0, parts.indexOf(least)).reduce((a, b) => a + b, 0);
    const { buffer, byteOffset } = readFileSync(trace);
    layOut(folder, new BigUint64Array(buffer, byteOffset + 8 * from, least), ops, by, top);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const BY = ["code", "function", "line"];

/** The options, or the one error. */
function asked() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { by: { type: "string" }, top: { type: "string", default: "40" } },
  });
  if (values.by !== undefined && !BY.includes(values.by)) throw new Error(`--by takes ${BY.join(", ")}, not ${values.by}`);
  if (!/^[1-9][0-9]*$/.test(values.top)) throw new Error(`--top takes a number of lines, not ${values.top}`);
  return { by: values.by, top: Number(values.top), names: positionals };
}

async function main() {
  if (process.platform !== "linux" || process.arch !== "x64") throw new Error("instructions are counted on x86-64 Linux only");
  const { by, top, names } = asked();
  await prepare();
  const { OPS } = await import(BUNDLE);
  const all = Object.keys(OPS);
  const wrong = names.find((name) => !all.includes(name));
  if (wrong !== undefined) throw new Error(`no workload named ${wrong}: one of ${all.join(", ")}`);
  for (const name of names.length === 0 ? all : names) count(name, OPS[name], by, top);
}

try {
  await main();
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = 2;
}
