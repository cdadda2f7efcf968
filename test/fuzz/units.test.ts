/** Campaigns of the fuzzer within this process: what a unit does, and what the shadow says. */
import { expect, test } from "vitest";
import { campaign } from "../../src/campaign/campaign.js";
import { inlineExecutor } from "../../src/campaign/inline.js";
import type { Work } from "../../src/campaign/work.js";
import { compareWork } from "../../src/fuzz/compare.js";
import { hostileWork } from "../../src/fuzz/hostile.js";
import { bundledFiles } from "../../src/fuzz/hostileseeds.js";
import type { Op } from "../../src/fuzz/program.js";
import { Laboratory } from "../../src/fuzz/trial.js";
import { fuzzWork } from "../../src/fuzz/work.js";

const carry = async <S, T, I, R>(work: Work<S, T, I, R>, spec: S): Promise<T> =>
  (await campaign(work, spec, { executor: inlineExecutor(work, spec), onProgress: () => undefined })).state;

const SPEC = { cpus: ["max"], set: {}, seed: 1, runs: 60, programs: [] };

test("a unit finds a planted defect, makes it small, keeps what touched something new, and does the same again", async () => {
  const spec = { ...SPEC, kernels: ["v7.2.12"], set: { dirtyMark: "pages-before-set" } };
  const [a, b] = [await carry(fuzzWork, spec), await carry(fuzzWork, spec)];
  const [found] = [...a.found.values()];
  expect(found).toMatchObject({ kind: "a dirty page was lost", kernel: "v7.2.12", explanation: [] });
  expect(found!.steps[1]).toBeLessThan(8);
  expect(a.corpus.programs.length).toBeGreaterThan(5);
  expect([...b.found.values()]).toEqual([...a.found.values()]);
  expect(b.corpus.known()).toBe(a.corpus.known());
});

test("a program that two kernels answer differently is told with its decisions", async () => {
  const state = await carry(compareWork, { ...SPEC, kernels: ["v6.8", "v6.9"] as const, runs: 40 });
  expect(state.differing).toBeGreaterThan(0);
  expect([...state.found.values()].every((d) => d.explanation.length > 0)).toBe(true);
});

test("broken files in this process", async () => {
  const state = await carry(hostileWork("."), { seed: 4, runs: 60, names: bundledFiles(".") });
  expect([...state.found.values()]).toEqual([]);
  expect(state.runs).toBe(60);
});

const RAM = 0x80000000;
const guest = (what: string, at: number, x1 = 0): Op => ({ op: "guest", what, at, x1, x2: 0 });
const back = (kind: "nohuge" | "memfd" | "ivshmem"): Op => ({ op: "back", b: 0, kind, size: 0x10000, skew: 0 });
const slot = (flags = 0): Op => ({ op: "slot", id: 1, gpa: RAM, size: 0x10000, b: 0, off: 0, flags });

/** What each step came to. */
const outcomes = (ops: readonly Op[]): string[] => {
  const t = new Laboratory().run({ cpu: "max", ops }, { kernel: "v7.2.12", set: {} });
  expect(t.failure).toBeUndefined();
  return t.outcomes.map((o) =>
    o.how === "done" && o.value !== 0n ? `done ${o.value}` : o.pages.length > 0 ? `${o.how} ${o.pages.join()}` : o.how,
  );
};

test("what a VMM and its guest do to one memory is seen by both, through all that happens to it", () => {
  expect(
    outcomes([
      back("memfd"),
      slot(1),
      guest("str64", RAM, 5),
      { op: "hw", b: 0, off: 0x1000, size: 8, value: 6 },
      guest("ldr64", RAM + 0x1000),
      { op: "dirty", id: 1 },
      { op: "munmap", b: 0, off: 0, len: 0x10000 },
      guest("ldr64", RAM),
      { op: "remap", b: 0, off: 0, len: 0x10000 },
      guest("ldr64", RAM),
      { op: "punch", b: 0, off: 0, len: 0x1000 },
      guest("ldr64", RAM),
      { op: "mmu", on: true },
      guest("str64", 4 * 2 ** 36 + RAM, 7),
      guest("ldr64", RAM + 0x1000),
      { op: "memory", device: "ivshmem", on: false },
      { op: "slotdel", id: 1 },
      guest("ldr64", RAM + 0x1000),
    ]),
  ).toEqual([
    "ok",
    "ok",
    "done",
    "ok",
    "done 6",
    "ok 0",
    "ok",
    "EFAULT",
    "ok",
    "done 5",
    "ok",
    "done",
    "done",
    "exception",
    "done 6",
    "ok",
    "ok",
    "done",
  ]);
});
