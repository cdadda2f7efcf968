/** Makes up programs, and changes those that were worth keeping. A seed decides everything. */
import {
  ADVICE,
  ALIASES,
  ALIAS_BYTES,
  DEVICES,
  GUEST_OPS,
  isDevice,
  LOG,
  RO,
  type Advice,
  type DeviceName,
  type Kind,
  type Op,
  type Program,
} from "./program.js";
import type { Rng } from "./rng.js";

const PAGE = 4096;
const BLOCK = 2 << 20;
const KIND_WEIGHTS: Readonly<Record<Kind, number>> = {
  nohuge: 4,
  thp: 5,
  anon: 3,
  memfd: 4,
  hugetlb: 3,
  filero: 2,
  ivshmem: 6,
  edu: 1,
  testdev: 1,
};
const PLACES = [0x80000000, 0xc0000000, 0x100000000, 0x140000000] as const;
const SIZES = [PAGE, 2 * PAGE, 16 * PAGE, BLOCK, BLOCK + PAGE, 2 * BLOCK, 2 * BLOCK - PAGE] as const;
const GUEST_WEIGHTS: Readonly<Record<string, number>> = Object.fromEntries(
  Object.keys(GUEST_OPS).map((name) => [name, name === "ldr64" || name === "str64" ? 12 : GUEST_OPS[name]!.exotic === true ? 2 : 3]),
);
const FLAG_WEIGHTS = { "0": 6, "1": 4, "2": 1, "3": 1 } as const;
const STEP_WEIGHTS = {
  guest: 30,
  hw: 4,
  hr: 4,
  munmap: 3,
  remap: 3,
  mapanon: 1,
  mprotect: 3,
  madvise: 6,
  file: 2,
  age: 1,
  fork: 1,
  dirty: 4,
  cleardirty: 1,
  slotflags: 4,
  slot: 2,
  slotmove: 1,
  slotdel: 1,
  mmu: 2,
  memory: 2,
  reset: 1,
  back: 1,
  affinity: 1,
} as const;
const ADVICES = Object.keys(ADVICE) as Advice[];

/** What the generator remembers of its own steps, so that later ones meet them: nothing of what came of them. */
interface Plan {
  readonly backs: Map<number, { readonly kind: Kind; readonly size: number }>;
  readonly slots: Map<number, { readonly gpa: number; readonly size: number; readonly b: number; readonly off: number }>;
  mmu: boolean;
}

export function generate(rng: Rng, cpu: string): Program {
  const plan: Plan = { backs: new Map(), slots: new Map(), mmu: false };
  const ops: Op[] = [];
  const add = (op: Op): void => {
    ops.push(op);
    follow(plan, op);
  };
  if (rng.once(5)) add({ op: "cap", cap: 168, value: rng.pick([1, 3]) });
  const backs = 1 + rng.below(3);
  for (let b = 0; b < backs; b++) {
    add(back(rng, b));
    add(slot(rng, plan, b + 1, b));
  }
  const steps = 6 + rng.below(26);
  for (let n = 0; n < steps; n++) add(step(rng, plan));
  return { cpu, ops };
}

/** Another program of what this one is made of: steps taken out, put in, doubled, moved, changed; or two spliced. */
export function mutate(rng: Rng, from: Program, other: Program | undefined): Program {
  let ops = [...from.ops];
  if (other !== undefined && rng.once(4)) ops = [...ops.slice(0, rng.below(ops.length)), ...other.ops.slice(rng.below(other.ops.length))];
  const times = 1 + rng.below(4);
  for (let n = 0; n < times; n++) {
    const at = rng.below(ops.length + 1);
    switch (rng.below(5)) {
      case 0:
        ops.splice(at, 1);
        break;
      case 1:
      case 2: {
        const plan: Plan = { backs: new Map(), slots: new Map(), mmu: false };
        for (const op of ops.slice(0, at)) follow(plan, op);
        ops.splice(at, 0, step(rng, plan));
        break;
      }
      case 3:
        if (at < ops.length) ops.splice(rng.below(ops.length + 1), 0, ops[at]!);
        break;
      case 4:
        if (at < ops.length) ops[at] = tweak(rng, ops[at]!);
    }
  }
  return { cpu: from.cpu, ops: ops.slice(0, 64) };
}

function follow(plan: Plan, op: Op): void {
  if (op.op === "back") plan.backs.set(op.b, op);
  else if (op.op === "slot") plan.slots.set(op.id, op);
  else if (op.op === "slotdel") plan.slots.delete(op.id);
  else if (op.op === "slotmove") {
    const s = plan.slots.get(op.id);
    if (s !== undefined) plan.slots.set(op.id, { ...s, gpa: op.gpa });
  } else if (op.op === "mmu") plan.mmu = op.on;
}

function back(rng: Rng, b: number): Op {
  const kind = rng.weighted(KIND_WEIGHTS);
  const size = isDevice(kind)
    ? Math.min(DEVICES[kind].size, rng.pick(SIZES))
    : kind === "hugetlb"
      ? BLOCK * (1 + rng.below(2))
      : rng.pick(SIZES);
  const skew = kind !== "hugetlb" && rng.once(4) ? PAGE * rng.pick([1, 2, 256, 511]) : 0;
  return { op: "back", b, kind, size, skew };
}

/** Places of interest in a range: its ends, the blocks' borders, and anywhere. */
function offset(rng: Rng, size: number): number {
  const near = rng.pick([0, 0, PAGE, BLOCK - PAGE, BLOCK, size - PAGE, PAGE * rng.below(Math.max(1, size / PAGE))]);
  return Math.max(0, Math.min(size - PAGE, near));
}

function slot(rng: Rng, plan: Plan, id: number, b: number): Op {
  const { size } = plan.backs.get(b) ?? { size: BLOCK };
  const whole = !rng.once(4);
  const off = whole ? 0 : offset(rng, size);
  const length = whole ? size : Math.max(PAGE, Math.min(size - off, rng.pick(SIZES)));
  const gpa = rng.pick(PLACES) + rng.pick([0, 0, 0, BLOCK, 2 * BLOCK, PAGE, PAGE * 3, BLOCK - PAGE]);
  const flags = rng.weighted(FLAG_WEIGHTS);
  return { op: "slot", id, gpa, size: length, b, off, flags: Number(flags) };
}

const anyOf = <K, V>(rng: Rng, map: ReadonlyMap<K, V>): [K, V] | undefined => (map.size === 0 ? undefined : rng.pick([...map]));

function guest(rng: Rng, plan: Plan): Op {
  const what = rng.weighted(GUEST_WEIGHTS);
  const s = anyOf(rng, plan.slots);
  const size = Math.max(8, GUEST_OPS[what]!.bytes);
  let at = 0x20000000;
  if (s !== undefined && !rng.once(20)) {
    const inside = rng.pick([0, 0, 0, 8, 64, PAGE - size, PAGE - 4, 1, PAGE]);
    at = s[1].gpa + offset(rng, s[1].size) + inside;
  }
  if (plan.mmu && rng.once(2)) at += ALIAS_BYTES * rng.below(ALIASES.length);
  return { op: "guest", what, at, x1: rng.word(), x2: rng.below(4) };
}

function range(rng: Rng, size: number): { off: number; len: number } {
  if (rng.once(4)) return { off: 0, len: size };
  const off = offset(rng, size);
  return { off, len: rng.pick([PAGE, PAGE, 2 * PAGE, BLOCK, size - off]) };
}

function step(rng: Rng, plan: Plan): Op {
  const [b, it] = anyOf(rng, plan.backs) ?? [0, { kind: "anon" as Kind, size: BLOCK }];
  const [id] = anyOf(rng, plan.slots) ?? [1];
  switch (rng.weighted(STEP_WEIGHTS)) {
    case "guest":
      return guest(rng, plan);
    case "hw": {
      const size = rng.pick([1, 2, 4, 8]);
      return { op: "hw", b, off: offset(rng, it.size) + size * rng.below(4), size, value: rng.word() };
    }
    case "hr":
      return { op: "hr", b, off: offset(rng, it.size), size: rng.pick([1, 2, 4, 8]) };
    case "munmap":
      return { op: "munmap", b, ...range(rng, it.size) };
    case "remap":
      return { op: "remap", b, ...range(rng, it.size) };
    case "mapanon":
      return { op: "mapanon", b, off: offset(rng, it.size), len: PAGE };
    case "mprotect":
      return { op: "mprotect", b, ...range(rng, it.size), prot: rng.pick([0, 1, 1, 3, 3]) };
    case "madvise":
      return { op: "madvise", b, ...range(rng, it.size), advice: rng.pick(ADVICES) };
    case "file":
      return rng.once(2)
        ? { op: "ftruncate", b, len: rng.pick([0, PAGE, BLOCK, it.size, it.size - PAGE, 100]) }
        : { op: "punch", b, ...range(rng, it.size) };
    case "age":
      return { op: "age", b, ...range(rng, it.size), test: rng.once(2) };
    case "fork":
      return { op: rng.pick(["fork", "kill"]) };
    case "dirty":
      return { op: "dirty", id };
    case "cleardirty":
      return { op: "cleardirty", id, first: 64 * rng.below(8), n: rng.pick([64, 128, 512]) };
    case "slotflags":
      return { op: "slotflags", id, flags: rng.pick([0, LOG, LOG, LOG, RO]) };
    case "slot":
      return slot(rng, plan, 1 + rng.below(4), b);
    case "slotmove":
      return { op: "slotmove", id, gpa: rng.pick(PLACES) + rng.pick([0, BLOCK, PAGE]) };
    case "slotdel":
      return { op: "slotdel", id };
    case "mmu":
      return { op: "mmu", on: !plan.mmu || rng.once(3) };
    case "memory":
      return { op: "memory", device: deviceOf(rng, plan), on: rng.once(2) };
    case "reset":
      return { op: "reset", device: deviceOf(rng, plan) };
    case "back":
      return back(rng, rng.below(4));
    case "affinity":
      return { op: "affinity", cpu: rng.below(4) };
  }
}

/** A device that is mapped, if there is one. */
function deviceOf(rng: Rng, plan: Plan): DeviceName {
  const mapped = [...plan.backs.values()].flatMap(({ kind }) => (isDevice(kind) ? [kind] : []));
  return mapped.length === 0 ? "ivshmem" : rng.pick(mapped);
}

/** One number of a step, changed a little. */
function tweak(rng: Rng, op: Op): Op {
  const numbers = Object.entries(op).filter(([key, v]) => typeof v === "number" && key !== "b" && key !== "id");
  if (numbers.length === 0) return op;
  const [key, value] = rng.pick(numbers) as [string, number];
  const page = ["off", "len", "size", "gpa", "at"].includes(key) && op.op !== "hw" && op.op !== "hr";
  const by = page ? rng.pick([PAGE, -PAGE, BLOCK, -BLOCK]) : 1;
  const least = key === "size" || key === "len" || key === "n" ? (page ? PAGE : 1) : 0;
  if (key === "prot" || key === "flags" || key === "size" || key === "cap")
    return page ? { ...op, [key]: Math.max(least, value + by) } : op;
  return { ...op, [key]: Math.max(least, value + by) };
}
