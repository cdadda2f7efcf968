/** Runs scripts and made-up records into trace sinks. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { compile } from "../../src/guest/compile.js";
import { DEFAULT_BUDGET } from "../../src/guest/limits.js";
import { machineFor, machineWorld } from "../../src/guest/machineworld.js";
import { runProgram } from "../../src/guest/run.js";
import { eventCatalogue, RECORD_WORDS, type EventDecl, type EventRecord } from "../../src/sim/events.js";
import { Sim } from "../../src/sim/sim.js";
import type { TraceFormat } from "../../src/trace/formats.js";
import { openTrace } from "../../src/trace/opentrace.js";

export const META = { variant: "v6.12", kernel: "v6.12", cpu: "max", set: {} };
export const folder = (): string => mkdtempSync(join(tmpdir(), "faultline-trace-"));

/** Whether this machine has trace-cmd: tests that need it say so when they skip. */
export const traceCmd = spawnSync("trace-cmd", ["--version"]).error === undefined;
export const WITH_TRACE_CMD = !traceCmd ? "SKIPPED, trace-cmd is not installed (apt-get install trace-cmd; CI has it): " : "trace-cmd: ";

/** Lines of `trace-cmd report -N -t`, without its first line, the number of CPUs. */
export function report(file: string, ...options: string[]): string[] {
  const out = execFileSync("trace-cmd", ["report", "-N", "-t", ...options, "-i", file], { encoding: "utf8", maxBuffer: 1 << 28 });
  return out.trimEnd().split("\n").slice(1);
}

/** Two vCPUs and a VMM; a fault races with an invalidation. */
export const RACE = `
let ram = mmap(0, 4M, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS)
madvise(ram, 4M, MADV_NOHUGEPAGE)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x80000000, memory_size=4M, userspace_addr=ram)
for i in 0 .. 8 { write32(ram + i * 0x1000, 1) }
par {
  guest vcpu0 { ldr x0, [0x80000000]; ldr x0, [0x80001000]; str x0, [0x90000000] }
  guest vcpu1 { ldr x0, [0x80002000]; ldr x0, [0x80003000] }
  vmm { for i in 0 .. 40 { madvise(ram, 4M, MADV_DONTNEED) } }
}
`;

/** Runs a script's first variant into one file per format. @returns the events, and the files' paths */
export function traced<F extends TraceFormat>(
  source: string,
  formats: readonly F[],
  dir = folder(),
): { events: EventRecord[]; files: Record<F, string> } {
  const program = compile("t.guest", source, machineWorld);
  const variant = program.variants[0]!;
  const machine = machineFor(program.machine, variant);
  const files = Object.fromEntries(formats.map((f) => [f, join(dir, `t.${f}`)])) as Record<F, string>;
  const sinks = formats.map((format) => openTrace(files[format], machine.sim, META, { format }));
  const events: EventRecord[] = [];
  runProgram(program, variant, machine, {
    budget: DEFAULT_BUDGET,
    detail: "none",
    attach: () => {
      const stops = sinks.map((s) => machine.sim.bus.stream(s.take, s.calls));
      stops.push(machine.sim.bus.on("*", (e) => events.push(e)));
      return () => stops.forEach((stop) => stop());
    },
  });
  for (const s of sinks) s.finish();
  return { events, files };
}
export const text = (file: string): string => readFileSync(file, "utf8");

/** A simulation with agents, and records of every event with these values. */
export interface MadeUp {
  readonly sim: Sim;
  readonly ring: Float64Array;
  readonly records: number;
}

const wordOf = (kind: string, e: EventDecl, f: string): fc.Arbitrary<number> => {
  const field = e.fields.find((x) => x.name === f)!;
  switch (kind) {
    case "enum":
      return fc.nat({ max: field.values!.length - 1 });
    case "bool":
      return fc.nat({ max: 1 });
    case "dec":
      return fc.oneof(fc.integer({ min: -200, max: 200 }), fc.integer());
    case "hex":
      return fc.oneof(fc.nat(0xffff), fc.maxSafeNat());
    default:
      return fc.integer();
  }
};

const NAMES = ["mmap_lock", "user_mem_abort", "", "a name of several words"];

/** Records of all events in the order of the catalogue, each with random fields, agents and times. */
export const madeUp = (): fc.Arbitrary<MadeUp> =>
  fc
    .tuple(
      ...eventCatalogue().map((e) =>
        fc.tuple(
          fc.nat(2),
          fc.oneof(fc.nat(1000), fc.nat(2 ** 31)),
          fc.tuple(...e.fields.flatMap((f) => (f.kind === "hex64" ? [fc.integer(), fc.integer()] : [wordOf(f.kind, e, f.name)]))),
          fc.nat(NAMES.length - 1),
        ),
      ),
    )
    .map((all) => {
      const sim = new Sim();
      sim.agents.add("vmm", "vmm", 0);
      sim.agents.add("vcpu0", "vcpu", 0);
      sim.agents.add("khugepaged", "kthread", 1);
      const ring = new Float64Array(all.length * RECORD_WORDS);
      const clocks = [0, 0, 0];
      all.forEach(([agent, gap, words, name], i) => {
        const e = eventCatalogue()[i]!;
        const at = i * RECORD_WORDS;
        clocks[agent] = clocks[agent]! + gap;
        ring.set([i, clocks[agent]!, agent, e.id, ...words], at);
        let w = at + 4;
        for (const f of e.fields) {
          if (f.kind === "name") ring[w] = sim.bus.name(NAMES[name]!);
          w += f.kind === "hex64" ? 2 : 1;
        }
      });
      return { sim, ring, records: all.length, [fc.toStringMethod]: () => Array.from(ring).join(" ") };
    });

/** Writes made-up records into a file. */
export function write(m: MadeUp, format: TraceFormat, file: string): void {
  const sink = openTrace(file, m.sim, META, { format });
  sink.take(m.ring, 0, m.records);
  sink.finish();
}
