/**
 * Where things lie in the guest's address space, over the whole run: regions that have a memslot or a stage-2
 * entry at some time, each with a scale of its own. A scale gives every stretch between two boundaries a width
 * that grows with the logarithm of its size: a page beside a gigabyte can be seen, and a boundary never moves.
 */
import type { SlotState, Stage2State, VmaState } from "../data.js";
import type { Run } from "./model.js";

/** A VMA, or a part of one, where a memslot shows it to the guest. */
export interface ShownVma {
  readonly vma: VmaState;
  readonly slot: SlotState;
  readonly from: number;
  readonly to: number;
  /** Bytes that it goes on in front of the slot, and behind it. */
  readonly before: number;
  readonly after: number;
}

export interface Region {
  readonly vm: number;
  readonly from: number;
  readonly to: number;
  readonly bounds: readonly number[];
}

const PAGE = 4096;
/** Boundaries of one region's scale: those that stay for a tenth of the moments, and of the others the most lasting. */
const LASTING_BOUNDS = 64;
const OTHER_BOUNDS = 10;
/** Width of a page, in the doublings that it takes to be twice as wide. */
const PAGE_WIDTH = 4;

export function shownVmas(vmas: readonly VmaState[], slot: SlotState): ShownVma[] {
  const end = slot.hva + slot.size;
  return vmas
    .filter((v) => v.mm === 0 && v.start < end && v.end > slot.hva)
    .map((vma) => ({
      vma,
      slot,
      from: slot.gpa + Math.max(vma.start - slot.hva, 0),
      to: slot.gpa + Math.min(vma.end, end) - slot.hva,
      before: Math.max(slot.hva - vma.start, 0),
      after: Math.max(vma.end - end, 0),
    }));
}

/** Parts of a slot behind which there is no VMA. */
export function holes(vmas: readonly ShownVma[], slot: SlotState): { readonly from: number; readonly to: number }[] {
  const out: { from: number; to: number }[] = [];
  let at = slot.gpa;
  for (const v of [...vmas].sort((a, b) => a.from - b.from)) {
    if (v.from > at) out.push({ from: at, to: v.from });
    at = Math.max(at, v.to);
  }
  if (at < slot.gpa + slot.size) out.push({ from: at, to: slot.gpa + slot.size });
  return out;
}

export function regions(runs: readonly Run[]): Region[] {
  const ranges: { vm: number; from: number; to: number }[] = [];
  /** By VM and address: at how many moments it is a boundary. */
  const bounds = new Map<number, Map<number, number>>();
  const note = (vm: number, weight: number, ...addresses: number[]): void => {
    const of = bounds.get(vm) ?? new Map<number, number>();
    bounds.set(vm, of);
    for (const a of addresses) of.set(a, (of.get(a) ?? 0) + weight);
  };
  for (const { data } of runs) {
    const { slots, stage2, vmas } = data.moments;
    for (const s of slots.rows) {
      ranges.push({ vm: s.vm, from: s.gpa, to: s.gpa + s.size });
      note(s.vm, Infinity, s.gpa, s.gpa + s.size);
      for (const v of shownVmas(vmas.rows, s)) note(s.vm, data.moments.seq.length, v.from, v.to);
    }
    const there = stage2.rows.map(() => 0);
    const often = stage2.states.map(() => 0);
    for (const state of stage2.at) often[state]!++;
    for (const [n, rows] of stage2.states.entries()) for (const r of rows) there[r]! += often[n]!;
    for (const [n, r] of stage2.rows.entries()) {
      ranges.push({ vm: r.vm, from: r.ipa, to: r.end });
      note(r.vm, there[n]!, r.ipa, r.end);
    }
  }
  ranges.sort((a, b) => a.vm - b.vm || a.from - b.from || b.to - a.to);
  const merged: { vm: number; from: number; to: number }[] = [];
  for (const r of ranges) {
    const last = merged.at(-1);
    // Entries that follow each other are one region, also where no slot is.
    if (last !== undefined && last.vm === r.vm && r.from <= last.to) last.to = Math.max(last.to, r.to);
    else merged.push({ ...r });
  }
  const moments = runs.reduce((n, r) => n + r.data.moments.seq.length, 0);
  return merged.map((r) => {
    const own = [...bounds.get(r.vm)!]
      .filter(([b]) => b > r.from && b < r.to)
      .sort((a, b) => (a[1] === b[1] ? a[0] - b[0] : b[1] > a[1] ? 1 : -1));
    const kept = own.filter(([, times], n) => n < OTHER_BOUNDS || (n < LASTING_BOUNDS && times * 10 >= moments)).map(([b]) => b);
    return { ...r, bounds: [r.from, ...kept, r.to].sort((a, b) => a - b) };
  });
}

/** From addresses to pixels. */
export function regionScale(region: Region, left: number, right: number): (address: number) => number {
  const { bounds } = region;
  const at = [0];
  for (let n = 1; n < bounds.length; n++) at.push(at[n - 1]! + PAGE_WIDTH + Math.log2(Math.max((bounds[n]! - bounds[n - 1]!) / PAGE, 1)));
  const whole = at.at(-1)! || 1;
  return (address) => {
    let n = 1;
    while (n < bounds.length - 1 && bounds[n]! < address) n++;
    const [from, to] = [bounds[n - 1] ?? region.from, bounds[n] ?? region.to];
    const part = to > from ? Math.min(Math.max((address - from) / (to - from), 0), 1) : 0;
    return left + ((right - left) * ((at[n - 1] ?? 0) + part * ((at[n] ?? 0) - (at[n - 1] ?? 0)))) / whole;
  };
}

/** Bytes that one entry maps. */
export function blockSize(r: Stage2State): number {
  return [2 ** 39, 2 ** 30, 2 ** 21, PAGE][r.level] ?? PAGE;
}
