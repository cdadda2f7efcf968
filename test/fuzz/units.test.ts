/** Campaigns of the fuzzer within this process: what a unit does, and what the shadow says. */
import { expect, test } from "vitest";
import { campaign } from "../../src/campaign/campaign.js";
import { inlineExecutor } from "../../src/campaign/inline.js";
import type { Work } from "../../src/campaign/work.js";
import { compareWork } from "../../src/fuzz/compare.js";
import { hostileWork } from "../../src/fuzz/hostile.js";
import { bundledFiles } from "../../src/fuzz/hostileseeds.js";
import type { Op } from "../../src/fuzz/program.js";
import { scriptOf } from "../../src/fuzz/script.js";
import { Laboratory } from "../../src/fuzz/trial.js";
import { fuzzWork } from "../../src/fuzz/work.js";
import { compile } from "../../src/guest/compile.js";
import { DEFAULT_BUDGET } from "../../src/guest/limits.js";
import { machineFor, machineWorld } from "../../src/guest/machineworld.js";
import { runProgram } from "../../src/guest/run.js";

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

test("the script of a program that turns stage 1 on is one, and passes where nothing failed", () => {
  const ops: Op[] = [
    { op: "back", b: 0, kind: "nohuge", size: 0x4000, skew: 0 },
    { op: "slot", id: 1, gpa: 0x80000000, size: 0x4000, b: 0, off: 0, flags: 0 },
    { op: "mmu", on: true },
    { op: "guest", what: "str64", at: 0x80000000, x1: 7, x2: 0 },
  ];
  const target = { kernel: "v6.12.117", set: {} };
  const { outcomes } = new Laboratory().run({ cpu: "max", ops }, target);
  expect(outcomes.map((o) => o.how)).toEqual(["ok", "ok", "done", "done"]);
  const failure = { kind: "none", text: "nothing failed", step: 3, expect: "expect ok" };
  const source = scriptOf({ cpu: "max", ops }, target, outcomes, failure, { title: "stage 1", remarks: [] });
  const program = compile("fuzz.guest", source, machineWorld);
  const [variant] = program.variants;
  expect(runProgram(program, variant!, machineFor(program.machine, variant!), { budget: DEFAULT_BUDGET, detail: "none" }).passed).toBe(
    true,
  );
});

test("the shadow knows what a kernel does with part of a huge page, before a VMA that refuses, and with a bitmap that is all ones at first", () => {
  const B = 0x200000;
  const huge: Op = { op: "back", b: 0, kind: "hugetlb", size: B, skew: 0 };
  const file: Op = { op: "back", b: 0, kind: "memfd", size: B, skew: 0 };
  const logged = (flags: number): Op => ({ op: "slot", id: 1, gpa: 0xc0000000, size: B, b: 0, off: 0, flags });
  const store: Op = { op: "guest", what: "str64", at: 0xc0000000, x1: 1, x2: 0 };
  const load: Op = { ...store, what: "ldr64" };
  const advise = (advice: "MADV_DONTNEED" | "MADV_REMOVE" | "MADV_HWPOISON", len: number): Op => ({
    op: "madvise",
    b: 0,
    off: 0,
    len,
    advice,
  });
  const programs: Op[][] = [
    [huge, logged(0), store, advise("MADV_DONTNEED", 4096), load],
    [huge, logged(0), store, advise("MADV_DONTNEED", B), load],
    [huge, logged(0), advise("MADV_HWPOISON", 4096), advise("MADV_DONTNEED", 4096), store],
    [file, logged(0), store, { op: "mapanon", b: 0, off: 0x2000, len: 4096 }, advise("MADV_REMOVE", B), load],
    [file, logged(0), store, { op: "mprotect", b: 0, off: 0x2000, len: 4096, prot: 1 }, advise("MADV_REMOVE", B), load],
    [{ op: "cap", cap: 168, value: 3 }, file, logged(1), { op: "cap", cap: 168, value: 1 }, { op: "dirty", id: 1 }],
    [
      { ...huge, size: 2 * B },
      { op: "remap", b: 0, off: 0, len: 4096 },
      { op: "mprotect", b: 0, off: 0, len: B + 4096, prot: 1 },
      { op: "hw", b: 0, off: 0, size: 4, value: 1 },
    ],
  ];
  const laboratory = new Laboratory();
  for (const kernel of ["v5.5", "v6.12.117", "v7.2.12"])
    for (const ops of programs) {
      const { failure } = laboratory.run({ cpu: "max", ops }, { kernel, set: {} });
      expect({ kernel, ops, failure }).toEqual({ kernel, ops, failure: undefined });
    }
});

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
