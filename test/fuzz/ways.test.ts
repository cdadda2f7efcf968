/**
 * Random programs of the fuzzer, each in several ways: as calls to which nobody listens (every shortcut is open), with a listener
 * (which closes some of them), phase by phase, with agents that take turns, and with every step undone and done again. State, time,
 * events and outcomes are the same after each step.
 */
import { describe, expect, it } from "vitest";
import { callName } from "../../src/api/dispatch.js";
import { generate } from "../../src/fuzz/generate.js";
import type { Op } from "../../src/fuzz/program.js";
import { Rig } from "../../src/fuzz/rig.js";
import { Rng } from "../../src/fuzz/rng.js";
import { backingBase, Vmm } from "../../src/fuzz/vmm.js";
import type { Call, Machine } from "../../src/machine.js";

type Way = "quiet" | "listened" | "stepped" | "turns" | "undone";

const PAGE = 4096;
const BLOCK = 2 << 20;
const MAYMOVE_FIXED = 3;

/** What else a VMM and its host do, beside the steps of the fuzzer. */
type Step = { readonly program: Op } | { readonly call: Call };

/** A program of the fuzzer, and between its steps what kernel threads do to its memory. */
function program(seed: number, cpu: string): Step[] {
  const rng = new Rng(seed, 77);
  const bases: number[] = [];
  return generate(rng, cpu).ops.flatMap((op) => {
    if (op.op === "back") bases.push(backingBase(op.b, op.skew));
    const steps: Step[] = [{ program: op }];
    if (op.op === "back" || op.op === "slot" || rng.below(3) > 0) return steps;
    const base = rng.pick(bases);
    const addr = base + rng.pick([0, 0, PAGE, BLOCK - PAGE, BLOCK, PAGE * rng.below(1024)]);
    const length = rng.pick([PAGE, 3 * PAGE, BLOCK]);
    const away = {
      call: "mremap",
      oldAddress: addr,
      oldSize: length,
      newSize: length,
      flags: MAYMOVE_FIXED,
      newAddress: addr + 0x4000000,
    } as const;
    const back = { ...away, oldAddress: addr + 0x4000000, newAddress: addr };
    const calls = rng.pick<readonly Call[]>([
      [away, back],
      [{ ...away, newAddress: base + PAGE * rng.below(1024) }],
      [{ call: "split_huge_page", addr }],
      [{ call: "transparent_hugepage", file: "shmem_enabled", value: rng.pick(["always", "within_size", "advise", "force", "never"]) }],
      [{ call: "migrate_pages", addr }],
      [{ call: "shrink_folio_list", addr, force: rng.once(2) }],
      [{ call: "collapse_huge_page", addr }],
      [{ call: "try_to_merge_two_pages", addr, other: base + PAGE * rng.below(1024) }],
      [{ call: "age", addr, length, kind: 1 }],
      [{ call: "munmap", addr, length }],
      [{ call: "mmap", addr, length, prot: 3, flags: 0x32 }],
      [{ call: "mmap", addr, length: BLOCK, prot: rng.pick([1, 3]), flags: 0x32 }],
    ]);
    return [...steps, ...calls.map((call) => ({ call }))];
  });
}

/** From now on the machine's calls go phase by phase. */
function byPhases(m: Machine, turns: boolean): void {
  m.call = (agent, call) => {
    m.kvm.interleave = turns;
    m.begin(agent, call);
    while (m.busy(agent) && m.crashed === undefined) if (!m.step(agent)) throw new Error(`${call.call} waits for ever`);
    m.kvm.interleave = false;
    return m.finish(agent);
  };
  (m as { make: Machine["make"] }).make = (agent, n, args) => m.call(agent, { call: callName(n), ...args } as unknown as Call);
}

function perform(m: Machine, vmm: Vmm, step: Step): string {
  try {
    if ("program" in step) {
      const { how, value, pages, mmio, esr } = vmm.do(step.program);
      return `${how} ${value} ${pages.join()} ${mmio} ${esr}`;
    }
    return String(m.call(0, step.call).ret);
  } catch (e) {
    if (!(e instanceof Error) || !e.message.includes("waits for ever")) throw e;
    return "waits for ever";
  }
}

/** Does a step, undoes it, and puts the VMM's own notes back. */
function tried(m: Machine, vmm: Vmm, step: Step): void {
  const mark = m.sim.state.mark();
  const notes = vmm as unknown as { child: number };
  const { child } = notes;
  const kept = [vmm.backings, vmm.slots].map((map) => [map as Map<number, unknown>, [...map]] as const);
  perform(m, vmm, step);
  m.sim.state.rollback(mark);
  notes.child = child;
  for (const [map, entries] of kept) {
    map.clear();
    for (const [k, v] of entries) map.set(k, v);
  }
}

/** What came of each step, and the state after it. */
function play(kernel: string, cpu: string, steps: readonly Step[], way: Way): string[] {
  const rig = new Rig({ kernel, cpu, set: {} });
  const m = rig.machine;
  const { state, bus, agents } = m.sim;
  // Frames are wiped only while recording: what those of the set-up left would be overwritten in some ways and not in others.
  agents.stack.a.fill(0);
  state.startRecording();
  if (way === "listened") m.on("*", () => undefined);
  if (way === "stepped" || way === "turns") byPhases(m, way === "turns");
  const vmm = new Vmm(rig);
  const after: string[] = [];
  for (const step of steps) {
    if (way === "undone") tried(m, vmm, step);
    const out = perform(m, vmm, step);
    bus.flush();
    // Frames that a crash drops are not wiped: their words depend on the way.
    const hash = m.crashed === undefined ? state.hash() : "crashed";
    after.push(`${JSON.stringify(step)}: ${out}; ${bus.seq} ${agents.latest} ${hash}`);
    if (m.crashed !== undefined || out.includes("waits")) break;
  }
  return after;
}

/**
 * While agents take turns a fault of the VMM of several phases holds mmap_lock instead of the VMA's lock (src/mmu/useraccess.ts): other
 * events, so in these releases turns are compared without the VMM's own accesses.
 */
const PER_VMA_LOCK = ["v6.12", "v7.2"];
const guestOnly = (s: Step): boolean => !("program" in s && (s.program.op === "hw" || s.program.op === "hr"));

const RUNS = Number(process.env["RUNS"] ?? 1);

describe("a random program ends alike in every way", () => {
  const kernels = ["v4.0", "v5.4", "v5.14", "v6.1", "v6.12", "v7.2"];
  it.each(kernels)("%s", { timeout: 1e6 }, (kernel) => {
    for (let n = 0; n < RUNS; n++) {
      const seed = kernels.indexOf(kernel) + kernels.length * n;
      const cpu = seed % 4 < 2 ? "max" : "cortex-a72";
      const steps = program(seed, cpu);
      const want = play(kernel, cpu, steps, "listened");
      for (const way of ["quiet", "stepped", "undone"] as const) expect(play(kernel, cpu, steps, way), way).toEqual(want);
      const some = PER_VMA_LOCK.includes(kernel) ? steps.filter(guestOnly) : steps;
      expect(play(kernel, cpu, some, "turns"), "turns").toEqual(some === steps ? want : play(kernel, cpu, some, "listened"));
    }
  });
});
