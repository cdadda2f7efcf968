/**
 * Stage-2 translation as the PE does it (Arm ARM D8.2.3, AArch64.S2Translate, AArch64.S2Walk): one IPA
 * through VTTBR_EL2 and VTCR_EL2 of a vCPU, by way of the stage-2 TLB and walk cache.
 *
 * Results lie in the fields. Permissions are the caller's business, because a walk of stage 1, a
 * fetch and a store ask different ones.
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool, StateRegistry } from "../sim/state.js";
import {
  DESC_AF,
  DESC_SH_SHIFT,
  DESC_TABLE,
  DESC_TYPE,
  DESC_VALID,
  HI_DBM,
  HI_PXN,
  HI_UXN,
  memAttrOf,
  outputAddressAt,
  outputAddressHi,
  S2_FNXS,
  S2_MEMATTR_SHIFT,
  S2_S2AP_R,
  S2_S2AP_W,
  SH_INNER,
} from "./descriptors.js";
import { stage2Walk } from "./events.js";
import type { CpuFeatures } from "./features.js";
import { bitsAt, blockAllowed, paBitsOf, startBits, tg0Shift, VTCR_DS_HI, VTCR_HA, VTCR_HD, vtcrStartLevel } from "./geometry.js";
import type { PhysicalMemory } from "./phys.js";
import { HCR_DC, HCR_EL2, HCR_FWB_HI, HCR_VM, REGS_WORDS, VTCR_EL2, VTTBR_EL2, type RegisterFile } from "./registers.js";
import { fscAt, FSC_ACCESS_FLAG, FSC_ADDRESS_SIZE, FSC_TRANSLATION } from "./syndrome.js";
import { CHANGES, LINKS, type TablePages } from "./tables.js";
import {
  F_R0,
  F_R1,
  F_R1_PAN,
  F_W0,
  F_W1,
  F_W1_PAN,
  F_X0,
  F_X1,
  L_CHANGES,
  L_DESC_HI,
  L_DESC_LO,
  L_HI,
  L_LO,
  L_SIZE,
  L_TAG,
  W_CHANGES,
  W_HI,
  W_LO,
  W_TABLE_LO,
  W_TAG,
  type Tlbs,
} from "./tlb.js";
import { joinWords, POW2, type Ipa, type Pa } from "./types.js";

/** F_ bits by S2AP (bits 1:0) and XN[1:0] (bits 3:2). */
const PERMISSIONS = Int32Array.from({ length: 16 }, (_, n) => {
  const xn = n >> 2;
  let p = 0;
  if ((n & 1) !== 0) p |= F_R0 | F_R1 | F_R1_PAN;
  if ((n & 2) !== 0) p |= F_W0 | F_W1 | F_W1_PAN;
  if (xn === 0 || xn === 1) p |= F_X0;
  if (xn === 0 || xn === 3) p |= F_X1;
  return p;
});

/** `translate` found a leaf. */
export const NO_FAULT = -1;

/** MemAttr, S2AP, SH and FnXS in the low word of a leaf. */
const ATTRIBUTES = (0xf << S2_MEMATTR_SHIFT) | S2_S2AP_R | S2_S2AP_W | (SH_INNER << DESC_SH_SHIFT) | S2_FNXS;

/** `size` of a page of 4 KiB. */
const PAGE = (3 << 8) | 12;

/** The root of a walk lies beyond the physical address size. */
const BEYOND = -2;

export class Stage2 {
  /** The leaf: descriptor, and in words the PA of the byte asked for. */
  lo = 0;
  hi = 0;
  paHi = 0;
  paLo = 0;
  /** Level of the leaf in bits 15:8, log2 of what it covers in bits 7:0: a TLB entry's L_SIZE. Of a look that failed the level alone. */
  private size = PAGE;
  /** The leaf came from the TLB: its permissions may be older than the tables. */
  cached = false;
  /** A cached leaf or table was used that the tables no longer hold. */
  stale = false;

  /** VTCR_EL2 as decoded last, and what it says. */
  private vtcrLo = 0;
  private vtcrHi = 0;
  private start = -2;
  private pageShift = 12;
  private ipaLimit = 0;
  /** log2 of `ipaLimit`, in the high word; negative where that is not all to be said (`beyond`). */
  private ipaShift = -1;
  private firstBits = 0;
  /** log2 of the first PA beyond what the CPU has, in the high word. */
  private paShift = 0;
  private lpa2 = false;
  /** What `attributes` takes of a leaf's low word, and what VTCR_EL2 says for the rest. */
  private attributeMask = 0;
  private attributeBits = 0;
  private readonly regs: I32Pool;
  private readonly state: StateRegistry;

  constructor(
    private readonly sim: Sim,
    regs: RegisterFile,
    private readonly phys: PhysicalMemory,
    private readonly tables: TablePages,
    private readonly tlbs: Tlbs,
    private readonly features: CpuFeatures,
  ) {
    this.regs = regs.pool;
    this.state = sim.state;
  }

  /** True when stage 2 translates (HCR_EL2.VM, or DC which implies it). */
  enabled(v: number): boolean {
    return (this.regs.a[Math.imul(v, REGS_WORDS) + HCR_EL2]! & (HCR_VM | HCR_DC)) !== 0;
  }
  /** HCR_EL2.FWB, where the CPU has it. */
  fwb(v: number): boolean {
    return this.features.s2fwb && (this.regs.a[Math.imul(v, REGS_WORDS) + HCR_EL2 + 1]! & HCR_FWB_HI) !== 0;
  }

  private decode(lo: number, hi: number): void {
    this.vtcrLo = lo;
    this.vtcrHi = hi;
    this.level2Shape = -1;
    this.pageShift = tg0Shift((lo >>> 14) & 3);
    this.start = vtcrStartLevel(lo, hi);
    const isize = 64 - (lo & 0x3f);
    this.ipaLimit = POW2[isize]!;
    this.ipaShift = this.start === -2 ? -1 : Math.min(isize - 32, 31);
    this.firstBits = startBits(isize, this.start, this.pageShift);
    this.lpa2 = this.features.lpa2 && (hi & VTCR_DS_HI) !== 0;
    this.paShift = Math.min(paBitsOf((lo >>> 16) & 7), this.features.paBits, this.lpa2 || this.pageShift === 16 ? 52 : 48) - 32;
    this.attributeMask = this.lpa2 ? ATTRIBUTES & ~(SH_INNER << DESC_SH_SHIFT) : ATTRIBUTES;
    this.attributeBits = this.lpa2 ? ((lo >>> 12) & SH_INNER) << DESC_SH_SHIFT : 0;
  }

  /**
   * Translates an IPA, in two words, by way of the TLB. @param tag the VMID's stage-2 context on this CPU
   * @param fresh do not trust a cached leaf: its permission was not enough
   * @returns NO_FAULT when a leaf with its access flag set was found; else the fault status code with its level
   */
  readonly translate = (v: number, cpu: number, tag: number, hi: number, lo: number, fresh: boolean): number => {
    this.stale = false;
    const sizes = this.tlbs.stage2Sizes(cpu);
    if (fresh) this.drop(cpu, tag, hi, lo, sizes);
    else {
      let i = (sizes & 1) !== 0 ? this.tlbs.stage2Leaf(cpu, tag, hi, lo, 0) : -1;
      if (i < 0 && sizes > 1) i = this.cachedBlock(cpu, tag, hi, lo, sizes);
      if (i >= 0) {
        this.hit(v, cpu, tag, i, hi, lo);
        return NO_FAULT;
      }
    }
    return this.walk(v, cpu, tag, hi, lo, true, sizes);
  };

  private cachedBlock(cpu: number, tag: number, hi: number, lo: number, sizes: number): number {
    const i = (sizes & 2) !== 0 ? this.tlbs.stage2Leaf(cpu, tag, hi, lo, 1) : -1;
    return i < 0 && (sizes & 4) !== 0 ? this.tlbs.stage2Leaf(cpu, tag, hi, lo, 2) : i;
  }
  private drop(cpu: number, tag: number, hi: number, lo: number, sizes: number): void {
    for (let size = 0; size < 3; size++) {
      if ((sizes & (1 << size)) === 0) continue;
      const i = this.tlbs.stage2Leaf(cpu, tag, hi, lo, size);
      if (i >= 0) this.tlbs.stage2.set(i + L_TAG, 0);
    }
  }

  private readonly hit = (v: number, cpu: number, tag: number, i: number, hi: number, lo: number): void => {
    const t = this.tlbs.stage2;
    const { a } = t;
    const size = a[i + L_SIZE]!;
    const dlo = a[i + L_DESC_LO]!;
    const dhi = a[i + L_DESC_HI]!;
    const changes = this.tables.changes.a[CHANGES]!;
    if (a[i + L_CHANGES] !== changes) {
      this.stale = !this.holds(cpu, tag, hi, lo, dhi, dlo, size) && this.differs(v, hi, lo, dhi, dlo, size);
      t.set(i + L_CHANGES, changes);
    }
    this.leafIs(hi, lo, dhi, dlo, size);
    this.cached = true;
  };

  /**
   * True when the level-3 table of a cached page is known to be the tree's, and has the descriptor still: a short way to see
   * that nothing differs.
   */
  private holds(cpu: number, tag: number, hi: number, lo: number, dhi: number, dlo: number, size: number): boolean {
    if ((size & 0xff) !== 12) return false;
    const table = this.tlbs.walk2.a;
    const w = this.cachedTableAt(cpu, tag, hi, lo);
    if (w < 0 || table[w + W_CHANGES] !== this.tables.changes.a[LINKS]) return false;
    const words = this.tables.words.a;
    const word = table[w + W_TABLE_LO]! + (((lo >>> 12) & 511) << 1);
    return words[word] === dlo && words[word + 1] === dhi;
  }

  /** True when the tables now give another output address or less permission than a cached leaf. The fields are the walk's. */
  private differs(v: number, hi: number, lo: number, dhi: number, dlo: number, size: number): boolean {
    if (this.walk(v, -1, 0, hi, lo, false, 0) !== NO_FAULT) return true;
    const nowHi = this.paHi;
    const nowLo = this.paLo;
    const less = (dlo & ~this.lo & (S2_S2AP_R | S2_S2AP_W)) !== 0;
    this.leafIs(hi, lo, dhi, dlo, size);
    return less || this.paLo !== nowLo || this.paHi !== nowHi;
  }

  /** Walks the tables without TLB, events or costs; updates nothing. @returns false on a fault. Fills the fields. */
  peek(v: number, ipa: Ipa): boolean {
    return this.walk(v, -1, 0, (ipa / 4294967296) | 0, ipa | 0, false, 0) === NO_FAULT;
  }

  /** Fills the fields with a leaf and what it makes of an IPA. @param size as of the field */
  private leafIs(ipaHi: number, ipaLo: number, hi: number, lo: number, size: number): void {
    const shift = size & 0xff;
    this.hi = hi;
    this.lo = lo;
    this.size = size;
    const high = outputAddressHi(hi, lo, this.pageShift, this.lpa2);
    if (shift < 32) {
      const within = (1 << shift) - 1;
      this.paHi = high;
      this.paLo = (lo & ~within) | (ipaLo & within);
    } else {
      const within = (1 << (shift - 32)) - 1;
      this.paHi = (high & ~within) | (ipaHi & within);
      this.paLo = ipaLo;
    }
  }

  /** @param held the sizes of leaves that this CPU's TLB holds already */
  private fill(cpu: number, tag: number, hi: number, lo: number, dhi: number, dlo: number, size: number, held: number): void {
    const t = this.tlbs;
    const shift = size & 0xff;
    const kind = shift < 21 ? 0 : shift < 30 ? 1 : 2;
    const i = t.stage2At(cpu, hi, lo, kind);
    if ((held & (1 << kind)) === 0) t.noteStage2Size(cpu, kind);
    if (!this.state.recording) {
      const a = t.stage2.a;
      a[i + L_LO] = lo & ~0xfff;
      a[i + L_HI] = hi;
      a[i + L_TAG] = tag;
      a[i + L_DESC_LO] = dlo;
      a[i + L_DESC_HI] = dhi;
      a[i + L_SIZE] = size;
      a[i + L_CHANGES] = this.tables.changes.a[CHANGES]!;
    } else this.fillRecorded(i, tag, hi, lo);
  }
  private fillRecorded(i: number, tag: number, hi: number, lo: number): void {
    const p = this.tlbs.stage2;
    p.set(i + L_LO, lo & ~0xfff);
    p.set(i + L_HI, hi);
    p.set(i + L_TAG, tag);
    p.set(i + L_DESC_LO, this.lo);
    p.set(i + L_DESC_HI, this.hi);
    p.set(i + L_SIZE, this.size);
    p.set(i + L_CHANGES, this.tables.changes.a[CHANGES]!);
  }

  /**
   * The walk: of 4 KiB pages the walk cache, or the last walk, may leave nothing of it but the last level.
   * @param real with TLB, events, costs and hardware updates; else a look only @param held as of `fill` @returns as `translate`
   */
  private readonly walk = (v: number, cpu: number, tag: number, hi: number, lo: number, real: boolean, held: number): number => {
    const r = this.regs.a;
    const b = Math.imul(v, REGS_WORDS);
    const vtcrLo = r[b + VTCR_EL2]!;
    const vtcrHi = r[b + VTCR_EL2 + 1]!;
    if (((vtcrLo ^ this.vtcrLo) | (vtcrHi ^ this.vtcrHi)) !== 0) this.decode(vtcrLo, vtcrHi);
    this.cached = false;
    if (this.ipaShift < 0 ? this.beyond(hi, lo) : hi >>> this.ipaShift !== 0) return this.failed(real, hi, lo, FSC_TRANSLATION, 0, 0, 0);
    let table = real && this.pageShift === 12 ? this.cachedTable(cpu, tag, hi, lo, v) : -1;
    if (table < 0) table = this.knownTable(b, cpu, tag, hi, lo, real) | 0;
    // A whole number, which V8 does not know of a function that it leaves out here.
    if (table < 0) return this.walkFromAbove(b, cpu, tag, hi, lo, real, held) | 0;
    const words = this.tables.words.a;
    const word = (table + (((lo >>> 12) & 511) << 1)) | 0;
    const dlo = words[word]!;
    const dhi = words[(word + 1) | 0]!;
    if (real) this.sim.agents.charge(this.sim.costs.walkStep);
    if ((dlo & DESC_TYPE) !== (DESC_VALID | DESC_TABLE)) return this.failed(real, hi, lo, FSC_TRANSLATION, 3, dhi, dlo);
    return this.leaf(real, cpu, tag, hi, lo, word, dhi, dlo, PAGE, held);
  };

  /** The same from the root, or from a level-2 table that is known. */
  private walkFromAbove(b: number, cpu: number, tag: number, hi: number, lo: number, real: boolean, held: number): number {
    const words = this.tables.words;
    const pageShift = this.pageShift;
    let word = this.begin(b, hi, lo, real) | 0;
    if (word === BEYOND) return this.failed(real, hi, lo, FSC_ADDRESS_SIZE, 0, 0, 0);
    let level = this.firstLevel | 0;
    for (;;) {
      let dlo: number;
      let dhi: number;
      if (word >= 0) {
        dlo = words.a[word]!;
        dhi = words.a[word + 1]!;
      } else {
        this.phys.read(this.outside, 8);
        dlo = this.phys.lo;
        dhi = this.phys.hi;
      }
      if (real) this.sim.agents.charge(this.sim.costs.walkStep);
      if ((dlo & DESC_VALID) === 0) return this.failed(real, hi, lo, FSC_TRANSLATION, level, dhi, dlo);
      const table = (dlo & DESC_TABLE) !== 0;
      const shift = pageShift + (pageShift - 3) * (3 - level);
      if (level === 3 || !table) {
        if (level === 3 ? !table : !blockAllowed(level, pageShift)) return this.failed(real, hi, lo, FSC_TRANSLATION, level, dhi, dlo);
        return this.leaf(real, cpu, tag, hi, lo, word, dhi, dlo, (level << 8) | shift, held);
      }
      const next = outputAddressAt(dhi, dlo, pageShift, pageShift, this.lpa2);
      if (this.tooLarge(next)) return this.failed(real, hi, lo, FSC_ADDRESS_SIZE, level, dhi, dlo);
      level++;
      word = this.wordOf(next, bitsAt(hi, lo, shift - (pageShift - 3), pageShift - 3)) | 0;
      if (pageShift !== 12 || word < 0) continue;
      if (level === 3) {
        this.level3 = this.lastTable = word - (((lo >>> 12) & 511) << 1);
        this.level3Lo = lo;
        if (real) this.cacheTable(cpu, tag, hi, lo, this.lastTable);
      } else if (level === 2) this.rememberLevel2(b, hi, lo, word - ((lo >>> 21) & 511) * 2);
    }
  }

  /** Is an IPA outside of what VTCR_EL2 says, or says that no sense can be made of? Asked where `ipaShift` is negative. */
  private beyond(hi: number, lo: number): boolean {
    return this.start === -2 || joinWords(hi, lo) >= this.ipaLimit;
  }
  private tooLarge(table: Pa): boolean {
    return table >= POW2[this.paShift + 32]!;
  }

  /** The first descriptor that a walk without a cached table reads, at `firstLevel`: the root's, or that of a level-2 table which is known. @returns its word, -1 outside the window, or BEYOND */
  private begin(b: number, hi: number, lo: number, real: boolean): number {
    const { start, pageShift } = this;
    if (this.knowsLevel2(b, hi, lo)) {
      // The levels above cost what they cost.
      if (real) this.sim.agents.charge((2 - start) * this.sim.costs.walkStep);
      this.firstLevel = 2;
      return this.level2 + ((lo >>> 21) & 511) * 2;
    }
    this.level2Shape = -1;
    const r = this.regs.a;
    const root = joinWords(r[b + VTTBR_EL2 + 1]! & 0xffff, r[b + VTTBR_EL2]! & ~1);
    if (this.tooLarge(root)) return BEYOND;
    this.firstLevel = start;
    return this.wordOf(root, bitsAt(hi, lo, pageShift + (pageShift - 3) * (3 - start), this.firstBits));
  }

  private firstLevel = 0;
  /** The level-2 table of the last walk with 4 KiB pages that came to one: its first word, the root and the GiB that it was for, and `reshaped` then. */
  private level2 = 0;
  private level2RootLo = 0;
  private level2RootHi = 0;
  private level2Hi = 0;
  private level2Lo = 0;
  private level2Shape = -1;
  /** The level-3 table that the last walk by way of that table came to, -1: none; and an address of the 2 MiB that it was for. */
  private level3 = -1;
  private level3Lo = 0;

  /** The level-3 table that a walk would come to again, or -1: then none of its descriptors above need be read. */
  private knownTable(b: number, cpu: number, tag: number, hi: number, lo: number, real: boolean): number {
    const { level3 } = this;
    if (level3 < 0 || ((lo ^ this.level3Lo) & ~0x1fffff) !== 0 || !this.knowsLevel2(b, hi, lo)) return -1;
    this.lastTable = level3;
    if (real) {
      // The levels above cost what they cost.
      this.sim.agents.charge((3 - this.start) * this.sim.costs.walkStep);
      this.cacheTable(cpu, tag, hi, lo, level3);
    }
    return level3;
  }

  /** Would a walk come to that table again? Then its descriptors above need not be read. */
  private knowsLevel2(b: number, hi: number, lo: number): boolean {
    const r = this.regs.a;
    return (
      this.level2Shape === this.tables.reshaped &&
      hi === this.level2Hi &&
      ((lo ^ this.level2Lo) & 0xc0000000) === 0 &&
      r[b + VTTBR_EL2] === this.level2RootLo &&
      r[b + VTTBR_EL2 + 1] === this.level2RootHi
    );
  }
  private rememberLevel2(b: number, hi: number, lo: number, table: number): void {
    const r = this.regs.a;
    this.level2 = table;
    this.level2RootLo = r[b + VTTBR_EL2]!;
    this.level2RootHi = r[b + VTTBR_EL2 + 1]!;
    this.level2Hi = hi;
    this.level2Lo = lo;
    this.level2Shape = this.tables.reshaped;
    this.level3 = -1;
  }

  /** PA of a descriptor outside the window of tables (a root that nobody allocated); `wordOf` gave -1. */
  private outside: Pa = 0;
  private wordOf(table: Pa, index: number): number {
    const tables = this.tables;
    if (tables.contains(table)) {
      const word = tables.word(table) + index * 2;
      if (word + 1 < tables.words.a.length) return word;
    }
    this.outside = table + index * 8;
    return -1;
  }

  /** The walk cache's entry for the level-3 table of an IPA, or -1. */
  private cachedTableAt(cpu: number, tag: number, hi: number, lo: number): number {
    const a = this.tlbs.walk2.a;
    const i = this.tlbs.walkAt(cpu, hi, lo);
    return ((a[i + W_TAG]! ^ tag) | (a[i + W_LO]! ^ (lo & ~0x1fffff)) | (a[i + W_HI]! ^ hi)) === 0 ? i : -1;
  }

  private cachedTable(cpu: number, tag: number, hi: number, lo: number, v: number): number {
    const i = this.cachedTableAt(cpu, tag, hi, lo);
    if (i < 0) return -1;
    const a = this.tlbs.walk2.a;
    const links = this.tables.changes.a[LINKS]!;
    const table = a[i + W_TABLE_LO]!;
    const seen = a[i + W_CHANGES]!;
    if (seen !== links && seen !== ~links) this.compareTable(v, hi, lo, i, table);
    return table;
  }
  /** Is a table in the walk cache the one that the tree names now, by a look from the root? */
  private compareTable(v: number, hi: number, lo: number, i: number, table: number): void {
    const links = this.tables.changes.a[LINKS]!;
    const same = this.peekTable(v, hi, lo) === table;
    if (!same) this.stale = true;
    this.tlbs.walk2.set(i + W_CHANGES, same ? links : ~links);
  }

  /** Words of the level-3 table that the tree names for an IPA, or -1. */
  private peekTable(v: number, hi: number, lo: number): number {
    this.lastTable = -1;
    this.walk(v, -1, 0, hi, lo, false, 0);
    return this.lastTable;
  }
  private lastTable = -1;
  /** Word index of the leaf that the last look read, -1 outside the window of tables. */
  private word = -1;

  private readonly cacheTable = (cpu: number, tag: number, hi: number, lo: number, table: number): void => {
    const t = this.tlbs.walk2;
    const i = this.tlbs.walkAt(cpu, hi, lo);
    t.set2(i + W_LO, lo & ~0x1fffff, hi);
    t.set2(i + W_TAG, tag, table);
    t.set(i + W_CHANGES, this.tables.changes.a[LINKS]!);
  };

  private leaf(
    real: boolean,
    cpu: number,
    tag: number,
    hi: number,
    lo: number,
    word: number,
    dhi: number,
    dlo: number,
    size: number,
    held: number,
  ): number {
    const level = size >> 8;
    this.leafIs(hi, lo, dhi, dlo, size);
    if (this.paHi >>> this.paShift !== 0) return this.failed(real, hi, lo, FSC_ADDRESS_SIZE, level, dhi, dlo);
    if (!real) {
      this.word = word;
      return NO_FAULT;
    }
    if ((dlo & DESC_AF) === 0) {
      if ((this.vtcrLo & VTCR_HA) === 0 || !this.features.hafdbs) return this.failed(real, hi, lo, FSC_ACCESS_FLAG, level, dhi, dlo);
      dlo |= DESC_AF;
      this.update(word, dlo);
    }
    if (!this.sim.bus.unheard()) this.sim.bus.emit(stage2Walk, joinWords(hi, lo), level, this.hi, this.lo, this.pa, 0);
    this.fill(cpu, tag, hi, lo, dhi, dlo, size, held);
    return NO_FAULT;
  }

  /** Hardware update of the leaf that was just read (FEAT_HAFDBS): atomic, and no break-before-make matter. */
  private update(word: number, lo: number): void {
    this.lo = lo;
    if (word >= 0) this.tables.words.set(word, lo);
    else this.phys.write(this.outside, 4, lo);
  }

  /** A write met a leaf that hardware may make dirty: DBM with VTCR_EL2.HD and HA. @returns true if it is writable now. */
  canDirty(): boolean {
    return this.features.hafdbs && (this.hi & HI_DBM) !== 0 && (this.vtcrLo & (VTCR_HA | VTCR_HD)) === (VTCR_HA | VTCR_HD);
  }
  /** Sets S2AP[1] in the tables for an IPA whose fresh walk has just succeeded. */
  setDirty(v: number, hi: number, lo: number): void {
    if (this.walk(v, -1, 0, hi, lo, false, 0) === NO_FAULT) this.update(this.word, this.lo | S2_S2AP_W);
  }

  /** @returns the fault status code */
  private failed(real: boolean, hi: number, lo: number, kind: number, level: number, dhi: number, dlo: number): number {
    if (!real) this.size = level << 8;
    else if (!this.sim.bus.unheard()) this.sim.bus.emit(stage2Walk, joinWords(hi, lo), level, dhi, dlo, 0, 1);
    return fscAt(kind, level);
  }

  // ---- what the last leaf says

  /** PA of the byte asked for. */
  get pa(): Pa {
    return joinWords(this.paHi, this.paLo);
  }
  get level(): number {
    return this.size >> 8;
  }
  /** What it says of type and permissions, in one word: MemAttr 5:2, S2AP 7:6, SH 9:8, FnXS 11, XN 22:21. */
  get attributes(): number {
    return (this.lo & this.attributeMask) | this.attributeBits | (this.hi & (HI_PXN | HI_UXN));
  }
  get memAttr(): number {
    return memAttrOf(this.lo);
  }
  /** SH of the leaf; with LPA2 it is VTCR_EL2.SH0. */
  get sh(): number {
    return this.lpa2 === true ? (this.vtcrLo >>> 12) & 3 : (this.lo >>> 8) & SH_INNER;
  }
  /** True when MemAttr means Device. */
  isDevice(fwb: boolean): boolean {
    return (this.lo & (fwb ? 0x10 : 0x30)) === 0;
  }
  get readable(): boolean {
    return (this.lo & S2_S2AP_R) !== 0;
  }
  get writable(): boolean {
    return (this.lo & S2_S2AP_W) !== 0;
  }
  /** What the leaf permits, as the F_ bits of a combined entry. */
  get permissions(): number {
    return PERMISSIONS[((this.lo >>> 6) & 3) | (((this.hi >>> 21) & (this.features.xnx ? 3 : 2)) << 2)]!;
  }
}
