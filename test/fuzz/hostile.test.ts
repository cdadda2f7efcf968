import { beforeAll, expect, test, vi } from "vitest";
import { enter } from "../../src/fuzz/doors.js";
import { mutateText } from "../../src/fuzz/mutatetext.js";
import { Rng } from "../../src/fuzz/rng.js";
import { buildCommand, faultline, temporaryFolder } from "../cli/command.js";

beforeAll(buildCommand);
vi.setConfig({ testTimeout: 300_000 });

test("broken scripts and recordings are answered: a result, an error with its place, or a budget", async () => {
  const cwd = temporaryFolder();
  const r = await faultline(["fuzz", "--hostile", "--runs", "600", "--seed", "3", "--json"], { cwd });
  const report = JSON.parse(r.out) as { inputs: number; accepted: number; refused: number; budget: number; failures: unknown[] };
  expect(report.failures).toEqual([]);
  expect(r.status).toBe(0);
  expect(report.accepted + report.refused + report.budget).toBe(600);
  expect(Math.min(report.accepted, report.refused)).toBeGreaterThan(60);
});

/** What hostile campaigns have found: each was an exception once. */
const FOUND: readonly (readonly [name: string, door: "run" | "conform", input: string])[] = [
  ["an alignment that is no power of two", "run", 'title "x"\nlet a = mmap(0, 4K, align=5)\n'],
  ["a recording that opens what is no PCI address", "conform", "# kernel v5.5, cpu max\nscenario x\n> vm\n> vfio open 7:0\n"],
];

test.each(FOUND)("%s is refused with a place", (_name, door, input) => {
  return expect(enter(door, Buffer.from(input))).resolves.toBe("refused");
});

test("what breaks texts keeps to a seed", () => {
  const text = "let a = 5\nguest { mov x0, a }\n";
  const many = (seed: number) => Array.from({ length: 50 }, (_, n) => mutateText(new Rng(seed, n), text, "munmap(1, 2)\n"));
  expect(many(1)).toEqual(many(1));
  expect(new Set(many(1)).size).toBeGreaterThan(40);
});
