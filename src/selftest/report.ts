/**
 * What a selftest says: named expectations with what was expected and what came, collected per case.
 * The names follow the kernel's selftests (tools/testing/selftests/kvm) where those name a thing.
 */
import type { Machine } from "../machine.js";
import { errnoName } from "../sim/errno.js";

/** Something that a case expects, and what it saw; both as text, numbers in hex or decimal as a person reads them. */
export interface Expectation {
  readonly name: string;
  readonly expected: string;
  readonly got: string;
  readonly ok: boolean;
}

export interface CaseResult {
  /** The kernel selftest. */
  readonly test: string;
  readonly name: string;
  readonly ok: boolean;
  /** Why the case could not be run, or "". */
  readonly skip: string;
  readonly expectations: readonly Expectation[];
}

/** The machine that the cases run on. */
export interface SelftestOptions {
  readonly kernel?: string;
  readonly cpu?: string;
  readonly set?: Readonly<Record<string, string>>;
  /** Backing source of the memslots under test, as the selftests' -s names it; anonymous if absent. */
  readonly backing?: Backing;
}

export type Backing = "anonymous" | "shmem" | "anonymous_hugetlb_2mb";
export const BACKINGS: readonly Backing[] = ["anonymous", "shmem", "anonymous_hugetlb_2mb"];

/** One case of a selftest: a row of its table, or one of its functions. */
export interface Case {
  readonly name: string;
  run(checks: Checks, options: SelftestOptions): void;
}

export interface Selftest {
  /** Name of the kernel's test, without its folder. */
  readonly name: string;
  readonly title: string;
  readonly cases: readonly Case[];
}

/** Thrown by a case that this kernel or CPU cannot run. */
export class Skip extends Error {
  override readonly name = "Skip";
}

/** Collects the expectations of one case. */
export class Checks {
  readonly list: Expectation[] = [];

  /** Adds an expectation. @returns whether it holds */
  expect(name: string, expected: string | number | bigint | boolean, got: string | number | bigint | boolean): boolean {
    const ok = expected === got;
    this.list.push({ name, expected: text(expected), got: text(got), ok });
    return ok;
  }
  /** The case cannot go on: an expectation that fails with what came instead. */
  fail(name: string, expected: string, got: string): void {
    this.list.push({ name, expected, got, ok: false });
  }
}

/** What a system call answered: its errno's name, or the number. */
export const answer = (ret: number): string => (ret < 0 ? errnoName(ret) : String(ret));

function text(v: string | number | bigint | boolean): string {
  return typeof v === "bigint" ? `0x${v.toString(16)}` : String(v);
}

/** Runs one case. What it throws, other than a skip, is a failed expectation. */
export function runCase(test: Selftest, c: Case, options: SelftestOptions): CaseResult {
  const checks = new Checks();
  let skip = "";
  try {
    c.run(checks, options);
  } catch (e) {
    if (e instanceof Skip) skip = e.message;
    else checks.fail("runs to its end", "yes", e instanceof Error ? e.message : String(e));
  }
  const ok = skip !== "" || (checks.list.length > 0 && checks.list.every((x) => x.ok));
  return { test: test.name, name: c.name, ok, skip, expectations: checks.list };
}

/** @throws Skip unless the machine's kernel has a decision at this value */
export function needs(machine: Machine, room: "kvm" | "mm", decision: string, value: boolean | string, why: string): void {
  const row = machine.era[room] as Readonly<Record<string, unknown>>;
  if (row[decision] !== value) throw new Skip(why);
}
