/**
 * Stage-1 translation of the EL1&0 regime (Arm ARM D8.2, D8.3; AArch64.S1Translate, AArch64.S1Walk):
 * a 64-bit VA through TTBR0_EL1 or TTBR1_EL1 to an IPA. Every descriptor is itself read at an IPA,
 * so each read goes through stage 2 first and may fault there (S1PTW).
 *
 * The result is the leaf descriptor with the hierarchical restrictions folded into it.
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import {
  DESC_AF,
  DESC_TABLE,
  DESC_VALID,
  HI_APTABLE_NOEL0,
  HI_APTABLE_RO,
  HI_DBM,
  HI_PXN,
  HI_PXNTABLE,
  HI_UXN,
  HI_UXNTABLE,
  outputAddressAt,
  S1_AP_EL0,
  S1_AP_RDONLY,
} from "./descriptors.js";
import { stage1Walk } from "./events.js";
import type { CpuFeatures } from "./features.js";
import { bitsAt, blockAllowed, levelShift, paBitsOf, startBits, startLevel, tg0Shift, tg1Shift } from "./geometry.js";
import type { PhysicalMemory } from "./phys.js";
import { HCR_EL2, HCR_PTW, REGS_WORDS, TCR_EL1, TTBR0_EL1, TTBR1_EL1, type RegisterFile } from "./registers.js";
import type { GuestContext } from "./guestcontext.js";
import { NO_FAULT, type Stage2 } from "./stage2walk.js";
import { fscAt, FSC_ACCESS_FLAG, FSC_ADDRESS_SIZE, FSC_PERMISSION, FSC_SEA_WALK, FSC_TRANSLATION } from "./syndrome.js";
import type { TablePages } from "./tables.js";
import {
  BIG_GUEST,
  L_DESC_HI,
  L_DESC_LO,
  L_HI,
  L_IDS,
  L_LO,
  L_SIZE,
  L_TAG,
  W_CHANGES,
  W_HI,
  W_HIER,
  W_IDS,
  W_LO,
  W_TABLE_HI,
  W_TABLE_LO,
  W_TAG,
  type Tlbs,
} from "./tlb.js";
import { joinWords, POW2, type Ipa, type Pa } from "./types.js";

/** Bits of TCR_EL1's high word: TBI0, TBI1, HA, HD, HPD0, HPD1, E0PD0, E0PD1. */
export const TCR_TBI0_HI = 1 << 5;
export const TCR_TBI1_HI = 1 << 6;
const TCR_HA_HI = 1 << 7;
const TCR_HD_HI = 1 << 8;
const TCR_HPD0_HI = 1 << 9;
const TCR_HPD1_HI = 1 << 10;
const TCR_E0PD0_HI = 1 << 23;
const TCR_E0PD1_HI = 1 << 24;
const TCR_EPD0 = 1 << 7;
const TCR_EPD1 = 1 << 23;
/** nG, in the low word of a leaf. */
const NG = 1 << 11;

/** Results of `translate`. */
export const S1_OK = 0;
/** Stage-1 fault: `fault` is its status code. */
export const S1_FAULT = 1;
/** Stage-2 fault on the walk: `fault` is the stage-2 code, `walkIpa` the descriptor's address. */
export const S1_WALK_FAULT = 2;
/** External abort on the walk: a descriptor is lost. `fault` is its status code, `walkIpa` the descriptor's address. */
export const S1_EXTERNAL_ABORT = 3;

export class Stage1 {
  /** The leaf, hierarchical restrictions folded in, its level, log2 of its size, and the IPA asked for. */
  lo = 0;
  hi = 0;
  level = 3;
  shift = 12;
  ipa: Ipa = 0;
  /** Fault status code, and the level of the stage-1 table that was being read. */
  fault = -1;
  walkLevel = 0;
  /** IPA of the descriptor of a stage-2 fault. */
  walkIpa: Ipa = 0;
  /** The leaf came from the TLB. */
  cached = false;
  /** A read of a descriptor used a stale stage-2 entry. */
  stale = false;

  private readonly regs: I32Pool;
  /** Where the leaf was read, for hardware updates. */
  private leafPa: Pa = 0;
  private leafIpa: Ipa = 0;

  constructor(
    private readonly sim: Sim,
    regs: RegisterFile,
    private readonly phys: PhysicalMemory,
    private readonly tables: TablePages,
    private readonly tlbs: Tlbs,
    private readonly features: CpuFeatures,
    private readonly stage2: Stage2,
  ) {
    this.regs = regs.pool;
  }

  /**
   * Translates a canonical VA (tag bits replaced by bit 55). @param fresh do not trust a cached leaf
   * @param el0 the access is made with EL0's rights
   */
  translate(v: number, c: GuestContext, hi: number, lo: number, el0: boolean, fresh: boolean): number {
    this.stale = false;
    const t = this.tlbs.stage1;
    const i = this.tlbs.stage1At(c.cpu, hi, lo);
    const tag = t.a[i + L_TAG]!;
    if (tag !== 0 && (tag === c.asidTag || tag === c.globalTag) && t.a[i + L_LO] === (lo & ~0xfff) && t.a[i + L_HI] === hi) {
      if (!fresh) {
        this.lo = t.a[i + L_DESC_LO]!;
        this.hi = t.a[i + L_DESC_HI]!;
        this.level = t.a[i + L_SIZE]! >> 8;
        this.shift = t.a[i + L_SIZE]! & 0xff;
        this.cached = true;
        this.fault = -1;
        this.ipa = this.leafAddress(hi, lo);
        return S1_OK;
      }
      t.set(i + L_TAG, 0);
    }
    this.cached = false;
    this.walkLevel = 0;
    const rc = this.walk(v, c, hi, lo, el0);
    if (rc === S1_OK) this.fill(c, i, hi, lo);
    this.sim.bus.emit(stage1Walk, hi, lo, this.level, this.hi, this.lo, rc === S1_OK ? this.ipa : this.walkIpa, rc);
    return rc;
  }

  private leafAddress(hi: number, lo: number): Ipa {
    const base = outputAddressAt(this.hi, this.lo, this.shift, this.pageShift, false);
    if (this.shift < 32) return base + (lo & ((1 << this.shift) - 1));
    return base + joinWords(hi & ((1 << (this.shift - 32)) - 1), lo);
  }

  private fill(c: GuestContext, i: number, hi: number, lo: number): void {
    const t = this.tlbs.stage1;
    if (this.shift > 12) this.tlbs.noteBig(c.cpu, BIG_GUEST);
    if (!this.sim.state.recording) {
      const a = t.a;
      a[i + L_LO] = lo & ~0xfff;
      a[i + L_HI] = hi;
      a[i + L_TAG] = (this.lo & NG) !== 0 ? c.asidTag : c.globalTag;
      a[i + L_DESC_LO] = this.lo;
      a[i + L_DESC_HI] = this.hi;
      a[i + L_SIZE] = (this.level << 8) | this.shift;
      a[i + L_IDS] = c.ids;
      return;
    }
    t.set(i + L_LO, lo & ~0xfff);
    t.set(i + L_HI, hi);
    t.set(i + L_TAG, (this.lo & NG) !== 0 ? c.asidTag : c.globalTag);
    t.set(i + L_DESC_LO, this.lo);
    t.set(i + L_DESC_HI, this.hi);
    t.set(i + L_SIZE, (this.level << 8) | this.shift);
    t.set(i + L_IDS, c.ids);
  }

  private pageShift = 12;

  /** TCR_EL1 as decoded last, and what it says for the lower [0] and upper [1] half. */
  private tcrLo = 0;
  private tcrHi = 0;
  private limit = 0;
  private readonly half: [TcrHalf, TcrHalf] = [decodeHalf(0, 0, 0), decodeHalf(0, 0, 1)];

  private decode(lo: number, hi: number): void {
    this.tcrLo = lo;
    this.tcrHi = hi;
    this.limit = POW2[Math.min(paBitsOf(hi & 7), this.features.paBits, 48)]!;
    this.half[0] = decodeHalf(lo, hi, 0);
    this.half[1] = decodeHalf(lo, hi, 1);
  }

  private walk(v: number, c: GuestContext, hi: number, lo: number, el0: boolean): number {
    const r = this.regs.a;
    const b = Math.imul(v, REGS_WORDS);
    const tcrHi = r[b + TCR_EL1 + 1]!;
    if (r[b + TCR_EL1] !== this.tcrLo || tcrHi !== this.tcrHi) this.decode(r[b + TCR_EL1]!, tcrHi);
    const upper = (hi & 0x800000) !== 0;
    const t = upper ? this.half[1] : this.half[0];
    const pageShift = t.pageShift;
    this.pageShift = pageShift;
    this.lo = this.hi = 0;
    this.level = 0;
    this.walkIpa = 0;
    if (t.disabled || !inRange(hi, lo, t.isize, upper)) return this.failed(FSC_TRANSLATION, 0);
    if (el0 && t.el0Disabled) return this.failed(FSC_TRANSLATION, 0);
    const limit = this.limit;
    const ttbr = b + (upper ? TTBR1_EL1 : TTBR0_EL1);
    let level = t.startLevel;
    let bits = t.startBits;
    let table = joinWords(r[ttbr + 1]! & 0xffff, r[ttbr]! & t.tableMask);
    if (table >= limit) return this.failed(FSC_ADDRESS_SIZE, 0);
    let hier = 0;
    let known = this.cachedTable(c, hi, lo, pageShift);
    if (known) {
      level = 3;
      bits = pageShift - 3;
      table = this.tablePa;
      hier = this.tableHier;
    }
    for (;;) {
      const offset = bitsAt(hi, lo, levelShift(level, pageShift), bits) * 8;
      this.walkLevel = level;
      if (known) {
        this.leafPa = table + offset;
        this.leafIpa = -1;
      } else {
        const fault = this.descriptorAddress(v, c, table + offset);
        if (fault >= 0) {
          this.fault = fault;
          return S1_WALK_FAULT;
        }
        if (level === 3 && pageShift === 12) this.cacheTable(c, hi, lo, this.leafPa - offset, hier);
      }
      if (this.phys.direct !== true && this.lost()) {
        if (known) {
          // Its IPA was left out: the walk is made once more, from the root.
          this.dropTable(c, hi, lo);
          return this.walk(v, c, hi, lo, el0);
        }
        this.fault = fscAt(FSC_SEA_WALK, level);
        return S1_EXTERNAL_ABORT;
      }
      this.phys.read(this.leafPa, 8);
      this.sim.agents.charge(this.sim.costs.walkStep);
      const dlo = this.phys.lo;
      const dhi = this.phys.hi;
      this.lo = dlo;
      this.hi = dhi;
      this.level = level;
      if ((dlo & DESC_VALID) === 0) return this.failed(FSC_TRANSLATION, level);
      const isTable = (dlo & DESC_TABLE) !== 0;
      if (level === 3 || !isTable) {
        if (level === 3 ? !isTable : !blockAllowed(level, pageShift)) return this.failed(FSC_TRANSLATION, level);
        return this.leaf(v, c, hi, lo, level, hier, limit, tcrHi);
      }
      const next = outputAddressAt(dhi, dlo, pageShift, pageShift, false);
      if (next >= limit) return this.failed(FSC_ADDRESS_SIZE, level);
      if (!t.hpd) hier |= dhi & (HI_PXNTABLE | HI_UXNTABLE | HI_APTABLE_NOEL0 | HI_APTABLE_RO);
      table = next;
      bits = pageShift - 3;
      level++;
      known = false;
    }
  }

  /** The walk consumes a descriptor of which nothing is left. */
  private lost(): boolean {
    const { errors } = this.phys;
    return errors !== undefined && errors.consume(this.leafPa, 8) >= 0;
  }

  private leaf(v: number, c: GuestContext, hi: number, lo: number, level: number, hier: number, limit: number, tcrHi: number): number {
    this.shift = levelShift(level, this.pageShift);
    const ipa = this.leafAddress(hi, lo);
    if (ipa >= limit) return this.failed(FSC_ADDRESS_SIZE, level);
    if ((this.lo & DESC_AF) === 0) {
      if ((tcrHi & TCR_HA_HI) === 0 || !this.features.hafdbs) return this.failed(FSC_ACCESS_FLAG, level);
      const fault = this.update(v, c, hi, lo, DESC_AF, 0);
      if (fault >= 0) {
        this.fault = fault;
        return S1_WALK_FAULT;
      }
    }
    if (hier !== 0) this.restrict(hier);
    this.fault = -1;
    this.ipa = ipa;
    return S1_OK;
  }

  /** Folds what the tables above forbid into the leaf. */
  private restrict(hier: number): void {
    if ((hier & HI_APTABLE_RO) !== 0) {
      this.lo |= S1_AP_RDONLY;
      // What a table forbids, the dirty mechanism does not give back.
      this.hi &= ~HI_DBM;
    }
    if ((hier & HI_APTABLE_NOEL0) !== 0) this.lo &= ~S1_AP_EL0;
    if ((hier & HI_UXNTABLE) !== 0) this.hi |= HI_UXN;
    if ((hier & HI_PXNTABLE) !== 0) this.hi |= HI_PXN;
  }

  private failed(kind: number, level: number): number {
    this.fault = fscAt(kind, level);
    this.level = level;
    return S1_FAULT;
  }

  /** Translates the IPA of a descriptor as a read. Leaves its PA in `leafPa`. @returns -1 or a stage-2 fault code */
  private descriptorAddress(v: number, c: GuestContext, ipa: Ipa): number {
    this.walkIpa = ipa;
    this.leafIpa = ipa;
    // Without stage 2 the IPA is the physical address.
    this.leafPa = ipa as number;
    if (!c.stage2) return -1;
    const s2 = this.stage2;
    const hi = (ipa / 4294967296) | 0;
    const lo = ipa | 0;
    let fault = s2.translate(v, c.cpu, c.stage2Tag, hi, lo, false);
    if (fault !== NO_FAULT) return fault;
    this.stale ||= s2.stale;
    if (!s2.readable && s2.cached) {
      fault = s2.translate(v, c.cpu, c.stage2Tag, hi, lo, true);
      if (fault !== NO_FAULT) return fault;
    }
    if (!s2.readable || (s2.isDevice(s2.fwb(v)) && this.protectedWalk(v))) return fscAt(FSC_PERMISSION, s2.level);
    this.leafPa = s2.pa;
    return -1;
  }

  /** HCR_EL2.PTW: a walk through Device memory is a permission fault; else it is read as Normal Non-cacheable. */
  private protectedWalk(v: number): boolean {
    return (this.regs.a[Math.imul(v, REGS_WORDS) + HCR_EL2]! & HCR_PTW) !== 0;
  }

  /**
   * Hardware update of the leaf just read (FEAT_HAFDBS): sets and clears bits of its low word in memory.
   * The table must be writable at stage 2. @returns -1 or a stage-2 permission fault code
   */
  private update(v: number, c: GuestContext, hi: number, lo: number, set: number, clear: number): number {
    if (c.stage2) {
      // A leaf read through the walk cache left no stage-2 result behind: look the table up again.
      if (this.leafIpa < 0) {
        this.dropTable(c, hi, lo);
        const rc = this.walk(v, c, hi, lo, false);
        return rc === S1_OK ? -1 : this.fault;
      }
      const s2 = this.stage2;
      const ipaHi = (this.leafIpa / 4294967296) | 0;
      const ipaLo = this.leafIpa | 0;
      let fault = s2.translate(v, c.cpu, c.stage2Tag, ipaHi, ipaLo, false);
      if (fault === NO_FAULT && !s2.writable && s2.cached) fault = s2.translate(v, c.cpu, c.stage2Tag, ipaHi, ipaLo, true);
      if (fault !== NO_FAULT) return fault;
      if (!s2.writable) {
        if (!s2.canDirty()) return fscAt(FSC_PERMISSION, s2.level);
        s2.setDirty(v, ipaHi, ipaLo);
      }
    }
    this.phys.read(this.leafPa, 4);
    this.phys.write(this.leafPa, 4, (this.phys.lo | set) & ~clear);
    this.lo = (this.lo | set) & ~clear;
    return -1;
  }

  /** True when a write to this read-only leaf makes it dirty instead of faulting (DBM with TCR_EL1.HA and HD). */
  canDirty(v: number): boolean {
    const tcrHi = this.regs.a[Math.imul(v, REGS_WORDS) + TCR_EL1 + 1]!;
    return this.features.hafdbs && (this.hi & HI_DBM) !== 0 && (tcrHi & (TCR_HA_HI | TCR_HD_HI)) === (TCR_HA_HI | TCR_HD_HI);
  }
  /** Makes the leaf dirty, after a fresh walk. @returns S1_OK, or S1_WALK_FAULT when stage 2 does not let the table be written */
  setDirty(v: number, c: GuestContext, hi: number, lo: number): number {
    if (this.leafIpa < 0) {
      this.dropTable(c, hi, lo);
      const rc = this.walk(v, c, hi, lo, false);
      if (rc !== S1_OK) return rc;
    }
    const fault = this.update(v, c, hi, lo, 0, S1_AP_RDONLY);
    if (fault < 0) {
      this.fill(c, this.tlbs.stage1At(c.cpu, hi, lo), hi, lo);
      return S1_OK;
    }
    this.fault = fault;
    this.walkIpa = this.leafIpa;
    return S1_WALK_FAULT;
  }

  // ---- walk cache: the level-3 table of 2 MiB, by physical address

  private tablePa: Pa = 0;
  private tableHier = 0;

  private cachedTable(c: GuestContext, hi: number, lo: number, pageShift: number): boolean {
    if (pageShift !== 12) return false;
    const t = this.tlbs.walk1.a;
    const i = this.tlbs.walkAt(c.cpu, hi, lo);
    if (t[i + W_TAG] !== c.asidTag || t[i + W_LO] !== (lo & ~0x1fffff) || t[i + W_HI] !== hi) return false;
    // A stage-2 table changed since: check nothing here, but do not build new entries on it silently.
    if (t[i + W_CHANGES] !== this.tables.changes.a[0]!) return false;
    this.tablePa = joinWords(t[i + W_TABLE_HI]!, t[i + W_TABLE_LO]!);
    this.tableHier = t[i + W_HIER]!;
    return true;
  }

  private cacheTable(c: GuestContext, hi: number, lo: number, pa: Pa, hier: number): void {
    const t = this.tlbs.walk1;
    const i = this.tlbs.walkAt(c.cpu, hi, lo);
    t.set(i + W_LO, lo & ~0x1fffff);
    t.set(i + W_HI, hi);
    t.set(i + W_TAG, c.asidTag);
    t.set(i + W_TABLE_LO, pa | 0);
    t.set(i + W_TABLE_HI, (pa / 4294967296) | 0);
    t.set(i + W_HIER, hier);
    t.set(i + W_IDS, c.ids);
    t.set(i + W_CHANGES, this.tables.changes.a[0]!);
  }

  private dropTable(c: GuestContext, hi: number, lo: number): void {
    const i = this.tlbs.walkAt(c.cpu, hi, lo);
    this.tlbs.walk1.set(i + W_TAG, 0);
  }
}

/** One half of TCR_EL1, decoded. */
interface TcrHalf {
  readonly isize: number;
  readonly pageShift: number;
  readonly startLevel: number;
  readonly startBits: number;
  /** Alignment of the start table: to its own size if that is smaller than a page; bit 0 is CnP. */
  readonly tableMask: number;
  /** EPD, or TxSZ out of range: every walk is a level-0 translation fault. */
  readonly disabled: boolean;
  readonly el0Disabled: boolean;
  readonly hpd: boolean;
}

function decodeHalf(lo: number, hi: number, upper: 0 | 1): TcrHalf {
  const tsz = upper === 1 ? (lo >>> 16) & 0x3f : lo & 0x3f;
  const pageShift = upper === 1 ? tg1Shift((lo >>> 30) & 3) : tg0Shift((lo >>> 14) & 3);
  const isize = 64 - tsz;
  const level = startLevel(isize, pageShift);
  const bits = startBits(isize, level, pageShift);
  return {
    isize,
    pageShift,
    startLevel: level,
    startBits: bits,
    tableMask: (-1 << Math.min(Math.max(bits, 1) + 3, 31)) & ~1,
    disabled: tsz < 16 || tsz > 48 || (lo & (upper === 1 ? TCR_EPD1 : TCR_EPD0)) !== 0,
    el0Disabled: (hi & (upper === 1 ? TCR_E0PD1_HI : TCR_E0PD0_HI)) !== 0,
    hpd: (hi & (upper === 1 ? TCR_HPD1_HI : TCR_HPD0_HI)) !== 0,
  };
}

/** True when the bits of a canonical VA above its input size are all copies of bit 55. */
function inRange(hi: number, lo: number, isize: number, upper: boolean): boolean {
  const h = upper ? ~hi : hi;
  if (isize >= 32) return h >>> (isize - 32) === 0;
  const l = upper ? ~lo : lo;
  return h === 0 && l >>> isize === 0;
}
