/**
 * Every branch of kvm_handle_guest_abort and user_mem_abort that ends a fault is driven through the
 * public API, and the cause chain of that fault names it.
 */
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parseRecording } from "../../src/conform/recording.js";
import { Replayer } from "../../src/conform/replay.js";
import { ERAS } from "../../src/eras.js";
import { causes } from "../../src/guest/cause.js";
import type { EventRecord } from "../../src/sim/events.js";
import { FAMILIES, script } from "./scripts.js";
import { compile } from "../../src/guest/compile.js";
import { DEFAULT_BUDGET } from "../../src/guest/limits.js";
import { machineFor, machineWorld } from "../../src/guest/machineworld.js";
import { runProgram } from "../../src/guest/run.js";

/** The names that a file emits as branches. */
function branchesOf(file: string): string[] {
  const text = readFileSync(file, "utf8");
  const names = [...text.matchAll(/this\.branch\((.*)\);/g)].flatMap((m) =>
    [...m[1]!.matchAll(/\bn(?:\["([^"]+)"\]|\.(\w+))/g)].map((n) => n[1] ?? n[2]!),
  );
  return [...new Set(names)];
}

/** Branches that nothing outside the kernel can reach in this model, with the reason. */
const UNREACHED: Readonly<Record<string, string>> = {
  "external abort claimed or SError": "no modelled bus raises an external abort; test/kvm/guestabort.test.ts drives it with a syndrome",
  "external abort to userspace": "likewise",
  "invalid HPFAR": "likewise: only external aborts leave HPFAR invalid",
  "unsupported fault status": "likewise: the modelled CPU raises no such stage-2 status",
  "unsupported exclusive: data abort": "the default CPU does atomics on every type",
  "exclusive on valid memory": "likewise",
  "read permission fault": "KVM never takes read permission away; test/kvm/guestabort.test.ts drives it with a syndrome",
  "access flag": "needs aging on a CPU without FEAT_HAFDBS: test/kvm/notifier.test.ts",
  "COW PFNMAP refused": "a decision that no release has: test/kvm/usermemabort.test.ts",
  "shared VMA in an MTE VM": "needs a VM with MTE whose slot's VMA is replaced by a shared one: test/kvm/faultdecisionrows.test.ts",
  "host entry vanished": "needs another thread between the lookup and the lock, finer than one phase",
};

/** A stage-1 table of the data side in a read-only slot: up to v6.1 the walk counts as a write. */
const READ_ONLY_TABLE = `
> vm
> back T nohuge 0x200000
> back F nohuge 0x200000
> slot 1 0x80000000 0x200000 T 0 -
> slot 2 0x90000000 0x200000 F 0 ro
> hw T 0 0x0060000000000401
> hw T 0x8 0x0040000040000705
> hw T 0x18 0x90000003
> op mmuon 0x80000000 0xff00 0x200803519 0x30d0199d
> op ldr64 0xc0000000
`;

/** Chains of faults by the branch that answered them. */
function collect(events: readonly EventRecord[], seen: Map<string, string[][]>): void {
  const told = causes(events);
  for (const e of events) {
    if (e.event !== "branch") continue;
    const name = String(e["branch"]);
    const chain = told.find((c) => c.agent === e.agent && c.from <= e.seq && e.seq <= c.to)?.chain;
    const list = seen.get(name) ?? [];
    if (list.length < 50) list.push(chain === undefined ? [] : [...chain]);
    seen.set(name, list);
  }
}

/** Branches that end a fault with something else than a mapping: their chain must name them. */
const ENDINGS = [
  "fetch without memslot",
  "fetch whose walk writes a read-only memslot",
  "stage-1 walk without memslot",
  "stage-1 walk writes a read-only memslot",
  "no VMA at the address",
  "error pfn",
  "execute from device memory",
  "refused fetch: prefetch abort",
  "refused fetch: exit to userspace",
];

test("every branch of the fault path is reached through the public API, and the chain of a refused fault names it", () => {
  const seen = new Map<string, string[][]>();
  for (const era of ERAS) {
    for (const family of FAMILIES) {
      if (family === "bars1") continue; // an endless loop in some eras
      const events: EventRecord[] = [];
      const recording = script(family, era.name);
      const replayer = new Replayer(recording, { onEvent: (e) => events.push(e) });
      for (const step of recording.steps) replayer.step(step);
      collect(events, seen);
    }
  }
  const readOnlyTable = parseRecording("read-only table", `# kernel v6.1, cpu max\nscenario table${READ_ONLY_TABLE}`);
  {
    const events: EventRecord[] = [];
    const replayer = new Replayer(readOnlyTable, { onEvent: (e) => events.push(e) });
    for (const step of readOnlyTable.steps) replayer.step(step);
    collect(events, seen);
  }
  for (const file of ["f5_hwpoison", "j_s1ptw", "b_ro_slot", "c2_unbacked_cmo", "v1_vfio_ivshmem"].map(
    (n) => `recordings/v6.12.117/max/${n}.rec`,
  )) {
    const events: EventRecord[] = [];
    const recording = parseRecording(file, readFileSync(file, "utf8"));
    const replayer = new Replayer(recording, { onEvent: (e) => events.push(e) });
    for (const step of recording.steps) replayer.step(step);
    collect(events, seen);
  }
  for (const name of readdirSync("scenarios")) {
    const program = compile(name, readFileSync(`scenarios/${name}`, "utf8"), machineWorld);
    for (const variant of program.variants) {
      const machine = machineFor(program.machine, variant);
      const events: EventRecord[] = [];
      machine.sim.bus.on("*", (e) => {
        if (events.length < 20_000) events.push(e);
      });
      runProgram(program, variant, machine, { budget: DEFAULT_BUDGET, detail: "story" });
      collect(events, seen);
    }
  }
  const all = [...branchesOf("src/kvm/guestabort.ts"), ...branchesOf("src/kvm/usermemabort.ts")];
  const missing = all.filter((b) => !seen.has(b) && UNREACHED[b] === undefined);
  expect(missing).toEqual([]);
  const unnamed = ENDINGS.filter((b) => !(seen.get(b) ?? []).some((chain) => chain.some((l) => l.includes(b))));
  expect(unnamed).toEqual([]);
}, 120_000);
