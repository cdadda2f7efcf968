/**
 * The TLBs of every physical CPU: what each may hold (Arm ARM D8.14), in four kinds.
 *
 * kind       | key                          | content
 * combined   | VA page, regime, VMID, ASID  | PA page, resulting type, permissions of both stages
 * stage 1    | VA page, VMID, ASID          | leaf descriptor: IPA, attributes
 * stage 2    | IPA (4K, 2M or 1G), VMID     | leaf descriptor
 * walk cache | VA or IPA of 2 MiB           | the level-3 table: stage 1 its PA, stage 2 its words
 *
 * Combined and stage-1 entries are pieces of 4 KiB; they know the size of the leaf they come from, and
 * an invalidation by address drops every piece of the leaf it hits.
 *
 * Regime, VMID and ASID together are a context, named by a number that is never used twice on a CPU; an
 * entry carries it as its tag. Invalidating a VMID or an ASID forgets context numbers, which is one
 * write however many entries die. All of it is state: snapshots and undo include what the TLBs hold.
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import { joinWords, type Pa } from "./types.js";

// ---- kinds of context
/** EL1&0, stage 1 on, entry with nG: this ASID only. */
export const CTX_ASID = 0;
/** EL1&0, stage 1 on, global entry: any ASID of the VMID. */
export const CTX_GLOBAL = 1;
/** EL1&0 while stage 1 is off. */
export const CTX_OFF = 2;
/** The host's own regime (EL2&0 with VHE); the ASID is the mm. */
export const CTX_HOST = 3;
/** Stage 2 of a VMID. */
export const CTX_STAGE2 = 4;

// ---- combined entries, 1024 of 16 words on each CPU
export const COMBINED = 1024;
export const C_SHIFT = 4;
/** VA bits 31:12. */
export const C_VA_LO = 0;
export const C_VA_HI = 1;
/** Context number, 0: no entry. */
export const C_TAG = 2;
/** Packed type (memtype.ts) in bits 10:0, permissions and marks above: the F_ constants. */
export const C_FLAGS = 3;
/** Slot of the RAM page (pageindex.ts), -1: a device or nothing. */
export const C_SLOT = 4;
/** TablePages.changes when the entry was last known to agree with the tables. */
export const C_CHANGES = 5;
export const C_PA_LO = 6;
export const C_PA_HI = 7;
export const C_IPA_LO = 8;
export const C_IPA_HI = 9;
/** Stage-1 leaf: log2 of its size (bits 7:0) and its level (bits 15:8); without stage 1: 12. */
export const C_S1 = 10;
/** VMID << 16 | ASID, as at the fill. */
export const C_IDS = 11;

/** Where caches are modelled: data goes through the cache, stores also to memory; fetches go through the instruction cache. */
export const F_CACHED = 0x800;
export const F_WRITE_THROUGH = 0x1000;
export const F_FETCH_CACHED = 0x2000;
export const F_R1 = 0x10000;
export const F_W1 = 0x20000;
export const F_X1 = 0x40000;
export const F_R0 = 0x80000;
export const F_W0 = 0x100000;
export const F_X0 = 0x200000;
/** Stage 1 says Device; the result is Device. Both make an unaligned access fault. */
export const F_DEVICE1 = 0x400000;
export const F_DEVICE = 0x800000;
/** EL1 read and write while PSTATE.PAN is set: not where EL0 may go. */
export const F_R1_PAN = 0x2000000;
export const F_W1_PAN = 0x4000000;
/** Exclusives and atomics are guaranteed here. */
export const F_ATOMICS = 0x1000000;

// ---- stage-1 leaves, 256 of 8 words
export const STAGE1 = 256;
export const L_SHIFT = 3;
/** VA bits 31:12, or IPA bits 31:12 of the leaf's first page. */
export const L_LO = 0;
export const L_HI = 1;
export const L_TAG = 2;
export const L_DESC_LO = 3;
export const L_DESC_HI = 4;
/** Level of the leaf in bits 15:8, log2 of its size in bits 7:0. */
export const L_SIZE = 5;
export const L_IDS = 6;
export const L_CHANGES = 7;

// ---- stage-2 leaves, 256 of 8 words: 128 pages, 64 of 2 MiB, 64 of 1 GiB and more
export const STAGE2 = 256;

// ---- walk caches, 64 of 8 words each
export const WALK = 64;
export const W_LO = 0;
export const W_HI = 1;
export const W_TAG = 2;
/** Stage 1: PA of the level-3 table; stage 2: word index in TablePages.words. */
export const W_TABLE_LO = 3;
export const W_TABLE_HI = 4;
/** Hierarchical bits collected above (high word of a descriptor). */
export const W_HIER = 5;
export const W_IDS = 6;
export const W_CHANGES = 7;

// ---- contexts, 64 of each kind, of 4 words: key, key, number, generation. A guest access has contexts of up to three
// kinds at once (GuestContext): were they to take each other's place, TLBIs would not find what it goes on using.
const CONTEXTS = 5 << 6;
const K_IDS = 0;
const K_KIND = 1;
const K_NUMBER = 2;
const K_GENERATION = 3;

// ---- bookkeeping of a CPU
const M_NEXT = 0;
const M_ALL = 1;
const M_HOST = 2;
/** BIG_ bits of whose stage-1 leaves larger than 4 KiB were cached: then invalidation by VA must look at all entries. */
const M_BIG = 3;
/** Sizes of stage-2 leaves that were cached: bit 0 page, 1 2 MiB, 2 larger. */
const M_S2SIZES = 4;
/** What the host's entries have translated so far lies in these blocks of 2 MiB: the first, and the one behind the last, 0: nothing. */
const M_HOST_FIRST = 5;
const M_HOST_END = 6;
const M_S1GEN = 8;
const M_S2GEN = M_S1GEN + 256;
const M_WORDS = M_S2GEN + 256;

/** Place of the host's regime behind the VMIDs in `holders`. */
const HOLDERS_HOST = 256;

export const BIG_GUEST = 1;
export const BIG_HOST = 2;

/** Index of a combined or stage-1 piece, before masking. */
export function vaHash(hi: number, lo: number): number {
  return (lo >>> 12) ^ (lo >>> 22) ^ hi;
}

export class Tlbs {
  readonly combined: I32Pool;
  readonly stage1: I32Pool;
  readonly stage2: I32Pool;
  readonly walk1: I32Pool;
  readonly walk2: I32Pool;
  private readonly contexts: I32Pool;
  private readonly meta: I32Pool;
  /**
   * By the low 8 bits of the VMID, and for the host: the CPUs that were given a context of it (`cpuBit`). The others hold nothing
   * of it: invalidations pass over them.
   */
  private readonly holders: I32Pool;
  /** [0] changes with every context given out or forgotten: a cached context number is good while it stands. */
  readonly epoch: I32Pool;
  /**
   * Counts the same and is never undone: after a rollback the epoch may come to an old value by another
   * way. Not state, only the validity of what others cache.
   */
  serial = 0;

  /** @param cpus physical CPUs */
  constructor(
    sim: Sim,
    readonly cpus: number,
  ) {
    const s = sim.state;
    this.combined = s.i32("tlb.combined", (cpus * COMBINED) << C_SHIFT);
    this.stage1 = s.i32("tlb.stage1", (cpus * STAGE1) << L_SHIFT);
    this.stage2 = s.i32("tlb.stage2", (cpus * STAGE2) << L_SHIFT);
    this.walk1 = s.i32("tlb.walk1", (cpus * WALK) << L_SHIFT);
    this.walk2 = s.i32("tlb.walk2", (cpus * WALK) << L_SHIFT);
    this.contexts = s.i32("tlb.contexts", cpus * CONTEXTS * 4);
    this.meta = s.i32("tlb.meta", cpus * M_WORDS);
    this.holders = s.i32("tlb.holders", HOLDERS_HOST + 1);
    this.epoch = s.i32("tlb.epoch", 1);
  }

  // ---- where an entry lies

  combinedAt(cpu: number, hi: number, lo: number): number {
    return (Math.imul(cpu, COMBINED) + (vaHash(hi, lo) & (COMBINED - 1))) << C_SHIFT;
  }
  /** No entry keeps where the data of the page at pa lies: its accesses look from now on. */
  forgetSlots(pa: Pa): void {
    const t = this.combined;
    for (let i = 0; i < t.a.length; i += 1 << C_SHIFT)
      if (t.a[i + C_SLOT] !== -1 && joinWords(t.a[i + C_PA_HI]!, t.a[i + C_PA_LO]!) === pa - (pa % 4096)) t.set(i + C_SLOT, -1);
  }
  stage1At(cpu: number, hi: number, lo: number): number {
    return (Math.imul(cpu, STAGE1) + (vaHash(hi, lo) & (STAGE1 - 1))) << L_SHIFT;
  }
  /** @param size 0 page, 1 2 MiB, 2 larger */
  stage2At(cpu: number, hi: number, lo: number, size: number): number {
    const i = size === 0 ? (lo >>> 12) & 127 : size === 1 ? 128 + ((lo >>> 21) & 63) : 192 + (((lo >>> 30) | (hi << 2)) & 63);
    return (Math.imul(cpu, STAGE2) + i) << L_SHIFT;
  }
  /** The stage-2 entry of a size (as of `stage2At`) for an IPA, or -1. @param tag of the VMID's stage-2 context */
  stage2Leaf(cpu: number, tag: number, hi: number, lo: number, size: number): number {
    const { a } = this.stage2;
    const i = this.stage2At(cpu, hi, lo, size);
    if (a[i + L_TAG] !== tag) return -1;
    const shift = a[i + L_SIZE]! & 0xff;
    // Only the largest reach 32 bits.
    if (size === 2 && shift >= 32) return (hi ^ a[i + L_HI]!) >>> (shift - 32) === 0 ? i : -1;
    return hi === a[i + L_HI]! && (lo ^ a[i + L_LO]!) >>> shift === 0 ? i : -1;
  }
  walkAt(cpu: number, hi: number, lo: number): number {
    return (Math.imul(cpu, WALK) + (((lo >>> 21) ^ hi) & (WALK - 1))) << L_SHIFT;
  }

  // ---- contexts

  private generation(cpu: number, kind: number, vmid: number): number {
    const m = this.meta.a;
    const at = Math.imul(cpu, M_WORDS);
    if (kind === CTX_HOST) return m[at + M_HOST]!;
    return (m[at + M_ALL]! + m[at + (kind === CTX_STAGE2 ? M_S2GEN : M_S1GEN) + (vmid & 255)]!) | 0;
  }

  private contextAt(cpu: number, kind: number, ids: number): number {
    return (Math.imul(cpu, CONTEXTS) + (kind << 6) + (Math.imul(ids, 0x9e3779b1) >>> 26)) << 2;
  }

  /** The number of a context on a CPU, given out if it has none. */
  context(cpu: number, kind: number, vmid: number, asid: number): number {
    const ids = (vmid << 16) | asid;
    const at = this.contextAt(cpu, kind, ids);
    const generation = this.generation(cpu, kind, vmid);
    const found = this.numberAt(at, ids, generation);
    if (found !== 0) return found;
    const next = (this.meta.a[Math.imul(cpu, M_WORDS) + M_NEXT]! + 1) | 0;
    this.meta.set(Math.imul(cpu, M_WORDS) + M_NEXT, next);
    this.contexts.set2(at + K_IDS, ids, kind);
    this.contexts.set2(at + K_NUMBER, next, generation);
    const whose = kind === CTX_HOST ? HOLDERS_HOST : vmid & 255;
    const holders = this.holders.a[whose]!;
    if ((holders & cpuBit(cpu)) === 0) this.holders.set(whose, holders | cpuBit(cpu));
    this.changed();
    return next;
  }

  /** The number of a context, or 0 when the CPU holds nothing of it. */
  findContext(cpu: number, kind: number, vmid: number, asid: number): number {
    const ids = (vmid << 16) | asid;
    return this.numberAt(this.contextAt(cpu, kind, ids), ids, this.generation(cpu, kind, vmid));
  }

  /** Each kind has records of its own: K_KIND is what it was looked for by, or the record is empty, with number 0. */
  private numberAt(at: number, ids: number, generation: number): number {
    const c = this.contexts.a;
    return c[at + K_IDS] === ids && c[at + K_GENERATION] === generation ? c[at + K_NUMBER]! : 0;
  }

  /** Calls `visit` for every context that a CPU may hold entries of. @param ids VMID << 16 | ASID */
  eachContext(cpu: number, visit: (number: number, kind: number, ids: number) => void): void {
    const c = this.contexts.a;
    for (let at = Math.imul(cpu, CONTEXTS) << 2; at < ((cpu + 1) * CONTEXTS) << 2; at += 4) {
      const ids = c[at + K_IDS]!;
      const kind = c[at + K_KIND]!;
      if (c[at + K_NUMBER] !== 0 && c[at + K_GENERATION] === this.generation(cpu, kind, ids >>> 16)) visit(c[at + K_NUMBER]!, kind, ids);
    }
  }

  private changed(): void {
    this.serial++;
    this.epoch.set(0, (this.epoch.a[0]! + 1) | 0);
  }

  private bump(cpu: number, word: number): void {
    const at = Math.imul(cpu, M_WORDS) + word;
    this.meta.set(at, (this.meta.a[at]! + 1) | 0);
  }

  // ---- marks that make invalidation by address exact

  /** A stage-1 leaf larger than 4 KiB was cached on this CPU. @param whose BIG_GUEST or BIG_HOST */
  noteBig(cpu: number, whose: number): void {
    const at = Math.imul(cpu, M_WORDS) + M_BIG;
    const now = this.meta.a[at]!;
    if ((now & whose) === 0) this.meta.set(at, now | whose);
  }
  noteStage2Size(cpu: number, size: number): void {
    const at = Math.imul(cpu, M_WORDS) + M_S2SIZES;
    const now = this.meta.a[at]!;
    if ((now & (1 << size)) === 0) this.meta.set(at, now | (1 << size));
  }
  /** A leaf of the host, of 2^shift bytes, was cached on this CPU. */
  noteHost(cpu: number, hi: number, lo: number, shift: number): void {
    const at = Math.imul(cpu, M_WORDS);
    const blocks = shift > 21 ? 1 << (shift - 21) : 1;
    const first = ((hi << 11) | (lo >>> 21)) & -blocks;
    const none = this.meta.a[at + M_HOST_END] === 0;
    if (none || first < this.meta.a[at + M_HOST_FIRST]!) this.meta.set(at + M_HOST_FIRST, first);
    if (none || first + blocks > this.meta.a[at + M_HOST_END]!) this.meta.set(at + M_HOST_END, first + blocks);
  }
  /** May the host have entries of pages [first, end) on this CPU? */
  private hostMayHave(cpu: number, first: number, end: number): boolean {
    const at = Math.imul(cpu, M_WORDS);
    return first < this.meta.a[at + M_HOST_END]! * 512 && end > this.meta.a[at + M_HOST_FIRST]! * 512;
  }
  /** The same of a block of 2 MiB. */
  private hostHasBlock(cpu: number, block: number): boolean {
    const at = Math.imul(cpu, M_WORDS);
    return block < this.meta.a[at + M_HOST_END]! && block >= this.meta.a[at + M_HOST_FIRST]!;
  }
  stage2Sizes(cpu: number): number {
    return this.meta.a[Math.imul(cpu, M_WORDS) + M_S2SIZES]!;
  }

  // ---- whole contexts

  /** Everything of EL1&0, every VMID, both stages (ALLE1). */
  dropAll(cpu: number): void {
    this.bump(cpu, M_ALL);
    this.changed();
    const at = Math.imul(cpu, M_WORDS);
    this.meta.set(at + M_BIG, this.meta.a[at + M_BIG]! & BIG_HOST);
    this.meta.set(at + M_S2SIZES, 0);
  }
  /** On CPUs [from, to): combined and stage-1 entries of a VMID (VMALLE1); stage-2 ones too if asked (VMALLS12E1). */
  readonly dropVmid = (from: number, to: number, vmid: number, stage2: boolean): void => {
    const holders = this.holders.a[vmid & 255]!;
    for (let cpu = from, rest = holders >> lastBit(from); cpu < to && rest !== 0; cpu++, rest >>= 1) {
      if ((rest & 1) === 0) continue;
      this.bump(cpu, M_S1GEN + (vmid & 255));
      if (stage2) this.bump(cpu, M_S2GEN + (vmid & 255));
    }
    this.changed();
  };
  /** The host's regime (ALLE2, or VMALLE1 at EL2 with TGE). */
  dropHost(cpu: number): void {
    this.bump(cpu, M_HOST);
    this.changed();
  }
  /** The non-global entries of an ASID, of a guest or (kind CTX_HOST) of the host. */
  dropAsid(cpu: number, kind: number, vmid: number, asid: number): void {
    const at = this.contextAt(cpu, kind, (vmid << 16) | asid);
    if (this.findContext(cpu, kind, vmid, asid) === 0) return;
    this.contexts.set(at + K_NUMBER, 0);
    this.changed();
  }

  // ---- by virtual address

  /**
   * Drops on CPUs [from, to) what translates one VA page, with every piece of the leaf that contains it.
   * @param asid -1: any ASID @param walks also the walk cache @param level leaf level of the hint, 0 none
   */
  readonly dropVa = (
    from: number,
    to: number,
    host: boolean,
    vmid: number,
    asid: number,
    hi: number,
    lo: number,
    walks: boolean,
    level: number,
  ): void => {
    const block = (hi << 11) | (lo >>> 21);
    const byAsid = host && asid >= 0;
    const holders = this.holders.a[host ? HOLDERS_HOST : vmid & 255]!;
    for (let cpu = from, rest = holders >> lastBit(from); cpu < to && rest !== 0; cpu++, rest >>= 1) {
      if ((rest & 1) === 0) continue;
      // As in dropVaRange.
      if (byAsid && !this.hostHasBlock(cpu, block)) continue;
      this.dropVaOn(cpu, host, vmid, asid, hi, lo, walks, level);
    }
  };
  private dropVaOn(cpu: number, host: boolean, vmid: number, asid: number, hi: number, lo: number, walks: boolean, level: number): void {
    const page = lo & ~0xfff;
    const { combined, stage1, walk1 } = this;
    if (this.meta.a[Math.imul(cpu, M_WORDS) + M_BIG] !== 0) this.dropVaPieces(cpu, host, vmid, asid, hi, page, level);
    else {
      const ca = combined.a;
      const c = this.combinedAt(cpu, hi, page);
      if (ca[c + C_VA_LO] === page && ca[c + C_VA_HI] === hi && this.levelFits(ca[c + C_S1]!, level)) {
        this.dropIf(combined, c + C_TAG, ca[c + C_IDS]!, cpu, host, vmid, asid);
      }
      const la = stage1.a;
      const l = this.stage1At(cpu, hi, page);
      if (la[l + L_LO] === page && la[l + L_HI] === hi && this.levelFits(la[l + L_SIZE]!, level)) {
        this.dropIf(stage1, l + L_TAG, la[l + L_IDS]!, cpu, host, vmid, asid);
      }
    }
    if (!walks || !leadsTo(level)) return;
    const wa = walk1.a;
    const w = this.walkAt(cpu, hi, lo);
    if (wa[w + W_LO] === (lo & ~0x1fffff) && wa[w + W_HI] === hi) {
      this.dropIf(walk1, w + W_TAG, wa[w + W_IDS]!, cpu, host, vmid, asid);
    }
  }

  private levelFits(size: number, level: number): boolean {
    return level === 0 || size >> 8 === level || size >> 8 === 0;
  }

  /** Clears a tag when its entry belongs to the given regime, VMID and ASID (global entries match any). */
  private dropIf(pool: I32Pool, tagAt: number, ids: number, cpu: number, host: boolean, vmid: number, asid: number): void {
    const tag = pool.a[tagAt]!;
    if (tag === 0) return;
    if (asid >= 0) {
      if (host ? tag !== this.findContext(cpu, CTX_HOST, 0, asid) : !this.isGuestTag(cpu, tag, vmid, asid)) return;
    } else if (ids >>> 16 !== (host ? 0 : vmid)) return;
    pool.set(tagAt, 0);
  }

  private isGuestTag(cpu: number, tag: number, vmid: number, asid: number): boolean {
    return (
      tag === this.findContext(cpu, CTX_ASID, vmid, asid) ||
      tag === this.findContext(cpu, CTX_GLOBAL, vmid, 0) ||
      tag === this.findContext(cpu, CTX_OFF, vmid, 0)
    );
  }

  /** All pieces of leaves that contain the page: a look at every entry. */
  private dropVaPieces(cpu: number, host: boolean, vmid: number, asid: number, hi: number, page: number, level: number): void {
    const c = this.combined.a;
    for (let i = Math.imul(cpu, COMBINED) << C_SHIFT; i < ((cpu + 1) * COMBINED) << C_SHIFT; i += 1 << C_SHIFT) {
      if (c[i + C_TAG] === 0 || !sameLeaf(c[i + C_VA_HI]!, c[i + C_VA_LO]!, hi, page, c[i + C_S1]! & 0xff)) continue;
      if (this.levelFits(c[i + C_S1]!, level)) this.dropIf(this.combined, i + C_TAG, c[i + C_IDS]!, cpu, host, vmid, asid);
    }
    const l = this.stage1.a;
    for (let i = Math.imul(cpu, STAGE1) << L_SHIFT; i < ((cpu + 1) * STAGE1) << L_SHIFT; i += 1 << L_SHIFT) {
      if (l[i + L_TAG] === 0 || !sameLeaf(l[i + L_HI]!, l[i + L_LO]!, hi, page, l[i + L_SIZE]! & 0xff)) continue;
      if (this.levelFits(l[i + L_SIZE]!, level)) this.dropIf(this.stage1, i + L_TAG, l[i + L_IDS]!, cpu, host, vmid, asid);
    }
  }

  /**
   * Drops a run of VA pages. Page numbers are VA >> 12 of the 64-bit address, below 2^52.
   * Short runs go page by page, long ones look at every entry once.
   */
  dropVaRange(cpu: number, host: boolean, vmid: number, asid: number, first: number, pages: number, walks: boolean, level: number): void {
    if (pages <= 16) {
      for (let p = first; p < first + pages; p++) {
        this.dropVa(cpu, cpu + 1, host, vmid, asid, (p / 1048576) | 0, p << 12, walks, level);
      }
      return;
    }
    const end = first + pages;
    // Of the host's regime only combined entries exist, all with the one tag of the ASID.
    const only = host && asid >= 0 ? this.findContext(cpu, CTX_HOST, 0, asid) : 0;
    if (host && asid >= 0 && (only === 0 || !this.hostMayHave(cpu, first, end))) return;
    const c = this.combined.a;
    for (let i = Math.imul(cpu, COMBINED) << C_SHIFT; i < ((cpu + 1) * COMBINED) << C_SHIFT; i += 1 << C_SHIFT) {
      const tag = c[i + C_TAG]!;
      if (tag === 0 || (only !== 0 && tag !== only) || !overlaps(c[i + C_VA_HI]!, c[i + C_VA_LO]!, c[i + C_S1]! & 0xff, first, end))
        continue;
      if (this.levelFits(c[i + C_S1]!, level)) this.dropIf(this.combined, i + C_TAG, c[i + C_IDS]!, cpu, host, vmid, asid);
    }
    if (only !== 0) return;
    const l = this.stage1.a;
    for (let i = Math.imul(cpu, STAGE1) << L_SHIFT; i < ((cpu + 1) * STAGE1) << L_SHIFT; i += 1 << L_SHIFT) {
      if (l[i + L_TAG] === 0 || !overlaps(l[i + L_HI]!, l[i + L_LO]!, l[i + L_SIZE]! & 0xff, first, end)) continue;
      if (this.levelFits(l[i + L_SIZE]!, level)) this.dropIf(this.stage1, i + L_TAG, l[i + L_IDS]!, cpu, host, vmid, asid);
    }
    if (!walks || !leadsTo(level)) return;
    const w = this.walk1.a;
    for (let i = Math.imul(cpu, WALK) << L_SHIFT; i < ((cpu + 1) * WALK) << L_SHIFT; i += 1 << L_SHIFT) {
      if (w[i + W_TAG] === 0 || !overlaps(w[i + W_HI]!, w[i + W_LO]!, 21, first, end)) continue;
      this.dropIf(this.walk1, i + W_TAG, w[i + W_IDS]!, cpu, host, vmid, asid);
    }
  }

  // ---- by intermediate physical address

  /**
   * Drops on CPUs [from, to) the stage-2 leaf that contains an IPA, and (unless last-level only) the walk cache of it. Combined
   * entries stay.
   * @param level the leaf's level as the TTL says, 0 any: a hint of level 1 or 2 asks for nothing of what leads to level 3
   */
  readonly dropIpa = (from: number, to: number, vmid: number, hi: number, lo: number, walks: boolean, level: number): void => {
    const leads = walks && leadsTo(level);
    const holders = this.holders.a[vmid & 255]!;
    for (let cpu = from, rest = holders >> lastBit(from); cpu < to && rest !== 0; cpu++, rest >>= 1) {
      if ((rest & 1) === 0) continue;
      const tag = this.findContext(cpu, CTX_STAGE2, vmid, 0);
      if (tag !== 0) this.dropTaggedIpa(cpu, tag, hi, lo, leads, level);
    }
  };
  private dropTaggedIpa(cpu: number, tag: number, hi: number, lo: number, leads: boolean, level: number): void {
    const sizes = this.stage2Sizes(cpu);
    if ((sizes & 1) !== 0) this.dropLeaf(this.stage2Leaf(cpu, tag, hi, lo, 0), level);
    if (sizes > 1) this.dropBlocks(cpu, tag, hi, lo, sizes, level);
    if (!leads) return;
    const w = this.walkAt(cpu, hi, lo);
    const wa = this.walk2.a;
    if (wa[w + W_TAG] === tag && wa[w + W_LO] === (lo & ~0x1fffff) && wa[w + W_HI] === hi) this.walk2.set(w + W_TAG, 0);
  }

  private dropBlocks(cpu: number, tag: number, hi: number, lo: number, sizes: number, level: number): void {
    if ((sizes & 2) !== 0) this.dropLeaf(this.stage2Leaf(cpu, tag, hi, lo, 1), level);
    if ((sizes & 4) !== 0) this.dropLeaf(this.stage2Leaf(cpu, tag, hi, lo, 2), level);
  }
  private dropLeaf(i: number, level: number): void {
    if (i >= 0 && (level === 0 || this.stage2.a[i + L_SIZE]! >> 8 === level)) this.stage2.set(i + L_TAG, 0);
  }

  /** Drops a run of IPA pages. @param first IPA >> 12 */
  dropIpaRange(cpu: number, vmid: number, first: number, pages: number, walks: boolean, level: number): void {
    const tag = this.findContext(cpu, CTX_STAGE2, vmid, 0);
    if (tag === 0) return;
    if (pages <= 8) {
      for (let p = first; p < first + pages; p++) this.dropIpa(cpu, cpu + 1, vmid, (p / 1048576) | 0, p << 12, walks, level);
      return;
    }
    const end = first + pages;
    const a = this.stage2.a;
    for (let i = Math.imul(cpu, STAGE2) << L_SHIFT; i < ((cpu + 1) * STAGE2) << L_SHIFT; i += 1 << L_SHIFT) {
      if (a[i + L_TAG] !== tag || !overlaps(a[i + L_HI]!, a[i + L_LO]!, a[i + L_SIZE]! & 0xff, first, end)) continue;
      if (level === 0 || a[i + L_SIZE]! >> 8 === level) this.stage2.set(i + L_TAG, 0);
    }
    if (!walks || !leadsTo(level)) return;
    const w = this.walk2.a;
    for (let i = Math.imul(cpu, WALK) << L_SHIFT; i < ((cpu + 1) * WALK) << L_SHIFT; i += 1 << L_SHIFT) {
      if (w[i + W_TAG] === tag && overlaps(w[i + W_HI]!, w[i + W_LO]!, 21, first, end)) this.walk2.set(i + W_TAG, 0);
    }
  }
}

/** The last bit of `holders` is that of all CPUs from 31 on: its arithmetic shift to the right, one for each CPU, keeps it. */
function lastBit(cpu: number): number {
  return cpu < 31 ? cpu : 31;
}
/** A CPU's bit in `holders`. */
function cpuBit(cpu: number): number {
  return 1 << lastBit(cpu);
}

/** Whether a TLBI with this level hint (0: none) must drop what leads to a level-3 table (Arm ARM D8.14.5, TTL). */
function leadsTo(level: number): boolean {
  return level === 0 || level === 3;
}

/** True when two addresses lie in one aligned piece of 2^shift bytes. */
function sameLeaf(hi: number, lo: number, hi2: number, lo2: number, shift: number): boolean {
  if (shift >= 32) return (hi ^ hi2) >>> (shift - 32) === 0;
  return hi === hi2 && (lo ^ lo2) >>> shift === 0;
}

/** True when the leaf of 2^shift bytes around hi:lo meets pages [first, end). */
function overlaps(hi: number, lo: number, shift: number, first: number, end: number): boolean {
  // In words: a remainder of doubles is a call of the C library, and this is asked of every entry.
  const start = shift < 32 ? (hi >>> 0) * 1048576 + ((lo & (-1 << shift)) >>> 12) : ((hi & (-1 << (shift - 32))) >>> 0) * 1048576;
  const size = shift < 32 ? 1 << (shift - 12) : (1 << (shift - 32)) * 1048576;
  return start < end && start + size > first;
}
