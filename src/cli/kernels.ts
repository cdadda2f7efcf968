/** `faultline kernels`: the eras, one era's decisions with their sources, what differs, which release does what. */
import { answer, decisionNames, decisionRoom, ERAS, findDecision, findEra } from "../eras.js";
import { eraNamed } from "./execute.js";
import { OK, unknownName, UsageError } from "./status.js";
import { palette, print } from "./terminal.js";

export interface KernelsArguments {
  readonly diff?: readonly [string, string];
  readonly feature?: string;
  readonly format: "text" | "json";
}

interface Row {
  readonly decision: string;
  readonly room: string;
  readonly value: string;
  readonly since: string;
  readonly source: string;
  readonly doc: string;
}

/** An era's decisions; one without a source on its chain is `unknown`. */
function rows(era: string): Row[] {
  return decisionNames().map((name) => {
    const d = findDecision(name)!;
    const a = answer(d, era);
    return {
      decision: name,
      room: decisionRoom(name)!,
      value: a === undefined ? "unknown" : String(a.value),
      since: a?.since ?? "",
      source: a?.source ?? "",
      doc: d.doc,
    };
  });
}

export async function kernelsCommand(era: string | undefined, args: KernelsArguments): Promise<number> {
  if (args.diff !== undefined) return diff(args.diff, args.format);
  if (args.feature !== undefined) return feature(args.feature, args.format);
  if (era !== undefined) return one(eraNamed(era), args.format);
  const color = palette();
  if (args.format === "json") {
    await print(
      JSON.stringify(
        ERAS.map((e) => ({ name: e.name, base: e.base ?? null, note: e.note })),
        undefined,
        2,
      ),
    );
    return OK;
  }
  for (const e of ERAS)
    await print(`${color.bold(e.name.padEnd(10))} ${(e.base === undefined ? "" : `from ${e.base}`).padEnd(13)} ${e.note}`);
  await print("\nfaultline kernels ERA shows an era's decisions; --diff A B what differs; --feature DECISION which release does what.");
  return OK;
}

async function one(era: string, format: "text" | "json"): Promise<number> {
  const list = rows(era);
  const info = findEra(era)!;
  if (format === "json") {
    await print(JSON.stringify({ name: info.name, base: info.base ?? null, note: info.note, decisions: list }, undefined, 2));
    return OK;
  }
  const color = palette();
  await print(`${color.bold(info.name)}  ${info.note}\n`);
  let room = "";
  for (const r of list) {
    if (r.room !== room) {
      room = r.room;
      await print(color.bold(`src/${room === "mm" ? "mmu" : room}`));
    }
    await print(
      `  ${r.decision.padEnd(34)} ${(r.value === "unknown" ? color.yellow(r.value) : r.value).padEnd(18)} ${color.dim(r.source === "" ? "no source known" : `since ${r.since}: ${r.source}`)}`,
    );
  }
  return OK;
}

async function diff([a, b]: readonly [string, string], format: "text" | "json"): Promise<number> {
  const [left, right] = [eraNamed(a), eraNamed(b)];
  const other = new Map(rows(right).map((r) => [r.decision, r]));
  const changed = rows(left)
    .map((l) => ({ l, r: other.get(l.decision)! }))
    .filter(({ l, r }) => l.value !== r.value);
  if (format === "json") {
    const list = changed.map(({ l, r }) => ({
      decision: l.decision,
      room: l.room,
      doc: l.doc,
      [left]: l.value,
      [right]: r.value,
      source: r.source,
    }));
    await print(JSON.stringify({ from: left, to: right, decisions: list }, undefined, 2));
    return OK;
  }
  const color = palette();
  await print(color.bold(`${changed.length} decision${changed.length === 1 ? "" : "s"} differ between ${left} and ${right}`));
  for (const { l, r } of changed) {
    await print(`  ${color.bold(l.decision)}: ${l.value} -> ${r.value}`);
    await print(`      ${l.doc}`);
    await print(color.dim(`      ${r.source === "" ? "no source known" : `since ${r.since}: ${r.source}`}`));
  }
  return OK;
}

async function feature(name: string, format: "text" | "json"): Promise<number> {
  const d = findDecision(name);
  if (d === undefined) throw unknownName("decision", name, decisionNames());
  const list = ERAS.map((e) => ({ era: e.name, answer: answer(d, e.name) }));
  if (format === "json") {
    const eras = list.map((l) => ({
      era: l.era,
      value: l.answer?.value ?? "unknown",
      since: l.answer?.since ?? null,
      source: l.answer?.source ?? null,
    }));
    await print(JSON.stringify({ decision: name, doc: d.doc, values: d.values, eras }, undefined, 2));
    return OK;
  }
  const color = palette();
  await print(`${color.bold(name)}: ${d.doc}`);
  await print(`values: ${d.values.map(String).join(", ")}\n`);
  for (const l of list) {
    const own = l.answer !== undefined && l.answer.since === l.era;
    await print(
      `${l.era.padEnd(10)} ${(l.answer === undefined ? color.yellow("unknown") : String(l.answer.value)).padEnd(20)} ${own ? color.dim(l.answer?.source ?? "") : ""}`.trimEnd(),
    );
  }
  return OK;
}

/** `--diff A B` as commander gives it. */
export function pair(words: readonly string[]): readonly [string, string] {
  const [a, b] = words;
  if (a === undefined || b === undefined || words.length !== 2) throw new UsageError("--diff takes two eras: --diff v5.4 v5.5");
  return [a, b];
}
