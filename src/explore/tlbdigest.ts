/**
 * What the TLBs hold, as a digest that does not depend on how it came about: only entries that can be hit
 * count, under the regime, VMID and ASID that they are for. Numbers of contexts, generations, stamps, slots (they
 * follow from the PA, sooner or later) and entries of contexts that were invalidated do not.
 *
 * Most states share what their TLBs hold: a digest is computed once for each content of the pools.
 */
import {
  C_CHANGES,
  C_SHIFT,
  C_SLOT,
  C_TAG,
  COMBINED,
  L_CHANGES,
  L_SHIFT,
  L_TAG,
  STAGE1,
  STAGE2,
  W_CHANGES,
  W_TAG,
  WALK,
  type Tlbs,
} from "../arch/tlb.js";
import type { TlbMaintenance } from "../arch/tlbi.js";
import type { I32Pool } from "../sim/state.js";

/** The pools of the TLBs, of which the digest stands for all. */
export const TLB_POOLS = [
  "tlb.combined",
  "tlb.stage1",
  "tlb.stage2",
  "tlb.walk1",
  "tlb.walk2",
  "tlb.contexts",
  "tlb.meta",
  "tlb.holders",
  "tlb.epoch",
  "tlbi.pending",
];

/** An entry that can be hit: its pool, its first word and how many, its CPU, and its context (CTX_*, VMID << 16 | ASID). */
export type EntryVisitor = (pool: I32Pool, at: number, words: number, cpu: number, kind: number, ids: number) => void;

/** Calls `visit` for every entry that can be hit. */
export function liveEntries(tlbs: Tlbs, visit: EntryVisitor): void {
  const kinds = new Map<number, number>();
  const idsOf = new Map<number, number>();
  for (let cpu = 0; cpu < tlbs.cpus; cpu++) {
    kinds.clear();
    tlbs.eachContext(cpu, (number, kind, ids) => {
      kinds.set(number, kind);
      idsOf.set(number, ids);
    });
    if (kinds.size === 0) continue;
    const each = (pool: I32Pool, entries: number, shift: number, tagAt: number): void => {
      const { a } = pool;
      for (let at = (cpu * entries) << shift; at < ((cpu + 1) * entries) << shift; at += 1 << shift) {
        const tag = a[at + tagAt]!;
        if (tag === 0) continue;
        const kind = kinds.get(tag);
        if (kind !== undefined) visit(pool, at, 1 << shift, cpu, kind, idsOf.get(tag)!);
      }
    };
    each(tlbs.combined, COMBINED, C_SHIFT, C_TAG);
    each(tlbs.stage1, STAGE1, L_SHIFT, L_TAG);
    each(tlbs.stage2, STAGE2, L_SHIFT, L_TAG);
    each(tlbs.walk1, WALK, L_SHIFT, W_TAG);
    each(tlbs.walk2, WALK, L_SHIFT, W_TAG);
  }
}

const isStamp = (pool: I32Pool, tlbs: Tlbs, word: number): boolean =>
  pool === tlbs.combined
    ? word === C_CHANGES || word === C_TAG || word === C_SLOT
    : word === L_TAG || word === (L_CHANGES satisfies typeof W_CHANGES);

/** The most digests that are remembered. */
const KEPT = 1 << 18;

export class TlbDigest {
  low = 0;
  high = 0;
  private readonly known = new Map<number, { readonly high: number; readonly digestLow: number; readonly digestHigh: number }>();

  constructor(
    private readonly tlbs: Tlbs,
    private readonly maintenance: TlbMaintenance,
  ) {}

  /** The digest of what the TLBs hold now. @param low and high: the hash of their pools */
  compute(low: number, high: number): void {
    const found = this.known.get(low);
    if (found !== undefined && found.high === high) {
      this.low = found.digestLow;
      this.high = found.digestHigh;
      return;
    }
    this.low = 0;
    this.high = 0;
    liveEntries(this.tlbs, (pool, at, words, _cpu, kind, ids) => {
      const context = Math.imul(ids, 0x165667b1) + kind;
      let h = Math.imul(pool.salt ^ at, 0x9e3779b1) ^ context;
      let g = Math.imul(~pool.salt ^ at, 0x85ebca6b) ^ context;
      for (let i = 0; i < words; i++) {
        if (isStamp(pool, this.tlbs, i)) continue;
        h = mix(h ^ Math.imul(pool.a[at + i]! + i, 0x2c1b3c6d));
        g = mix(g ^ Math.imul(pool.a[at + i]! - i, 0x297a2d39));
      }
      this.low ^= h;
      this.high ^= g;
    });
    this.maintenance.eachPending((cpu, word, value) => {
      this.low ^= mix(Math.imul(value ^ word, 0x9e3779b1) + cpu);
      this.high ^= mix(Math.imul(value ^ ~word, 0x85ebca6b) - cpu);
    });
    if (this.known.size >= KEPT) this.known.clear();
    this.known.set(low, { high, digestLow: this.low, digestHigh: this.high });
  }

  /** The same as a text. */
  content(): string {
    const out: string[] = [];
    liveEntries(this.tlbs, (pool, at, words, _cpu, kind, ids) => {
      const said = [...pool.a.subarray(at, at + words)].filter((_, i) => !isStamp(pool, this.tlbs, i));
      out.push(`${pool.name}[${at}] ${kind}/${ids}: ${said.join(",")}`);
    });
    this.maintenance.eachPending((cpu, word, value) => out.push(`pending ${cpu} ${word} ${value}`));
    return out.join(";");
  }
}

function mix(h: number): number {
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  return h ^ (h >>> 13);
}
