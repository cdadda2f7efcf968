/**
 * The way of an access that missed the combined TLB: stage-1 walk, alignment by stage-1 type,
 * stage-1 permission, stage-2 walk, alignment by stage-2 type, stage-2 permission, resulting type,
 * the new TLB entry; or the abort, to EL1 or EL2 (Arm ARM D8.15, AArch64.FullTranslate).
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import { BRACKETS } from "./brackets.js";
import { HI_PXN, HI_UXN, S1_AP_EL0, S1_AP_RDONLY, S1_NG, S2_FNXS } from "./descriptors.js";
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
import { combine, combineAttr, RESULT_ATTR, RESULT_SH, RESULT_SH_SHIFT, SH_OSH, stage1Only } from "./memtype.js";
import type { PhysicalMemory } from "./phys.js";
import type { MachineProfile } from "./profile.js";
import {
  ESR_EL2,
  FAR_EL2,
  HCR_DC,
  HCR_DCT_HI,
  HCR_EL2,
  HCR_FWB_HI,
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
import { NO_FAULT, type Stage2 } from "./stage2walk.js";
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
  C_SHIFT,
  C_SLOT,
  C_TAG,
  C_VA_HI,
  C_VA_LO,
  COMBINED,
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
  vaHash,
  type Tlbs,
} from "./tlb.js";
import { joinWords } from "./types.js";

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

/** HCR_EL2.CD (bit 32). */
const HCR_CD_HI = 1 << 0;

/** All permissions of EL1 and EL0. */
const ALL = F_R1 | F_W1 | F_X1 | F_R0 | F_W0 | F_X0 | F_R1_PAN | F_W1_PAN;

/** Permission that an access needs in an entry. */
function neededBy(c: GuestContext, access: number): number {
  return access === ACCESS_READ ? c.readMask : access === ACCESS_WRITE ? c.writeMask : c.fetchMask;
}

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
    const { bus } = this.sim;
    if (!bus.unheard()) bus.emit(tlbMiss, hi, lo, c.vmid, c.asid, (flags & T_CM) !== 0 ? 3 : access);
    const type = c.stage1 === true ? this.first(v, c, hi, vaHi, lo, access, flags) : this.identity(v, c, hi, vaHi, lo, access, flags);
    if (type < 0) return -type;
    // The IPA in two words: a double would be made of them twice, and taken apart three times.
    let ipaHi = hi;
    let ipaLo = lo;
    let tag = c.asidTag;
    let size = 12;
    let stale = false;
    const s2 = this.stage2;
    if (c.stage1 === true) {
      const s1 = this.stage1;
      ipaHi = (s1.ipa / 4294967296) | 0;
      ipaLo = s1.ipa | 0;
      if ((s1.lo & S1_NG) === 0) tag = c.globalTag;
      size = (s1.level << 8) | s1.shift;
      stale = s1.stale;
    }
    let paHi = ipaHi;
    let paLo = ipaLo;
    let entry: number;
    if (c.stage2 === true) {
      entry = this.second(v, c, type, ipaHi, ipaLo, access, flags);
      if (entry < 0) return this.toEl2(v, ~entry, false, ipaHi, ipaLo, vaHi, lo, access, iss, flags);
      paHi = s2.paHi;
      paLo = s2.paLo;
    } else {
      s2.stale = false;
      entry = this.marked(type, stage1Only(type & RESULT_ATTR, (type >> RESULT_SH_SHIFT) & 3)) | (type & ALL);
    }
    if ((flags & T_ATOMIC) !== 0 && (entry & F_ATOMICS) === 0) {
      const rc = this.unsupportedAtomic(v, c, type, ipaHi, ipaLo, vaHi, lo, access, iss, flags);
      if (rc !== PE_OK) return rc;
    }
    if (BRACKETS && this.phys.cache !== undefined) entry |= this.cacheMarks(v, c, entry & RESULT_ATTR);
    this.fill(c, hi, lo, entry, tag, size, ipaHi, ipaLo, paHi, paLo);
    if (stale || s2.stale === true) this.reportStale(hi, lo, joinWords(ipaHi, ipaLo), joinWords(paHi, paLo), -1);
    return PE_OK;
  };

  /**
   * Stage 1 on: walk, alignment by type, permission. The leaf lies in `stage1`.
   * @returns its type and permissions as C_FLAGS has them; negative: where the exception went
   */
  private first(v: number, c: GuestContext, hi: number, vaHi: number, lo: number, access: number, flags: number): number {
    const s1 = this.stage1;
    const b = Math.imul(v, REGS_WORDS);
    const need = neededBy(c, access);
    const checked = (flags & T_ANY) === 0;
    let rc = s1.translate(v, c, hi, lo, c.el0, false);
    if (rc !== S1_OK) return -this.stage1Failed(v, c, rc, vaHi, lo, access, flags);
    let perms = this.leafPermissions(b);
    if (checked && (perms & need) === 0 && s1.cached) {
      rc = s1.translate(v, c, hi, lo, c.el0, true);
      if (rc !== S1_OK) return -this.stage1Failed(v, c, rc, vaHi, lo, access, flags);
      perms = this.leafPermissions(b);
    }
    const attr = this.leafAttr(b);
    const device = this.device[attr] !== 0;
    if ((flags & T_UNALIGNED) !== 0 && device) return -this.toEl1(v, c, FSC_ALIGNMENT, vaHi, lo, access, flags);
    if (checked && (perms & need) === 0) {
      if (access !== ACCESS_WRITE || !s1.canDirty(v) || !this.writableIfClean(b, need)) {
        return -this.toEl1(v, c, fscAt(FSC_PERMISSION, s1.level), vaHi, lo, access, flags);
      }
      rc = s1.setDirty(v, c, hi, lo);
      if (rc !== S1_OK) return -this.stage1Failed(v, c, rc, vaHi, lo, access, flags);
      perms = this.leafPermissions(b);
    }
    if (access === ACCESS_FETCH && device && !this.fetchesDevice) {
      return -this.toEl1(v, c, fscAt(FSC_PERMISSION, s1.level), vaHi, lo, access, flags);
    }
    return perms | (s1.lo & RESULT_SH) | attr;
  }

  /** Stage 1 off: output is input, Device-nGnRnE for data (or, with HCR_EL2.DC, write-back). @returns as `first` */
  private identity(v: number, c: GuestContext, hi: number, vaHi: number, lo: number, access: number, flags: number): number {
    // VA bits above the implemented PA size: address size fault level 0.
    if (hi >>> this.paShift !== 0) return -this.toEl1(v, c, FSC_ADDRESS_SIZE, vaHi, lo, access, flags);
    if ((c.hcr & HCR_DC) !== 0) {
      const tagged = (this.regs.pool.a[Math.imul(v, REGS_WORDS) + HCR_EL2 + 1]! & HCR_DCT_HI) !== 0 && this.features.mte;
      return ALL | (tagged ? ATTR_TAGGED : ATTR_WB);
    }
    if ((flags & T_UNALIGNED) !== 0 && this.profile.mmuOffAlignmentFaults) return -this.toEl1(v, c, FSC_ALIGNMENT, vaHi, lo, access, flags);
    return ALL | (SH_OSH << RESULT_SH_SHIFT);
  }

  /** Would the leaf permit the write if it were not read-only? */
  private writableIfClean(b: number, need: number): boolean {
    const lo = this.stage1.lo;
    this.stage1.lo = lo & ~S1_AP_RDONLY;
    const ok = (this.leafPermissions(b) & need) !== 0;
    this.stage1.lo = lo;
    return ok;
  }

  /**
   * Stage 2 of the final IPA. The leaf lies in `stage2`.
   * @param type as `first` gave it @returns C_FLAGS of the entry without its cache's marks; ~fsc of a stage-2 fault
   */
  private second(v: number, c: GuestContext, type: number, ipaHi: number, ipaLo: number, access: number, flags: number): number {
    const s2 = this.stage2;
    /** What stage 2 must permit. */
    const need = (flags & T_ANY) !== 0 ? 0 : neededBy(c, access);
    let fault = s2.translate(v, c.cpu, c.stage2Tag, ipaHi, ipaLo, false);
    if (fault !== NO_FAULT) return ~fault;
    let entry = this.bothStages(v, type);
    if ((entry & need) !== need && s2.cached === true) {
      fault = s2.translate(v, c.cpu, c.stage2Tag, ipaHi, ipaLo, true);
      if (fault !== NO_FAULT) return ~fault;
      entry = this.bothStages(v, type);
    }
    // With stage 1 off an access whose unaligned form is let through is so whatever stage 2 says.
    if ((flags & T_UNALIGNED) !== 0 && (entry & (F_DEVICE1 | F_DEVICE)) === F_DEVICE) return ~FSC_ALIGNMENT;
    if ((entry & need) !== need) {
      if (access !== ACCESS_WRITE || !s2.canDirty()) return ~fscAt(FSC_PERMISSION, s2.level);
      entry = this.madeDirty(v, c, type, ipaHi, ipaLo);
    }
    if (access === ACCESS_FETCH && !this.fetchesDevice && s2.isDevice(s2.fwb(v))) return ~fscAt(FSC_PERMISSION, s2.level);
    return entry & (type | ~ALL);
  }

  /** The leaf of stage 2 becomes writable by the access. @returns the entry's C_FLAGS, as of `second` */
  private madeDirty(v: number, c: GuestContext, type: number, ipaHi: number, ipaLo: number): number {
    const s2 = this.stage2;
    const { stale } = s2;
    s2.setDirty(v, ipaHi, ipaLo);
    s2.translate(v, c.cpu, c.stage2Tag, ipaHi, ipaLo, true);
    s2.stale ||= stale;
    return this.bothStages(v, type);
  }

  /**
   * What `bothStages` was asked last of each S2AP and XN[1], and its answers: most of a guest's memory is of one type, but a page
   * that is watched for writes is read-only until the first, and only code is executable. Eight words; V8 would keep an array so small where it may move.
   */
  private readonly bothKeys = new Int32Array(32).fill(-1);
  private readonly both = new Int32Array(32);

  /** Resulting type and marks of a stage-1 type with the leaf in `stage2`, and all permissions that stage 2 gives. */
  private bothStages(v: number, type: number): number {
    const hcr = this.regs.pool.a[Math.imul(v, REGS_WORDS) + HCR_EL2 + 1]!;
    const { attributes } = this.stage2;
    // Bits 30:23 and 13:12 are free in the attributes, 14 and 0 too, which HCR_EL2's have.
    const key = attributes | (hcr & (HCR_FWB_HI | HCR_CD_HI)) | ((type & RESULT_ATTR) << 23) | ((type & RESULT_SH) << 4);
    const at = ((attributes >>> 6) & 3) | ((attributes & HI_UXN) >>> 20);
    if (key !== this.bothKeys[at]) {
      this.bothKeys[at] = key;
      this.both[at] = this.combineStages(v, type, hcr);
    }
    return this.both[at]!;
  }
  private combineStages(v: number, type: number, hcr: number): number {
    const s2 = this.stage2;
    const fnxs = this.features.xs && (s2.lo & S2_FNXS) !== 0;
    let result = combine(type & RESULT_ATTR, (type >> RESULT_SH_SHIFT) & 3, s2.memAttr, s2.sh, s2.fwb(v), fnxs);
    // HCR_EL2.CD: what stage 2 calls Normal is non-cacheable.
    if (!isDevice(result & RESULT_ATTR) && (hcr & HCR_CD_HI) !== 0) result = ATTR_NC | (SH_OSH << RESULT_SH_SHIFT);
    return this.marked(type, result) | s2.permissions;
  }
  /** A resulting type with the marks of an entry. @param type of stage 1 */
  private marked(type: number, result: number): number {
    const atomics = supportsAtomics(result & RESULT_ATTR) && (result & RESULT_SH) !== 0;
    const device1 = this.device[type & RESULT_ATTR] !== 0;
    return result | (device1 ? F_DEVICE1 : 0) | (isDevice(result & RESULT_ATTR) ? F_DEVICE : 0) | (atomics ? F_ATOMICS : 0);
  }

  private unsupportedAtomic(
    v: number,
    c: GuestContext,
    type: number,
    ipaHi: number,
    ipaLo: number,
    vaHi: number,
    lo: number,
    access: number,
    iss: number,
    flags: number,
  ): number {
    const answer = this.profile.unsupportedAtomics;
    if (answer === "sea") return this.toTarget(v, c, FSC_SEA, ipaHi, ipaLo, vaHi, lo, access, flags);
    // Stage 1 is the cause unless its own attributes would have done.
    if (answer === "fault35" && c.stage2 && supportsAtomics(type & RESULT_ATTR)) {
      return this.toEl2(v, FSC_UNSUPPORTED_ATOMIC, false, ipaHi, ipaLo, vaHi, lo, access, iss, flags);
    }
    return answer === "fault35" ? this.toEl1(v, c, FSC_UNSUPPORTED_ATOMIC, vaHi, lo, access, flags) : PE_OK;
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

  /** The new entry. @param size stage-1 leaf: level << 8 | log2 of its size */
  private fill(
    c: GuestContext,
    hi: number,
    lo: number,
    flags: number,
    tag: number,
    size: number,
    ipaHi: number,
    ipaLo: number,
    paHi: number,
    paLo: number,
  ): void {
    // As who looked for it: V8 has it already.
    const i = (c.first + (vaHash(hi, lo) & (COMBINED - 1))) << C_SHIFT;
    this.entry = i;
    if ((size & 0xff) > 12) this.tlbs.noteBig(c.cpu, BIG_GUEST);
    const slot = this.phys.directSlotAt(paHi, paLo);
    if (!this.sim.state.recording) {
      const { a } = this.combined;
      a[i + C_VA_LO] = lo & ~0xfff;
      a[i + C_VA_HI] = hi;
      a[i + C_TAG] = tag;
      a[i + C_FLAGS] = flags;
      a[i + C_SLOT] = slot;
      a[i + C_CHANGES] = this.tables.changes.a[0]!;
      a[i + C_PA_LO] = paLo & ~0xfff;
      a[i + C_PA_HI] = paHi;
      a[i + C_IPA_LO] = ipaLo & ~0xfff;
      a[i + C_IPA_HI] = ipaHi;
      a[i + C_S1] = size;
      a[i + C_IDS] = c.ids;
    } else this.fillRecorded(c, i, hi, lo, flags, slot, tag, size, ipaHi, ipaLo, paHi, paLo);
  }

  /** The same writes with the journal: apart, as its bytes would count where V8 puts the other together. */
  private fillRecorded(
    c: GuestContext,
    i: number,
    hi: number,
    lo: number,
    flags: number,
    slot: number,
    tag: number,
    size: number,
    ipaHi: number,
    ipaLo: number,
    paHi: number,
    paLo: number,
  ): void {
    const t = this.combined;
    t.set(i + C_VA_LO, lo & ~0xfff);
    t.set(i + C_VA_HI, hi);
    t.set(i + C_TAG, tag);
    t.set(i + C_FLAGS, flags);
    t.set(i + C_SLOT, slot);
    t.set(i + C_CHANGES, this.tables.changes.a[0]!);
    t.set(i + C_PA_LO, paLo & ~0xfff);
    t.set(i + C_PA_HI, paHi);
    t.set(i + C_IPA_LO, ipaLo & ~0xfff);
    t.set(i + C_IPA_HI, ipaHi);
    t.set(i + C_S1, size);
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
    if (found && this.stage2.pa === pa && (this.stage2.permissions & neededBy(c, access)) !== 0) return;
    this.reportStale(a[i + C_VA_HI]!, a[i + C_VA_LO]!, ipa, pa, found ? this.stage2.pa : -1);
  }

  private reportStale(hi: number, lo: number, ipa: number, pa: number, now: number): void {
    this.sim.bus.emit(staleTranslation, hi, lo, 0, ipa, pa, now, this.maintenance.pendingAnywhere());
  }

  // ---- aborts

  private stage1Failed(v: number, c: GuestContext, rc: number, vaHi: number, vaLo: number, access: number, flags: number): number {
    if (rc === S1_FAULT) return this.toEl1(v, c, this.stage1.fault, vaHi, vaLo, access, flags);
    return this.walkFailed(v, c, rc, vaHi, vaLo, access, flags);
  }

  /** A stage-2 fault of the stage-1 walk, or an external abort on it, which is of stage 1 (S1PTW = 0). */
  private walkFailed(v: number, c: GuestContext, rc: number, vaHi: number, vaLo: number, access: number, flags: number): number {
    const { walkIpa } = this.stage1;
    const ipaHi = (walkIpa / 4294967296) | 0;
    const ipaLo = walkIpa | 0;
    if (rc === S1_EXTERNAL_ABORT) return this.toTarget(v, c, this.stage1.fault, ipaHi, ipaLo, vaHi, vaLo, access, flags);
    return this.toEl2(v, this.walkFault(), true, ipaHi, ipaLo, vaHi, vaLo, access, 0, flags);
  }

  /** Status code of a stage-2 fault on a stage-1 walk, with the level that this machine reports. */
  walkFault(): number {
    const fsc = this.stage1.fault;
    return this.profile.walkFaultLevel === "stage1" && fsc < 0x10 ? (fsc & 0x3c) | this.stage1.walkLevel : fsc;
  }

  /** An alignment fault that comes before translation. */
  alignmentFault(v: number, c: GuestContext, access: number, vaHi: number, vaLo: number): number {
    return this.toEl1(v, c, FSC_ALIGNMENT, vaHi, vaLo, access, 0);
  }

  /** A synchronous external abort of a load or fetch that translated. @param i its combined entry */
  externalAbort(v: number, c: GuestContext, i: number, vaHi: number, vaLo: number, access: number): number {
    const { a } = this.combined;
    return this.toTarget(v, c, FSC_SEA, a[i + C_IPA_HI]!, a[i + C_IPA_LO]! | (vaLo & 0xfff), vaHi, vaLo, access, 0);
  }

  /** External aborts go to EL2 where HCR_EL2.TEA says so, else to the guest's own EL1. */
  private toTarget(
    v: number,
    c: GuestContext,
    fsc: number,
    ipaHi: number,
    ipaLo: number,
    vaHi: number,
    vaLo: number,
    access: number,
    flags: number,
  ): number {
    const toEl2 = (this.regs.pool.a[Math.imul(v, REGS_WORDS) + HCR_EL2 + 1]! & HCR_TEA_HI) !== 0;
    if (toEl2) return this.toEl2(v, fsc, false, ipaHi, ipaLo, vaHi, vaLo, access, 0, flags);
    return this.toEl1(v, c, fsc, vaHi, vaLo, access, flags);
  }

  /** The stage-2 fault, or the external abort, of AT's stage-1 walk: to EL2 as cache maintenance. */
  atWalkFault(v: number, c: GuestContext, rc: number, vaHi: number, vaLo: number): number {
    return this.walkFailed(v, c, rc, vaHi, vaLo, ACCESS_READ, T_CM);
  }

  /** A stage-1 fault: exception to EL1. */
  private toEl1(v: number, c: GuestContext, fsc: number, vaHi: number, vaLo: number, access: number, flags: number): number {
    let esr: number;
    if (access === ACCESS_FETCH) esr = instructionAbort(c.el0 ? EC_IABT_LOW : EC_IABT_CUR, 0, fsc);
    else {
      const iss = (flags & T_CM) !== 0 ? ISS_CM | ISS_WNR : access === ACCESS_WRITE ? ISS_WNR : 0;
      esr = dataAbort(c.el0 ? EC_DABT_LOW : EC_DABT_CUR, iss, fsc);
    }
    this.sim.bus.emit(memoryAbort, esr >>> 0, vaHi, vaLo, 0, 1);
    this.exceptions.takeExceptionEl1(v, esr, vaHi, vaLo);
    return PE_EL1;
  }

  /**
   * A stage-2 fault: the syndrome is latched for EL2.
   * @param walk it is a fault of the stage-1 walk @param asked template of the decoder
   */
  private readonly toEl2 = (
    v: number,
    fsc: number,
    walk: boolean,
    ipaHi: number,
    ipaLo: number,
    vaHi: number,
    vaLo: number,
    access: number,
    asked: number,
    flags: number,
  ): number => {
    let iss = walk ? ISS_S1PTW : 0;
    if ((flags & T_CM) !== 0) iss |= ISS_CM | ISS_WNR;
    else {
      if (access === ACCESS_WRITE) iss |= ISS_WNR;
      // The instruction is described only where translation of the access itself failed.
      if (!walk && fsc < FSC_SEA) iss |= asked & ISS_ISV_FIELDS;
    }
    const esr = access === ACCESS_FETCH ? instructionAbort(EC_IABT_LOW, iss, fsc) : dataAbort(EC_DABT_LOW, iss, fsc);
    const p = this.regs.pool;
    const b = Math.imul(v, REGS_WORDS);
    p.set2((b + ESR_EL2) | 0, esr, 0);
    p.set2((b + FAR_EL2) | 0, vaLo, vaHi);
    // HPFAR is valid for translation, access flag and address size faults, and for every fault of a walk.
    if (walk || (fsc & 0x3c) !== FSC_PERMISSION || this.profile.hpfarOnPermission === "written") {
      p.set2((b + HPFAR_EL2) | 0, hpfarLo(ipaHi, ipaLo), hpfarHi(ipaHi));
    }
    const { bus } = this.sim;
    if (!bus.unheard()) bus.emit(memoryAbort, esr >>> 0, vaHi, vaLo, joinWords(ipaHi, ipaLo), 2);
    return PE_EL2;
  };
}
