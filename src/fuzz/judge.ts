/** Compares what came of a step with what the shadow says must come of it. */
import { GUEST_OPS, LOG, RO, type GuestOp, type Op } from "./program.js";
import { byteOf, type Shadow } from "./shadow.js";
import type { Backing, Outcome } from "./vmm.js";

const PAGE = 4096;
const RET = 0xd65f03c0;

/** Something that must not be. */
export interface Finding {
  /** Short and without numbers: two failures with the same are taken for one. */
  readonly kind: string;
  readonly text: string;
  /** What a script would expect instead: a line behind the step. */
  readonly expect?: string;
}

/** Whether a step may be taken: the guest is not sent where it would execute what nobody wrote as code. */
export function sensible(op: Op, shadow: Shadow): boolean {
  if (op.op !== "guest") return true;
  if (op.what !== "fetch") return true;
  const where = shadow.ipaOf(op.at);
  if (where === undefined) return true;
  if (op.at % 4 !== 0) return false;
  if (shadow.isCode(where.ipa)) return false;
  const s = shadow.slotAt(where.ipa);
  if (s === undefined) return true;
  const hva = s.hva + where.ipa - s.gpa;
  const m = shadow.mappingAt(hva);
  if (m === undefined) return true;
  const word = [0, 1, 2, 3].map((i) => shadow.byte(hva + i));
  if (word.some((b) => b === undefined)) return false;
  const value = word.reduce<number>((n, b, i) => n + b! * 2 ** (8 * i), 0);
  return value === 0 || value === RET;
}

/** Judges a step, and takes up what it did to memory. To be called before `shadow.apply`. */
export function judge(op: Op, out: Outcome, shadow: Shadow, backings: ReadonlyMap<number, Backing>): Finding | undefined {
  if (out.how === "skipped") return undefined;
  switch (op.op) {
    case "guest":
      return judgeGuest(op, GUEST_OPS[op.what]!, out, shadow);
    case "hr":
    case "hw": {
      const b = backings.get(op.b);
      return b === undefined ? undefined : judgeHost(op, b.base + op.off, out, shadow);
    }
    case "dirty":
      return judgeDirty(op.id, out, shadow);
    case "cleardirty": {
      const s = shadow.slots.get(op.id);
      if (out.how === "ok" && s !== undefined)
        for (let p = op.first; p < op.first + op.n; p++) {
          s.dirty.delete(p);
          s.tried.delete(p);
        }
      return undefined;
    }
    default:
      return undefined;
  }
}

const hex = (v: number | bigint): string => `0x${v.toString(16)}`;

function judgeGuest(op: Extract<Op, { op: "guest" }>, g: GuestOp, out: Outcome, shadow: Shadow): Finding | undefined {
  const completed = out.how === "done";
  const start = shadow.ipaOf(op.at);
  // What every byte lies in: stage 1, slot, mapping.
  let clear = !(g.exotic === true) && op.at % Math.max(1, g.bytes) === 0;
  let slots = 0;
  let expected = 0n;
  let known = true;
  const places: number[] = [];
  for (let i = 0; i < g.bytes; i++) {
    const va = op.what === "zva" ? op.at - (op.at % 64) + i : op.at + i;
    const where = shadow.ipaOf(va);
    const s = where === undefined ? undefined : shadow.slotAt(where.ipa);
    if (where === undefined || s === undefined) {
      clear = known = false;
      continue;
    }
    slots++;
    const hva = s.hva + where.ipa - s.gpa;
    places.push(hva);
    const m = shadow.mappingAt(hva);
    const write = g.writes === true;
    if (completed && out.mmio === 0 && i === 0 && (g.reads === true || write)) {
      if (m === undefined)
        return {
          kind: "access to memory that is gone",
          text: `${op.what} at ${hex(op.at)} succeeded, though nothing is mapped at ${hex(hva)} in the VMM`,
          expect: "expect errno EFAULT",
        };
      if (write && (s.flags & RO) !== 0)
        return {
          kind: "store through a read-only slot",
          text: `${op.what} at ${hex(op.at)} succeeded without an exit in a read-only slot`,
          expect: `expect exit MMIO write addr=${hex(where.ipa)}`,
        };
      if (write && m.prot !== undefined && (m.prot & 2) === 0)
        return {
          kind: "store to memory without PROT_WRITE",
          text: `${op.what} at ${hex(op.at)} succeeded, though the VMM itself may not write ${hex(hva)}`,
          expect: "expect errno EFAULT",
        };
      // follow_pfnmap_start (follow_pte before) takes an entry that is present under PROT_NONE too: a PFNMAP page stays readable.
      if (m.prot === 0 && m.page.device === undefined)
        return {
          kind: "access to memory without PROT_READ",
          text: `${op.what} at ${hex(op.at)} succeeded, though ${hex(hva)} is PROT_NONE`,
          expect: "expect errno EFAULT",
        };
      if (write && where.readOnly)
        return {
          kind: "store through a read-only stage-1 entry",
          text: `${op.what} at ${hex(op.at)} succeeded`,
          expect: "expect exception",
        };
    }
    if (m === undefined || !shadow.permits(m, write) || (write && ((s.flags & RO) !== 0 || where.readOnly))) clear = false;
    const byte = m === undefined ? undefined : shadow.byte(hva);
    if (byte === undefined) known = false;
    else expected |= BigInt(byte) << BigInt(8 * i);
    // user_mem_abort withholds writing under a log from memory alone: a page of a device is mapped writable by a load, and marked dirty.
    if ((write || m?.page.device !== undefined) && (s.flags & LOG) !== 0) shadow.wrote(where.ipa, write && completed && out.mmio === 0);
  }
  // What is read beyond may be a page of a device, too.
  const beyond = g.reach === undefined ? undefined : shadow.ipaOf(op.at + g.reach - 1);
  if (beyond !== undefined) shadow.wrote(beyond.ipa, false);
  if (g.bytes === 0 && start !== undefined) shadow.wrote(start.ipa, false);
  if (clear && slots === g.bytes && g.bytes > 0 && !completed)
    return {
      kind: `refused: ${out.how === "exception" ? `exception class ${hex(out.esr >>> 26)}` : out.how}`,
      text: `${op.what} at ${hex(op.at)} came to: ${out.how}, though nothing is in its way`,
      expect: "expect ok",
    };
  let finding: Finding | undefined;
  if (completed && out.mmio === 0 && g.reads === true && g.bytes <= 8 && slots === g.bytes) {
    if (known) {
      const want = extended(expected, g);
      if (want !== out.value)
        finding = {
          kind: "a load saw other bytes than were stored",
          text: `${op.what} at ${hex(op.at)} gave ${hex(out.value)}, memory holds ${hex(want)}`,
          expect: `expect x4 == ${hex(want)}`,
        };
    } else if (g.signed === undefined) for (const [i, hva] of places.entries()) shadow.learn(hva, byteOf(out.value, i));
  }
  // A store that did not complete has written nothing, except the first part of one over two pages.
  if (g.writes === true && slots > 0) {
    const over = Math.floor(op.at / PAGE) !== Math.floor((op.at + g.bytes - 1) / PAGE);
    if (completed && out.mmio === 0 && slots === g.bytes) {
      const value = op.what === "zva" ? 0n : BigInt(op.x1);
      for (const [i, hva] of places.entries()) shadow.put(hva, byteOf(value, i));
    } else if (over || out.mmio > 0) for (const hva of places) if (writable(shadow, hva)) shadow.put(hva, undefined);
  }
  return finding;
}

/** Might a store that half failed have reached this byte? */
function writable(shadow: Shadow, hva: number): boolean {
  const m = shadow.mappingAt(hva);
  return m !== undefined && m.prot !== 1 && m.prot !== 0;
}

function extended(value: bigint, g: GuestOp): bigint {
  if (g.signed === undefined) return value;
  return BigInt.asUintN(g.signed, BigInt.asIntN(8 * g.bytes, value));
}

function judgeHost(op: Extract<Op, { op: "hr" | "hw" }>, hva: number, out: Outcome, shadow: Shadow): Finding | undefined {
  const write = op.op === "hw";
  const ms = Array.from({ length: op.size }, (_, i) => shadow.mappingAt(hva + i));
  const what = `the VMM's ${write ? "store" : "load"} at ${hex(hva)}`;
  if (out.how === "ok" && ms[0] === undefined)
    return { kind: "the VMM reached memory that is gone", text: `${what} succeeded`, expect: "expect errno SIGSEGV" };
  if (out.how === "ok" && write && ms[0]!.prot !== undefined && (ms[0]!.prot & 2) === 0)
    return { kind: "the VMM stored without PROT_WRITE", text: `${what} succeeded`, expect: "expect errno SIGSEGV" };
  if (out.how !== "ok") {
    if (ms.every((m) => m !== undefined && shadow.permits(m, write)))
      return { kind: `the VMM was refused: ${out.how}`, text: `${what} came to ${out.how}`, expect: "expect ok" };
    return undefined;
  }
  if (write) return undefined;
  let want = 0n;
  for (let i = 0; i < op.size; i++) {
    const byte = shadow.byte(hva + i);
    if (byte === undefined) {
      for (let j = 0; j < op.size; j++) shadow.learn(hva + j, byteOf(out.value, j));
      return undefined;
    }
    want |= BigInt(byte) << BigInt(8 * i);
  }
  if (want === out.value) return undefined;
  return {
    kind: "the VMM saw other bytes than were stored",
    text: `${what} gave ${hex(out.value)}, memory holds ${hex(want)}`,
    expect: `expect seen == ${hex(want)}`,
  };
}

function judgeDirty(id: number, out: Outcome, shadow: Shadow): Finding | undefined {
  const s = shadow.slots.get(id);
  if (out.how !== "ok" || s === undefined || (s.flags & LOG) === 0) return undefined;
  const told = new Set(out.pages);
  const lost = [...s.dirty].filter((p) => !told.has(p)).sort((a, b) => a - b);
  const over = shadow.manual === 3 ? [] : out.pages.filter((p) => !s.tried.has(p));
  if (shadow.manual === 0) {
    s.dirty.clear();
    s.tried.clear();
  }
  const right = [...new Set([...out.pages.filter((p) => !over.includes(p)), ...lost])].sort((a, b) => a - b);
  const expect = `expect dirty ${right.length === 0 ? "none" : right.slice(0, 100).join(", ")}`;
  if (lost.length > 0)
    return { kind: "a dirty page was lost", text: `slot ${id}: page ${lost[0]!} was written and is not in the dirty log`, expect };
  if (over.length > 0)
    return { kind: "a page is dirty that nobody wrote", text: `slot ${id}: page ${over[0]!} is in the dirty log`, expect };
  return undefined;
}
