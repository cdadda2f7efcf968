/** What hostile inputs are made from: bundled scripts, recordings and litmus tests, traces of a run in every readable format, output of strace and QEMU. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compile } from "../guest/compile.js";
import { machineFor, machineWorld } from "../guest/machineworld.js";
import { DEFAULT_BUDGET } from "../guest/limits.js";
import { runProgram } from "../guest/run.js";
import type { TraceFormat } from "../trace/formats.js";
import { openTrace } from "../trace/opentrace.js";
import type { Door } from "./doors.js";
import type { Rng } from "./rng.js";

/** A file to break. `text` has one character for each byte where `binary`, else it is text. */
export interface Seed {
  readonly name: string;
  readonly text: string;
  readonly binary?: true;
  readonly doors: readonly Door[];
}

const SCRIPT_DOORS: readonly Door[] = ["run", "run", "run", "compare", "compare", "dump", "explain", "explore"];

const STRACE = `12 ioctl(9, KVM_CREATE_VM, 0x28) = 12
12 mmap(NULL, 138412032, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE, -1, 0) = 0x7fe000000000
12 mmap(0x7fe000000000, 134217728, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0) = 0x7fe000000000
12 madvise(0x7fe000000000, 134217728, MADV_HUGEPAGE) = 0
12 ioctl(12, KVM_SET_USER_MEMORY_REGION, {slot=0, flags=0, guest_phys_addr=0x80000000, memory_size=134217728, userspace_addr=0x7fe000000000}) = 0
12 mmap(NULL, 2097152, PROT_READ|PROT_WRITE, MAP_SHARED, 20<anon_inode:[vfio-device]>, 0x20000000000) = 0x7fdfe0000000
12 ioctl(12, KVM_SET_USER_MEMORY_REGION, {slot=2, flags=KVM_MEM_READONLY, guest_phys_addr=0x8000000000, memory_size=2097152, userspace_addr=0x7fdfe0000000}) = 0
12 ioctl(12, KVM_CREATE_VCPU, 0) = 13
15 ioctl(13, KVM_RUN <unfinished ...>
12 munmap(0x7fdfe0000000, 2097152) = 0
15 <... ioctl resumed>, 0) = 0
15 ioctl(13, KVM_RUN, 0) = -1 EINTR (Interrupted system call)
`;
const MTREE = `FlatView #1
 AS "memory", root: system
 Root memory region: system
  0000000000000000-0000000003ffffff (prio 0, romd): virt.flash0 KVM
  0000000008000000-0000000008000fff (prio 0, i/o): gic_dist
  0000000080000000-00000000800fffff (prio 0, ram): mach-virt.ram KVM
  0000000080100000-00000000801fffff (prio 0, ram): mach-virt.ram @0000000000100000 KVM
  0000008000000000-00000080001fffff (prio 0, ramd): 0000:01:00.0 BAR 1 mmaps[0] KVM
`;
const IMPORTS: readonly Seed[] = [
  { name: "strace of a VMM", text: STRACE, doors: ["strace"] },
  { name: "info mtree -f", text: MTREE, doors: ["mtree"] },
];

/** A short run with many kinds of events: 434 of 56 kinds. */
const TRACED = "scenarios/2023-nc-dmabuf-memslot.guest";
const FORMATS: readonly TraceFormat[] = ["trace.dat", "trace.dat-v7", "ftrace", "chrome", "jsonl"];
let traced: readonly Seed[] | undefined;

/** That run's trace in each format that can be read, made once in a process. */
function traces(folder: string): readonly Seed[] {
  if (traced !== undefined) return traced;
  const program = compile(TRACED, readFileSync(join(folder, TRACED), "utf8"), machineWorld);
  const variant = program.variants[0]!;
  const { name, kernel, cpu, set } = variant;
  const at = mkdtempSync(join(tmpdir(), "faultline-"));
  try {
    const machine = machineFor(program.machine, variant);
    const sinks = FORMATS.map((format) => openTrace(join(at, format), machine.sim, { variant: name, kernel, cpu, set }, { format }));
    const stops = sinks.map((sink) => machine.sim.bus.stream(sink.take, sink.calls));
    runProgram(program, variant, machine, { budget: DEFAULT_BUDGET, detail: "none" });
    for (const stop of stops) stop();
    for (const sink of sinks) sink.finish();
    return (traced = FORMATS.map((format) => {
      const text = readFileSync(join(at, format), "latin1");
      return format.startsWith("trace.dat")
        ? { name: format, text, binary: true as const, doors: ["diff"] as const }
        : { name: `${format} trace`, text: Buffer.from(text, "latin1").toString("utf8"), doors: ["diff"] as const };
    }));
  } finally {
    rmSync(at, { recursive: true, force: true });
  }
}

/** Scripts, recordings and litmus tests that come with Faultline, as paths in its folder. */
export function bundledFiles(folder: string): string[] {
  const scripts = readdirSync(join(folder, "scenarios")).filter((f) => f.endsWith(".guest"));
  const litmus = readdirSync(join(folder, "litmus")).filter((f) => f.endsWith(".litmus"));
  const recordings = readdirSync(join(folder, "recordings"), { recursive: true, encoding: "utf8" }).filter((f) => f.endsWith(".rec"));
  return [...scripts.map((f) => `scenarios/${f}`), ...litmus.map((f) => `litmus/${f}`), ...recordings.map((f) => `recordings/${f}`)].sort();
}

const doorsOf = (name: string): readonly Door[] =>
  name.endsWith(".guest") ? SCRIPT_DOORS : name.endsWith(".litmus") ? ["litmus"] : ["conform"];

/** A few tests of a file: a whole one is a hundred searches. */
function someTests(rng: Rng, text: string): string {
  const tests = text.split(/^(?=test )/m);
  const at = rng.below(tests.length);
  return tests.slice(at, at + 1 + rng.below(3)).join("");
}

const whole = (_rng: Rng, text: string): string => text;

/** The beginning of a recording, up to one of its commands: a change near its end is not behind all the rest each time. */
function beginning(rng: Rng, text: string): string {
  const steps = text.split(/^(?=> )/m);
  return steps.slice(0, 2 + rng.below(steps.length)).join("");
}

/** The files that one unit changes. @param names as `bundledFiles` gives them */
export function chosenSeeds(folder: string, names: readonly string[], rng: Rng): readonly Seed[] {
  const some = (prefix: string, n: number): string[] => {
    const of = names.filter((f) => f.startsWith(prefix));
    return of.length === 0 ? [] : Array.from({ length: n }, () => rng.pick(of));
  };
  const files = [...some("scenarios/", 6), ...some("recordings/", 2), ...some("litmus/", 1)];
  return [
    ...files.map((name) => {
      const text = readFileSync(join(folder, name), "utf8");
      const part = name.endsWith(".litmus") ? someTests : name.endsWith(".rec") ? beginning : whole;
      return { name, text: part(rng, text), doors: doorsOf(name) };
    }),
    rng.pick(traces(folder)),
    rng.pick(IMPORTS),
  ];
}
