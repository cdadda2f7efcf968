/**
 * Compares the stage-2 tables at the end of several runs, leaf by leaf: ranges of guest-physical
 * addresses in which all runs map the same memory the same way, and ranges in which they do not.
 */
import type { Stage2Leaf } from "../api/nouns.js";
import { permissions, typeName } from "../guest/expectations.js";
import { hex, size } from "../trace/fields.js";

/** A range in which no run's mapping changes its kind. */
export interface LeafRange {
  readonly ipa: number;
  readonly end: number;
  /** Per run: what maps the range, undefined where nothing does. */
  readonly runs: readonly (LeafView | undefined)[];
  readonly same: boolean;
}

export interface LeafView {
  /** Output address of the range's first byte. */
  readonly pa: number;
  /** Bytes of each leaf. */
  readonly size: number;
  readonly type: string;
  readonly perms: string;
}

function viewAt(leaf: Stage2Leaf | undefined, ipa: number): LeafView | undefined {
  if (leaf === undefined) return undefined;
  return { pa: leaf.pa + (ipa - leaf.ipa), size: leaf.size, type: typeName(leaf), perms: permissions(leaf) };
}

function equal(a: LeafView | undefined, b: LeafView | undefined, shift = 0): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.pa + shift === b.pa && a.size === b.size && a.type === b.type && a.perms === b.perms;
}

/** Ranges in the order of addresses; unmapped in every run: left out. Leaves come sorted by address. */
export function compareLeaves(runs: readonly (readonly Stage2Leaf[])[]): LeafRange[] {
  const edges = [...new Set(runs.flatMap((r) => r.flatMap((l) => [l.ipa, l.ipa + l.size])))].sort((x, y) => x - y);
  const at = runs.map(() => 0);
  const out: LeafRange[] = [];
  for (let i = 0; i + 1 < edges.length; i++) {
    const ipa = edges[i]!;
    const end = edges[i + 1]!;
    const views = runs.map((r, n) => {
      while (at[n]! < r.length && r[at[n]!]!.ipa + r[at[n]!]!.size <= ipa) at[n]!++;
      const leaf = r[at[n]!];
      return viewAt(leaf !== undefined && leaf.ipa <= ipa ? leaf : undefined, ipa);
    });
    if (views.every((v) => v === undefined)) continue;
    const same = views.every((v) => equal(v, views[0]));
    const last = out[out.length - 1];
    const goesOn = last !== undefined && last.end === ipa && last.runs.every((v, n) => equal(v, views[n], ipa - last.ipa));
    if (goesOn) out[out.length - 1] = { ...last, end };
    else out.push({ ipa, end, runs: views, same });
  }
  return out;
}

function text(v: LeafView | undefined): string {
  return v === undefined ? "not mapped" : `${size(v.size)} ${v.type} ${v.perms} pa=${hex(v.pa)}`;
}

/** For people: each range with what the runs have there, then the sum. */
export function leavesText(ranges: readonly LeafRange[], names: readonly string[]): string[] {
  const pad = Math.max(...names.map((n) => n.length));
  const lines = ["stage 2 at the end:"];
  let agree = 0;
  let differ = 0;
  for (const r of ranges) {
    if (r.same) agree += r.end - r.ipa;
    else differ += r.end - r.ipa;
    const where = `  ${hex(r.ipa)}..${hex(r.end)}`;
    if (r.same) lines.push(`${where}  ${text(r.runs[0])}`);
    else lines.push(where, ...r.runs.map((v, n) => `    ${names[n]!.padEnd(pad)}  ${text(v)}`));
  }
  lines.push(differ === 0 ? `every leaf is the same (${size(agree)})` : `${size(agree)} mapped the same way, ${size(differ)} not`);
  return lines;
}
