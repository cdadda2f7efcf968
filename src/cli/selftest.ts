/** `faultline selftest`: the kernel's selftests on the emulator, as TAP or JSON. */
import { BACKINGS, type Backing, type CaseResult, type SelftestOptions } from "../selftest/report.js";
import { runSelftests, SELFTESTS } from "../selftest/suite.js";
import { checkCpu, eraNamed, settingOf } from "./execute.js";
import { FAILED, OK, unknownName } from "./status.js";
import { print } from "./terminal.js";

export interface SelftestArguments {
  readonly format: "tap" | "json";
  readonly kernel?: string;
  readonly cpu?: string;
  readonly backing?: string;
  readonly set?: readonly string[];
  /** Only the tests and their titles. */
  readonly list?: boolean;
}

/** @param names tests to run; all if empty @throws UsageError for a name that is none */
export async function selftestCommand(names: readonly string[], args: SelftestArguments): Promise<number> {
  if (args.list === true) {
    if (args.format === "json") {
      await print(
        JSON.stringify(
          SELFTESTS.map((t) => ({ name: t.name, cases: t.cases.length, title: t.title })),
          undefined,
          2,
        ),
      );
      return OK;
    }
    for (const t of SELFTESTS) await print(`${t.name.padEnd(26)} ${String(t.cases.length).padStart(2)}  ${t.title}`);
    return OK;
  }
  const all = SELFTESTS.map((t) => t.name);
  for (const name of names) if (!all.includes(name)) throw unknownName("selftest", name, all);
  if (args.cpu !== undefined) checkCpu(args.cpu);
  if (args.backing !== undefined && !BACKINGS.includes(args.backing as Backing))
    throw unknownName("backing source", args.backing, BACKINGS);
  const tests = names.length === 0 ? SELFTESTS : SELFTESTS.filter((t) => names.includes(t.name));
  const options: SelftestOptions = {
    ...(args.kernel === undefined ? {} : { kernel: eraNamed(args.kernel) }),
    ...(args.cpu === undefined ? {} : { cpu: args.cpu }),
    ...(args.backing === undefined ? {} : { backing: args.backing as Backing }),
    ...(args.set === undefined ? {} : { set: Object.fromEntries(args.set.map(settingOf)) }),
  };
  const results: CaseResult[] = [];
  const tap = args.format === "tap";
  if (tap) await print(`TAP version 13\n1..${tests.reduce((n, t) => n + t.cases.length, 0)}`);
  for (const r of runSelftests(tests, options)) {
    results.push(r);
    if (tap) await print(tapLines(r, results.length));
  }
  const count = (f: (r: CaseResult) => boolean): number => results.filter(f).length;
  const totals = {
    passed: count((r) => r.ok && r.skip === ""),
    failed: count((r) => !r.ok),
    skipped: count((r) => r.skip !== ""),
    total: results.length,
  };
  if (tap) await print(`# Totals: pass:${totals.passed} fail:${totals.failed} skip:${totals.skipped}`);
  else await print(JSON.stringify({ ...totals, cases: results }, undefined, 2));
  return totals.failed === 0 ? OK : FAILED;
}

/** A test point, then each of its expectations as a comment. */
function tapLines(r: CaseResult, n: number): string {
  const point = `${r.ok ? "ok" : "not ok"} ${n} ${r.test}: ${r.name}${r.skip === "" ? "" : ` # SKIP ${r.skip}`}`;
  const lines = r.expectations.map(
    (e) => `#   ${e.ok ? "" : "FAILED "}${e.name}: ${e.expected === "" ? "none" : e.expected}${e.ok ? "" : `, got ${e.got}`}`,
  );
  return [point, ...lines].join("\n");
}
