/**
 * A program as a guest script: what the fuzzer found is an ordinary script that `faultline run` runs. Where a step came to something other than
 * success, the line behind it expects just that; behind the failing step stands what should have come of it.
 */
import { ADVICE, DEVICES, GUEST_OPS, isDevice, S1_SLOT, S1_TABLE, stage1Entries, type Op, type Program } from "./program.js";
import { MMU_OFF, MMU_ON } from "./rig.js";
import type { Failure, Target } from "./trial.js";
import { backingBase, LIVELOCK, mappedSize, type Outcome } from "./vmm.js";

const hex = (v: number): string => `0x${v.toString(16)}`;
const PROTS = ["PROT_NONE", "PROT_READ", "PROT_WRITE", "PROT_READ|PROT_WRITE"] as const;

export interface Story {
  readonly title: string;
  /** Lines of comment. */
  readonly remarks: readonly string[];
  /** Steps behind the others, of which nothing is expected. */
  readonly rest?: readonly Op[];
  /** Eras to run it under, instead of the target's. */
  readonly variants?: readonly string[];
}

/** @param outcomes what came of each step; @param failure what was wrong, and where */
export function scriptOf(
  program: Program,
  target: Target,
  outcomes: readonly Outcome[],
  failure: Failure | undefined,
  story: Story,
): string {
  const writer = new Writer();
  const lines = [
    `title ${JSON.stringify(story.title)}`,
    ...story.remarks.map((r) => `// ${r}`),
    "machine {",
    ...(story.variants === undefined ? [`  kernel ${target.kernel}`] : []),
    `  cpu ${program.cpu}`,
    `  devices ${Object.keys(DEVICES).join(", ")}`,
    `  livelock ${LIVELOCK}`,
    ...Object.entries(target.set).map(([k, v]) => `  set ${k} = ${v}`),
    "}",
    ...(story.variants ?? []).map((v) => `variant ${v}`),
    ...(program.ops.some((o) => o.op === "mmu" && o.on) ? stage1() : []),
  ];
  for (const [n, op] of program.ops.entries()) {
    const out = outcomes[n];
    if (out === undefined && failure?.step !== n) break;
    if (out?.how === "skipped") continue;
    lines.push(...writer.step(op, out?.how === "ok"));
    if (failure?.step === n) {
      if (failure.expect !== undefined) lines.push(failure.expect.replace("expect seen", `expect ${writer.seen}`));
      break;
    }
    lines.push(...expectations(out!));
  }
  for (const op of story.rest ?? []) lines.push(...writer.step(op, true));
  return `${lines.join("\n")}\n`;
}

/** What a step that was not plain success is expected to come to. */
function expectations(out: Outcome): string[] {
  switch (out.how) {
    case "ok":
    case "done":
      return [];
    case "exception":
      return ["expect exception"];
    case "stuck":
      return ["expect livelock"];
    case "crash":
      return [];
    default:
      if (out.how.startsWith("exit ")) return [`expect ${out.how}`];
      return [`expect errno ${out.how}`];
  }
}

/** The guest's stage-1 table, written by the VMM into a slot of its own. */
function stage1(): string[] {
  return [
    "let stage1Table = mmap(0, 4K)",
    `KVM_SET_USER_MEMORY_REGION(slot=${S1_SLOT}, guest_phys_addr=${hex(S1_TABLE)}, memory_size=4K, userspace_addr=stage1Table)`,
    ...stage1Entries().map(([i, d]) => `write64(stage1Table + ${8 * i}, 0x${d.toString(16)})`),
  ];
}

class Writer {
  private readonly devices = new Set<string>();
  private readonly backed = new Map<number, Extract<Op, { op: "back" }>>();
  private readonly slots = new Map<number, { gpa: number; size: number; hva: string; flags: number }>();
  private files = 0;
  private fileOf = new Map<number, string>();
  private forks = 0;

  private device(name: keyof typeof DEVICES): string[] {
    if (this.devices.has(name)) return [];
    this.devices.add(name);
    return [`let ${name} = vfio_open(${DEVICES[name].bdf})`];
  }

  /** @param ok the step was plain success */
  step(op: Op, ok: boolean): string[] {
    switch (op.op) {
      case "back":
        return this.back(op);
      case "slot": {
        const hva = hex(this.base(op.b) + op.off);
        return this.region(op.id, { gpa: op.gpa, size: op.size, hva, flags: op.flags }, ok);
      }
      case "slotflags":
        return this.region(op.id, { ...this.slots.get(op.id)!, flags: op.flags }, ok);
      case "slotmove":
        return this.region(op.id, { ...this.slots.get(op.id)!, gpa: op.gpa }, ok);
      case "slotdel":
        return this.region(op.id, { ...this.slots.get(op.id)!, size: 0 }, ok);
      case "guest":
        return [
          `guest { mov x0, ${hex(op.at)}; mov x1, ${hex(op.x1)}; mov x2, ${op.x2}; mov x4, 0; ${GUEST_OPS[op.what]!.code.join("; ")} }`,
        ];
      case "mmu":
        return [`guest { ${(op.on ? MMU_ON : MMU_OFF).join("; ")} }`];
      case "munmap":
        return [`munmap(${this.at(op)}, ${hex(op.len)})`];
      case "remap":
        return this.map(op.b, op.off, op.len);
      case "mapanon":
        return [`mmap(${this.at(op)}, ${hex(op.len)}, PROT_READ|PROT_WRITE, MAP_FIXED|MAP_PRIVATE|MAP_ANONYMOUS)`];
      case "mprotect":
        return [`mprotect(${this.at(op)}, ${hex(op.len)}, ${PROTS[op.prot] ?? op.prot})`];
      case "madvise":
        return [`madvise(${this.at(op)}, ${hex(op.len)}, ${op.advice in ADVICE ? op.advice : 0})`];
      case "ftruncate":
        return [`ftruncate(${this.fileOf.get(op.b)!}, ${hex(op.len)})`];
      case "punch":
        return [`fallocate(${this.fileOf.get(op.b)!}, 3, ${hex(op.off)}, ${hex(op.len)})`];
      case "age":
        return [`${op.test ? "test_young" : "clear_flush_young"}(${this.at(op)}, ${hex(op.len)})`];
      case "hw":
        return [`write${8 * op.size}(${this.at(op)}, ${hex(op.value)})`];
      case "hr":
        return [`let seen${++this.files} = read${8 * op.size}(${this.at(op)})`];
      case "fork":
        return [`let child${++this.forks} = fork()`];
      case "kill":
        return [`kill(child${this.forks})`];
      case "dirty":
        return [`KVM_GET_DIRTY_LOG(${op.id})`];
      case "cleardirty":
        return [`KVM_CLEAR_DIRTY_LOG(${op.id}, ${op.first}, ${op.n})`];
      case "cap":
        return [`KVM_ENABLE_CAP(${op.cap}, ${op.value})`];
      case "memory":
        return [...this.device(op.device), `pci_memory_enable(${op.device}, ${op.on ? 1 : 0})`];
      case "reset":
        return [...this.device(op.device), `VFIO_DEVICE_RESET(${op.device})`];
      case "affinity":
        return [`sched_setaffinity(vcpu0, ${op.cpu})`];
    }
  }
  /** The name of the value that the last `hr` gave. */
  get seen(): string {
    return `seen${this.files}`;
  }

  private base(b: number): number {
    return backingBase(b, this.backed.get(b)?.skew ?? 0);
  }
  private at(op: { readonly b: number; readonly off: number }): string {
    return hex(this.base(op.b) + op.off);
  }

  private back(op: Extract<Op, { op: "back" }>): string[] {
    const out: string[] = [];
    const old = this.backed.get(op.b);
    if (old !== undefined) out.push(`munmap(${hex(this.base(op.b))}, ${hex(mappedSize(old.kind, old.size))})`);
    this.backed.set(op.b, op);
    if (op.kind === "memfd" || op.kind === "filero") {
      const name = `file${++this.files}`;
      this.fileOf.set(op.b, name);
      out.push(op.kind === "memfd" ? `let ${name} = memfd_create("${name}")` : `let ${name} = open("${name}", ${hex(op.size)})`);
      if (op.kind === "memfd") out.push(`ftruncate(${name}, ${hex(op.size)})`);
    }
    if (isDevice(op.kind)) out.push(...this.device(op.kind));
    return [...out, ...this.map(op.b, 0, op.size)];
  }

  private map(b: number, off: number, length: number): string[] {
    const { kind } = this.backed.get(b)!;
    const addr = hex(this.base(b) + off);
    const prot = kind === "filero" ? "PROT_READ" : "PROT_READ|PROT_WRITE";
    const len = hex(length);
    if (isDevice(kind)) return [`mmap(${addr}, ${len}, ${prot}, MAP_FIXED|MAP_SHARED, ${kind}, bar${DEVICES[kind].bar} + ${hex(off)})`];
    if (kind === "memfd") return [`mmap(${addr}, ${len}, ${prot}, MAP_FIXED|MAP_SHARED, ${this.fileOf.get(b)!}, ${hex(off)})`];
    if (kind === "filero") return [`mmap(${addr}, ${len}, ${prot}, MAP_FIXED|MAP_PRIVATE, ${this.fileOf.get(b)!}, ${hex(off)})`];
    const map = `mmap(${addr}, ${len}, ${prot}, MAP_FIXED|MAP_PRIVATE|MAP_ANONYMOUS${kind === "hugetlb" ? "|MAP_HUGETLB" : ""})`;
    if (kind === "nohuge") return [map, `madvise(${addr}, ${len}, MADV_NOHUGEPAGE)`];
    return kind === "thp" ? [map, `madvise(${addr}, ${len}, MADV_HUGEPAGE)`] : [map];
  }

  private region(id: number, s: { gpa: number; size: number; hva: string; flags: number }, ok: boolean): string[] {
    if (ok && s.size > 0) this.slots.set(id, s);
    const flags = s.flags === 0 ? "0" : [s.flags & 1 ? "KVM_MEM_LOG_DIRTY_PAGES" : "", s.flags & 2 ? "KVM_MEM_READONLY" : ""].filter((f) => f !== "").join("|"); // prettier-ignore
    return [
      `KVM_SET_USER_MEMORY_REGION(slot=${id}, flags=${flags}, guest_phys_addr=${hex(s.gpa)}, memory_size=${hex(s.size)}, userspace_addr=${s.hva})`,
    ];
  }
}
