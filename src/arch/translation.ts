/**
 * The way of an access that missed the combined TLB: stage-1 walk, alignment by stage-1 type,
 * stage-1 permission, stage-2 walk, alignment by stage-2 type, stage-2 permission, resulting type,
 * the new TLB entry; or the abort, to EL1 or EL2 (Arm ARM D8.15, AArch64.FullTranslate).
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import { BRACKETS } from "./brackets.js";
import { HI_PXN, HI_UXN, S1_AP_EL0, S1_AP_RDONLY } from "./descriptors.js";
import { memoryAbort, staleTranslation, tlbMiss } from "./events.js";
import type { Exceptions } from "./exception.js";
import type { CpuFeatures } from "./features.js";
import type { GuestContext } from "./guestcontext.js";
import {
  ATTR_NC,
  ATTR_TAGGED,
  ATTR_WB,
  ATTR_WT_RA,
  canonicalAttr,
  isCacheable,
  isDevice,
  isWriteBack,
  mairByte,
  supportsAtomics,
} from "./mair.js";
import { combine, combineAttr, RESULT_ATTR, RESULT_SH_SHIFT, SH_OSH, stage1Only } from "./memtype.js";
import type { PhysicalMemory } from "./phys.js";
import type { MachineProfile } from "./profile.js";
import {
  ESR_EL2,
  FAR_EL2,
  HCR_DC,
  HCR_DCT_HI,
  HCR_EL2,
  HCR_TEA_HI,
  HCR_ID_HI,
  HPFAR_EL2,
  MAIR_EL1,
  REGS_WORDS,
  SCTLR_C,
  SCTLR_EL1,
  SCTLR_I,
  SCTLR_WXN,
  type RegisterFile,
} from "./registers.js";
import { S1_EXTERNAL_ABORT, S1_FAULT, S1_OK, type Stage1 } from "./stage1.js";
import type { Stage2 } from "./stage2walk.js";
import {
  dataAbort,
  EC_DABT_CUR,
  EC_DABT_LOW,
  EC_IABT_CUR,
  EC_IABT_LOW,
  fscAt,
  FSC_ADDRESS_SIZE,
  FSC_ALIGNMENT,
  FSC_PERMISSION,
  FSC_SEA,
  FSC_UNSUPPORTED_ATOMIC,
  hpfarHi,
  hpfarLo,
  instructionAbort,
  ISS_CM,
  ISS_ISV_FIELDS,
  ISS_S1PTW,
  ISS_WNR,
} from "./syndrome.js";
import type { TablePages } from "./tables.js";
import type { TlbMaintenance } from "./tlbi.js";
import {
  BIG_GUEST,
  C_CHANGES,
  C_FLAGS,
  C_IDS,
  C_IPA_HI,
  C_IPA_LO,
  C_PA_HI,
  C_PA_LO,
  C_S1,
  C_SLOT,
  C_TAG,
  C_VA_HI,
  C_VA_LO,
  F_ATOMICS,
  F_CACHED,
  F_DEVICE,
  F_DEVICE1,
  F_FETCH_CACHED,
  F_R0,
  F_R1,
  F_R1_PAN,
  F_W0,
  F_W1,
  F_W1_PAN,
  F_WRITE_THROUGH,
  F_X0,
  F_X1,
  type Tlbs,
} from "./tlb.js";
import { joinWords, type Pa } from "./types.js";

/** The access was made. */
export const PE_OK = 0;
/** An exception was taken to EL1: ESR, FAR, ELR, SPSR, PC and PSTATE are set. */
export const PE_EL1 = 1;
/** A stage-2 abort is latched in ESR_EL2, FAR_EL2, HPFAR_EL2. */
export const PE_EL2 = 2;

export const ACCESS_READ = 0;
export const ACCESS_WRITE = 1;
export const ACCESS_FETCH = 2;

/** Not aligned to its size, or DC ZVA: faults on Device. */
export const T_UNALIGNED = 1;
/** Cache maintenance by address: CM and WnR in the syndrome. */
export const T_CM = 2;
/** No permission is asked (cache cleaning from EL1). */
export const T_ANY = 4;
/** Exclusive or LSE atomic. */
export const T_ATOMIC = 8;

/** All permissions of EL1 and EL0. */
const ALL = F_R1 | F_W1 | F_X1 | F_R0 | F_W0 | F_X0 | F_R1_PAN | F_W1_PAN;

export class Translation {
  /** Index of the combined entry of the last successful translation. */
  entry = 0;

  private readonly combined: I32Pool;
  /** By stage-1 byte: 1 if this CPU takes it as Device (reserved bytes included). */
  private readonly device = new Uint8Array(256);
  private readonly fetchesDevice: boolean;
  /** VA[63:32] must be zero above this bit while stage 1 is off. */
  private readonly paShift: number;

  constructor(
    private readonly sim: Sim,
    private readonly regs: RegisterFile,
    private readonly phys: PhysicalMemory,
    private readonly tables: TablePages,
    private readonly tlbs: Tlbs,
    private readonly maintenance: TlbMaintenance,
    private readonly stage1: Stage1,
    private readonly stage2: Stage2,
    private readonly exceptions: Exceptions,
    private readonly features: CpuFeatures,
    private readonly profile: MachineProfile,
  ) {
    this.combined = tlbs.combined;
    this.fetchesDevice = profile.fetchFromDevice === "works";
    this.paShift = Math.min(features.paBits - 32, 31);
    for (let a = 0; a < 256; a++) this.device[a] = isDevice(canonicalAttr(a, features.xs, features.mte)) ? 1 : 0;
  }

  // ---- stage-1 attributes and permissions of the leaf in `stage1`

  /** Stage-1 attribute byte for data, after SCTLR_EL1.C. */
  private leafAttr(b: number): number {
    const r = this.regs.pool.a;
    const byte = mairByte(r[b + MAIR_EL1 + 1]!, r[b + MAIR_EL1]!, (this.stage1.lo >>> 2) & 7);
    if ((r[b + SCTLR_EL1]! & SCTLR_C) !== 0) return byte;
    return this.device[byte] !== 0 ? byte : ATTR_NC;
  }

  /** Direct permissions (hierarchical ones are folded in), WXN applied: the F_ bits. */
  leafPermissions(b: number): number {
    const lo = this.stage1.lo;
    const hi = this.stage1.hi;
    const wxn = (this.regs.pool.a[b + SCTLR_EL1]! & SCTLR_WXN) !== 0;
    const ro = (lo & S1_AP_RDONLY) !== 0;
    const el0 = (lo & S1_AP_EL0) !== 0;
    let p = F_R1;
    if (!el0) p |= F_R1_PAN;
    else p |= F_R0;
    if (!ro) {
      p |= F_W1;
      if (el0) p |= F_W0;
      else p |= F_W1_PAN;
    }
    if ((hi & HI_PXN) === 0 && !(el0 && !ro) && !(wxn && !ro)) p |= F_X1;
    if ((hi & HI_UXN) === 0 && !(wxn && el0 && !ro)) p |= F_X0;
    return p;
  }

  // The access under way: what was asked, and what stage 1 said of it. Dead when `translate` has returned.
  private access = ACCESS_READ;
  private iss = 0;
  private flags = 0;
  /** VA[63:32] as the instruction gave it, for FAR. */
  private vaHi = 0;
  private perms = ALL;
  private attr = 0;
  private sh = 0;
  /** The IPA in two words: a double would be made of them twice, and taken apart three times. */
  private ipaHi = 0;
  private ipaLo = 0;
  private pa: Pa = 0;
  private tag = 0;
  /** Stage-1 leaf: level << 8 | log2 of its size. */
  private size = 12;
  private stale = false;

  /**
   * Translates one page's part of an access and fills the combined TLB.
   * @param hi VA[63:32] without its tag @param vaHi as the instruction gave it, for FAR
   * @param iss template of the decoder @param flags T_ bits
   * @returns PE_OK with `entry` set, PE_EL1 or PE_EL2
   */
  readonly translate = (
    v: number,
    c: GuestContext,
    hi: number,
    vaHi: number,
    lo: number,
    access: number,
    iss: number,
    flags: number,
  ): number => {
    this.sim.bus.emit(tlbMiss, hi, lo, c.vmid, c.asid, (flags & T_CM) !== 0 ? 3 : access);
    this.access = access;
    this.iss = iss;
    this.flags = flags;
    this.vaHi = vaHi;
    const rc = c.stage1 ? this.first(v, c, hi, lo) : this.identity(v, c, hi, lo);
    return rc === PE_OK ? this.second(v, c, hi, lo) : rc;
  };

  /** Stage 1 on: walk, alignment by type, permission. */
  private first(v: number, c: GuestContext, hi: number, lo: number): number {
    const s1 = this.stage1;
    const b = Math.imul(v, REGS_WORDS);
    const { access } = this;
    /** Permission that the access needs in an entry. */
    const need = access === ACCESS_READ ? c.readMask : access === ACCESS_WRITE ? c.writeMask : c.fetchMask;
    const checked = (this.flags & T_ANY) === 0;
    let rc = s1.translate(v, c, hi, lo, c.el0, false);
    if (rc !== S1_OK) return this.stage1Failed(v, c, rc, lo);
    let perms = this.leafPermissions(b);
    if (checked && (perms & need) === 0 && s1.cached) {
      rc = s1.translate(v, c, hi, lo, c.el0, true);
      if (rc !== S1_OK) return this.stage1Failed(v, c, rc, lo);
      perms = this.leafPermissions(b);
    }
    const attr = this.leafAttr(b);
    const device = this.device[attr] !== 0;
    if ((this.flags & T_UNALIGNED) !== 0 && device) return this.toEl1(v, c, FSC_ALIGNMENT, lo);
    if (checked && (perms & need) === 0) {
      if (this.access !== ACCESS_WRITE || !s1.canDirty(v) || !this.writableIfClean(b, need)) {
        return this.toEl1(v, c, fscAt(FSC_PERMISSION, s1.level), lo);
      }
      rc = s1.setDirty(v, c, hi, lo);
      if (rc !== S1_OK) return this.stage1Failed(v, c, rc, lo);
      perms = this.leafPermissions(b);
    }
    if (this.access === ACCESS_FETCH && device && !this.fetchesDevice) return this.toEl1(v, c, fscAt(FSC_PERMISSION, s1.level), lo);
    this.perms = perms;
    this.attr = attr;
    this.sh = (s1.lo >>> 8) & 3;
    this.ipaHi = (s1.ipa / 4294967296) | 0;
    this.ipaLo = s1.ipa | 0;
    this.tag = (s1.lo & (1 << 11)) !== 0 ? c.asidTag : c.globalTag;
    this.size = (s1.level << 8) | s1.shift;
    this.stale = s1.stale;
    return PE_OK;
  }

  /** Stage 1 off: output is input, Device-nGnRnE for data (or, with HCR_EL2.DC, write-back). */
  private identity(v: number, c: GuestContext, hi: number, lo: number): number {
    // VA bits above the implemented PA size: address size fault level 0.
    if (hi >>> this.paShift !== 0) return this.toEl1(v, c, FSC_ADDRESS_SIZE, lo);
    const cacheable = (this.regs.pool.a[Math.imul(v, REGS_WORDS) + HCR_EL2]! & HCR_DC) !== 0;
    if ((this.flags & T_UNALIGNED) !== 0 && !cacheable && this.profile.mmuOffAlignmentFaults) return this.toEl1(v, c, FSC_ALIGNMENT, lo);
    this.perms = ALL;
    if (cacheable) {
      const tagged = (this.regs.pool.a[Math.imul(v, REGS_WORDS) + HCR_EL2 + 1]! & HCR_DCT_HI) !== 0 && this.features.mte;
      this.attr = tagged ? ATTR_TAGGED : ATTR_WB;
      this.sh = 0;
    } else {
      this.attr = 0;
      this.sh = SH_OSH;
    }
    this.ipaHi = hi;
    this.ipaLo = lo;
    this.tag = c.asidTag;
    this.size = 12;
    this.stale = false;
    return PE_OK;
  }

  /** Would the leaf permit the write if it were not read-only? */
  private writableIfClean(b: number, need: number): boolean {
    const lo = this.stage1.lo;
    this.stage1.lo = lo & ~S1_AP_RDONLY;
    const ok = (this.leafPermissions(b) & need) !== 0;
    this.stage1.lo = lo;
    return ok;
  }

  /** Stage 2 of the final IPA, the resulting type, the entry. */
  private readonly second = (v: number, c: GuestContext, hi: number, lo: number): number => {
    const { ipaHi, ipaLo } = this;
    const attr = this.attr;
    const flags = this.flags;
    const access = this.access;
    const device1 = this.device[attr] !== 0;
    let perms = this.perms;
    let result: number;
    let pa: number;
    if (c.stage2 === true) {
      const s2 = this.stage2;
      const checked = (flags & T_ANY) === 0;
      if (!s2.translate(v, c.cpu, c.stage2Tag, ipaHi, ipaLo, false)) return this.toEl2(v, s2.fault, false, lo);
      if (checked && s2.cached && !this.stage2Permits(access, c.el0) && !s2.translate(v, c.cpu, c.stage2Tag, ipaHi, ipaLo, true)) {
        return this.toEl2(v, s2.fault, false, lo);
      }
      if (s2.stale) this.stale = true;
      const fwb = s2.fwb(v);
      result = combine(attr, this.sh, s2.memAttr, s2.sh, fwb, this.features.xs && (s2.lo & (1 << 11)) !== 0);
      const device = isDevice(result & RESULT_ATTR);
      // HCR_EL2.CD: what stage 2 calls Normal is non-cacheable.
      if (!device && (this.regs.pool.a[Math.imul(v, REGS_WORDS) + HCR_EL2 + 1]! & 1) !== 0) result = ATTR_NC | (SH_OSH << RESULT_SH_SHIFT);
      // With stage 1 off an access whose unaligned form is let through is so whatever stage 2 says.
      if (device && (flags & T_UNALIGNED) !== 0 && !device1) return this.toEl2(v, FSC_ALIGNMENT, false, lo);
      if (checked && this.stage2Permits(access, c.el0) !== true) {
        if (access !== ACCESS_WRITE || !s2.canDirty()) return this.toEl2(v, fscAt(FSC_PERMISSION, s2.level), false, lo);
        s2.setDirty(v, ipaHi, ipaLo);
        s2.translate(v, c.cpu, c.stage2Tag, ipaHi, ipaLo, true);
      }
      if (access === ACCESS_FETCH && !this.fetchesDevice && s2.isDevice(fwb)) {
        return this.toEl2(v, fscAt(FSC_PERMISSION, s2.level), false, lo);
      }
      perms &= s2.permissions;
      pa = s2.pa;
    } else {
      result = stage1Only(attr, this.sh);
      pa = joinWords(ipaHi, ipaLo);
    }
    const atomics = supportsAtomics(result & RESULT_ATTR) && ((result >> RESULT_SH_SHIFT) & 3) !== 0;
    if ((flags & T_ATOMIC) !== 0 && !atomics) {
      const rc = this.unsupportedAtomic(v, c, lo);
      if (rc !== PE_OK) return rc;
    }
    let marks = (device1 ? F_DEVICE1 : 0) | (isDevice(result & RESULT_ATTR) ? F_DEVICE : 0) | (atomics ? F_ATOMICS : 0);
    if (BRACKETS && this.phys.cache !== undefined) marks |= this.cacheMarks(v, c, result & RESULT_ATTR);
    this.pa = pa;
    this.fill(c, hi, lo, result | perms | marks);
    if (this.stale) this.reportStale(hi, lo, joinWords(ipaHi, ipaLo), pa, -1);
    return PE_OK;
  };

  private unsupportedAtomic(v: number, c: GuestContext, lo: number): number {
    const answer = this.profile.unsupportedAtomics;
    if (answer === "sea") return this.toTarget(v, c, FSC_SEA, lo);
    // Stage 1 is the cause unless its own attributes would have done.
    if (answer === "fault35" && c.stage2 && supportsAtomics(this.attr)) return this.toEl2(v, FSC_UNSUPPORTED_ATOMIC, false, lo);
    return answer === "fault35" ? this.toEl1(v, c, FSC_UNSUPPORTED_ATOMIC, lo) : PE_OK;
  }

  /**
   * How data accesses and fetches of this translation use the caches. A type that is not cacheable both
   * inner and outer does not (as Cortex-A57, A77: cacheability is a permission); of the rest what is not
   * write-back both is written through.
   */
  private cacheMarks(v: number, c: GuestContext, result: number): number {
    const r = this.regs.pool.a;
    const b = Math.imul(v, REGS_WORDS);
    const data = isCacheable(result) ? F_CACHED | (isWriteBack(result) ? 0 : F_WRITE_THROUGH) : 0;
    // A fetch: SCTLR_EL1.I = 0 makes Normal memory Non-cacheable; with stage 1 off it is Non-cacheable or write-through.
    let fetch = ATTR_NC;
    const on = (r[b + SCTLR_EL1]! & SCTLR_I) !== 0;
    if (!c.stage1) fetch = (r[b + HCR_EL2]! & HCR_DC) !== 0 ? ATTR_WB : on ? ATTR_WT_RA : ATTR_NC;
    else if (on) fetch = mairByte(r[b + MAIR_EL1 + 1]!, r[b + MAIR_EL1]!, (this.stage1.lo >>> 2) & 7);
    // Fetched from Device memory as from Normal Non-cacheable.
    if (this.device[fetch] !== 0) fetch = ATTR_NC;
    if (c.stage2) {
      fetch = combineAttr(fetch, this.stage2.memAttr, this.stage2.fwb(v));
      if ((r[b + HCR_EL2 + 1]! & HCR_ID_HI) !== 0) fetch = ATTR_NC;
    }
    return data | (isCacheable(fetch) ? F_FETCH_CACHED : 0);
  }

  private stage2Permits(access: number, el0: boolean): boolean {
    const s2 = this.stage2;
    return access === ACCESS_READ ? s2.readable : access === ACCESS_WRITE ? s2.writable : s2.executable(el0);
  }

  private readonly fill = (c: GuestContext, hi: number, lo: number, flags: number): void => {
    const { pa } = this;
    const tag = this.tag;
    const size = this.size;
    const t = this.combined;
    const i = this.tlbs.combinedAt(c.cpu, hi, lo);
    this.entry = i;
    if ((size & 0xff) > 12) this.tlbs.noteBig(c.cpu, BIG_GUEST);
    if (!this.sim.state.recording) {
      const a = t.a;
      a[i + C_VA_LO] = lo & ~0xfff;
      a[i + C_VA_HI] = hi;
      a[i + C_TAG] = tag;
      a[i + C_FLAGS] = flags;
      a[i + C_SLOT] = this.phys.directSlot(pa);
      a[i + C_CHANGES] = this.tables.changes.a[0]!;
      a[i + C_PA_LO] = pa & ~0xfff;
      a[i + C_PA_HI] = (pa / 4294967296) | 0;
      a[i + C_IPA_LO] = this.ipaLo & ~0xfff;
      a[i + C_IPA_HI] = this.ipaHi;
      a[i + C_S1] = size;
      a[i + C_IDS] = c.ids;
    } else this.fillRecorded(c, i, hi, lo, flags);
  };

  /** The same writes with the journal: apart, as its bytes would count where V8 puts the other together. */
  private fillRecorded(c: GuestContext, i: number, hi: number, lo: number, flags: number): void {
    const { pa, combined: t } = this;
    t.set(i + C_VA_LO, lo & ~0xfff);
    t.set(i + C_VA_HI, hi);
    t.set(i + C_TAG, this.tag);
    t.set(i + C_FLAGS, flags);
    t.set(i + C_SLOT, this.phys.directSlot(pa));
    t.set(i + C_CHANGES, this.tables.changes.a[0]!);
    t.set(i + C_PA_LO, pa & ~0xfff);
    t.set(i + C_PA_HI, (pa / 4294967296) | 0);
    t.set(i + C_IPA_LO, this.ipaLo & ~0xfff);
    t.set(i + C_IPA_HI, this.ipaHi);
    t.set(i + C_S1, this.size);
    t.set(i + C_IDS, c.ids);
  }

  /**
   * A combined entry is older than the last change of a valid descriptor: is it still what stage 2 says?
   * If not, it is used all the same, and that is an event, once for each entry and change.
   */
  recheck(v: number, c: GuestContext, i: number, access: number): void {
    const t = this.combined;
    t.set(i + C_CHANGES, this.tables.changes.a[0]!);
    if (!c.stage2) return;
    const a = t.a;
    const ipa = joinWords(a[i + C_IPA_HI]!, a[i + C_IPA_LO]!);
    const pa = joinWords(a[i + C_PA_HI]!, a[i + C_PA_LO]!);
    const found = this.stage2.peek(v, ipa);
    if (found && this.stage2.pa === pa && this.stage2Permits(access, c.el0)) return;
    this.reportStale(a[i + C_VA_HI]!, a[i + C_VA_LO]!, ipa, pa, found ? this.stage2.pa : -1);
  }

  private reportStale(hi: number, lo: number, ipa: number, pa: number, now: number): void {
    this.sim.bus.emit(staleTranslation, hi, lo, 0, ipa, pa, now, this.maintenance.pendingAnywhere());
  }

  // ---- aborts

  private stage1Failed(v: number, c: GuestContext, rc: number, lo: number): number {
    if (rc === S1_FAULT) return this.toEl1(v, c, this.stage1.fault, lo);
    return rc === S1_EXTERNAL_ABORT ? this.walkAborted(v, c, lo) : this.walkFailed(v, lo);
  }

  /** A stage-2 fault of the stage-1 walk. */
  private walkFailed(v: number, vaLo: number): number {
    this.ipaHi = (this.stage1.walkIpa / 4294967296) | 0;
    this.ipaLo = this.stage1.walkIpa | 0;
    return this.toEl2(v, this.walkFault(), true, vaLo);
  }

  /** An external abort on the stage-1 walk: of stage 1 (S1PTW = 0). */
  private walkAborted(v: number, c: GuestContext, vaLo: number): number {
    this.ipaHi = (this.stage1.walkIpa / 4294967296) | 0;
    this.ipaLo = this.stage1.walkIpa | 0;
    return this.toTarget(v, c, this.stage1.fault, vaLo);
  }

  /** Status code of a stage-2 fault on a stage-1 walk, with the level that this machine reports. */
  walkFault(): number {
    const fsc = this.stage1.fault;
    return this.profile.walkFaultLevel === "stage1" && fsc < 0x10 ? (fsc & 0x3c) | this.stage1.walkLevel : fsc;
  }

  /** An alignment fault that comes before translation. */
  alignmentFault(v: number, c: GuestContext, access: number, vaHi: number, vaLo: number): number {
    this.access = access;
    this.flags = 0;
    this.vaHi = vaHi;
    return this.toEl1(v, c, FSC_ALIGNMENT, vaLo);
  }

  /** A synchronous external abort of a load or fetch that translated. @param i its combined entry */
  externalAbort(v: number, c: GuestContext, i: number, vaHi: number, vaLo: number, access: number): number {
    this.access = access;
    this.flags = 0;
    this.iss = 0;
    this.vaHi = vaHi;
    const a = this.combined.a;
    this.ipaHi = a[i + C_IPA_HI]!;
    this.ipaLo = a[i + C_IPA_LO]! | (vaLo & 0xfff);
    return this.toTarget(v, c, FSC_SEA, vaLo);
  }

  /** External aborts go to EL2 where HCR_EL2.TEA says so, else to the guest's own EL1. */
  private toTarget(v: number, c: GuestContext, fsc: number, vaLo: number): number {
    const toEl2 = (this.regs.pool.a[Math.imul(v, REGS_WORDS) + HCR_EL2 + 1]! & HCR_TEA_HI) !== 0;
    return toEl2 ? this.toEl2(v, fsc, false, vaLo) : this.toEl1(v, c, fsc, vaLo);
  }

  /** The stage-2 fault, or the external abort, of AT's stage-1 walk: to EL2 as cache maintenance. */
  atWalkFault(v: number, c: GuestContext, rc: number, vaHi: number, vaLo: number): number {
    this.access = ACCESS_READ;
    this.flags = T_CM;
    this.iss = 0;
    this.vaHi = vaHi;
    return rc === S1_EXTERNAL_ABORT ? this.walkAborted(v, c, vaLo) : this.walkFailed(v, vaLo);
  }

  /** A stage-1 fault: exception to EL1. */
  private toEl1(v: number, c: GuestContext, fsc: number, vaLo: number): number {
    let esr: number;
    if (this.access === ACCESS_FETCH) esr = instructionAbort(c.el0 ? EC_IABT_LOW : EC_IABT_CUR, 0, fsc);
    else {
      const iss = (this.flags & T_CM) !== 0 ? ISS_CM | ISS_WNR : this.access === ACCESS_WRITE ? ISS_WNR : 0;
      esr = dataAbort(c.el0 ? EC_DABT_LOW : EC_DABT_CUR, iss, fsc);
    }
    this.sim.bus.emit(memoryAbort, esr >>> 0, this.vaHi, vaLo, 0, 1);
    this.exceptions.takeExceptionEl1(v, esr, this.vaHi, vaLo);
    return PE_EL1;
  }

  /** A stage-2 fault at the IPA in `ipaHi`, `ipaLo`: the syndrome is latched for EL2. @param walk it is a fault of the stage-1 walk */
  private readonly toEl2 = (v: number, fsc: number, walk: boolean, vaLo: number): number => {
    const { ipaHi, ipaLo } = this;
    const maintenance = (this.flags & T_CM) !== 0;
    let iss = walk ? ISS_S1PTW : 0;
    if (maintenance) iss |= ISS_CM | ISS_WNR;
    else {
      if (this.access === ACCESS_WRITE) iss |= ISS_WNR;
      // The instruction is described only where translation of the access itself failed.
      if (!walk && fsc < FSC_SEA) iss |= this.iss & ISS_ISV_FIELDS;
    }
    const esr = this.access === ACCESS_FETCH ? instructionAbort(EC_IABT_LOW, iss, fsc) : dataAbort(EC_DABT_LOW, iss, fsc);
    const p = this.regs.pool;
    const b = Math.imul(v, REGS_WORDS);
    p.set2(b + ESR_EL2, esr, 0);
    p.set2(b + FAR_EL2, vaLo, this.vaHi);
    // HPFAR is valid for translation, access flag and address size faults, and for every fault of a walk.
    if (walk || (fsc & 0x3c) !== FSC_PERMISSION || this.profile.hpfarOnPermission === "written") {
      p.set2(b + HPFAR_EL2, hpfarLo(ipaHi, ipaLo), hpfarHi(ipaHi));
    }
    this.sim.bus.emit(memoryAbort, esr >>> 0, this.vaHi, vaLo, joinWords(ipaHi, ipaLo), 2);
    return PE_EL2;
  };
}
