/**
 * The way of an access that missed the combined TLB: stage-1 walk, alignment by stage-1 type,
 * stage-1 permission, stage-2 walk, alignment by stage-2 type, stage-2 permission, resulting type,
 * the new TLB entry; or the abort, to EL1 or EL2 (Arm ARM D8.15, AArch64.FullTranslate).
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import { HI_PXN, HI_UXN, S1_AP_EL0, S1_AP_RDONLY } from "./descriptors.js";
import { memoryAbort, staleTranslation, tlbMiss } from "./events.js";
import type { Exceptions } from "./exception.js";
import type { CpuFeatures } from "./features.js";
import type { GuestContext } from "./guestcontext.js";
import { ATTR_NC, canonicalAttr, isDevice, mairByte, supportsAtomics } from "./mair.js";
import { combine, RESULT_ATTR, RESULT_SH_SHIFT, SH_OSH, stage1Only } from "./memtype.js";
import type { PhysicalMemory } from "./phys.js";
import type { MachineProfile } from "./profile.js";
import {
  ESR_EL2,
  FAR_EL2,
  HCR_DC,
  HCR_EL2,
  HPFAR_EL2,
  MAIR_EL1,
  REGS_WORDS,
  SCTLR_C,
  SCTLR_EL1,
  SCTLR_WXN,
  type RegisterFile,
} from "./registers.js";
import { S1_FAULT, S1_OK, type Stage1 } from "./stage1.js";
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
  F_DEVICE,
  F_DEVICE1,
  F_R0,
  F_R1,
  F_R1_PAN,
  F_W0,
  F_W1,
  F_W1_PAN,
  F_X0,
  F_X1,
  type Tlbs,
} from "./tlb.js";
import { joinWords, type Ipa } from "./types.js";

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
  translate(v: number, c: GuestContext, hi: number, vaHi: number, lo: number, access: number, iss: number, flags: number): number {
    this.sim.bus.emit(tlbMiss, hi, lo, c.vmid, c.asid, (flags & T_CM) !== 0 ? 3 : access);
    const b = v * REGS_WORDS;
    const need = access === ACCESS_READ ? c.readMask : access === ACCESS_WRITE ? c.writeMask : c.fetchMask;
    const s1 = this.stage1;
    let perms = ALL;
    let attr: number;
    let sh: number;
    let ipa: Ipa;
    let tag: number;
    let size: number;
    let stale = false;
    if (c.stage1) {
      let rc = s1.translate(v, c, hi, lo, c.el0, false);
      if (rc !== S1_OK) return this.stage1Failed(v, c, rc, access, flags, vaHi, lo);
      perms = this.leafPermissions(b);
      if ((perms & need) === 0 && (flags & T_ANY) === 0 && s1.cached) {
        rc = s1.translate(v, c, hi, lo, c.el0, true);
        if (rc !== S1_OK) return this.stage1Failed(v, c, rc, access, flags, vaHi, lo);
        perms = this.leafPermissions(b);
      }
      attr = this.leafAttr(b);
      sh = (s1.lo >>> 8) & 3;
      const device = this.device[attr] !== 0;
      if ((flags & T_UNALIGNED) !== 0 && device) return this.toEl1(v, c, access, flags, FSC_ALIGNMENT, vaHi, lo);
      if ((perms & need) === 0 && (flags & T_ANY) === 0) {
        if (access !== ACCESS_WRITE || !s1.canDirty(v) || !this.writableIfClean(b, need)) {
          return this.toEl1(v, c, access, flags, fscAt(FSC_PERMISSION, s1.level), vaHi, lo);
        }
        rc = s1.setDirty(v, c, hi, lo);
        if (rc !== S1_OK) return this.stage1Failed(v, c, rc, access, flags, vaHi, lo);
        perms = this.leafPermissions(b);
      }
      if (access === ACCESS_FETCH && device && this.profile.fetchFromDevice === "permission-fault") {
        return this.toEl1(v, c, access, flags, fscAt(FSC_PERMISSION, s1.level), vaHi, lo);
      }
      ipa = s1.ipa;
      tag = (s1.lo & (1 << 11)) !== 0 ? c.asidTag : c.globalTag;
      size = (s1.level << 8) | s1.shift;
      stale = s1.stale;
    } else {
      // VA bits above the implemented PA size: address size fault level 0.
      if (hi >>> Math.min(this.features.paBits - 32, 31) !== 0) return this.toEl1(v, c, access, flags, FSC_ADDRESS_SIZE, vaHi, lo);
      const cached = (this.regs.pool.a[b + HCR_EL2]! & HCR_DC) !== 0;
      attr = cached ? 0xff : 0;
      sh = cached ? 0 : SH_OSH;
      if ((flags & T_UNALIGNED) !== 0 && !cached && this.profile.mmuOffAlignmentFaults) {
        return this.toEl1(v, c, access, flags, FSC_ALIGNMENT, vaHi, lo);
      }
      ipa = joinWords(hi, lo);
      tag = c.asidTag;
      size = 12;
    }
    return this.second(v, c, b, hi, vaHi, lo, access, iss, flags, need, perms, attr, sh, ipa, tag, size, stale);
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
  private second(
    v: number,
    c: GuestContext,
    b: number,
    hi: number,
    vaHi: number,
    lo: number,
    access: number,
    iss: number,
    flags: number,
    need: number,
    perms: number,
    attr: number,
    sh: number,
    ipa: Ipa,
    tag: number,
    size: number,
    staleWalk: boolean,
  ): number {
    let result: number;
    let pa: number;
    let stale = staleWalk;
    const device1 = this.device[attr] !== 0;
    if (c.stage2) {
      const s2 = this.stage2;
      if (!s2.translate(v, c.cpu, c.stage2Tag, ipa, false)) return this.toEl2(v, c, access, flags, iss, s2.fault, false, ipa, vaHi, lo);
      if (s2.cached && (flags & T_ANY) === 0 && !this.stage2Permits(access, c.el0) && !s2.translate(v, c.cpu, c.stage2Tag, ipa, true)) {
        return this.toEl2(v, c, access, flags, iss, s2.fault, false, ipa, vaHi, lo);
      }
      stale ||= s2.stale;
      const fwb = s2.fwb(v);
      result = combine(attr, sh, s2.memAttr, s2.sh, fwb, this.features.xs && (s2.lo & (1 << 11)) !== 0);
      // HCR_EL2.CD: what stage 2 calls Normal is non-cacheable.
      if ((this.regs.pool.a[b + HCR_EL2 + 1]! & 1) !== 0 && !isDevice(result & RESULT_ATTR)) result = ATTR_NC | (SH_OSH << RESULT_SH_SHIFT);
      // With the MMU off an access whose unaligned form is let through is so whatever stage 2 says.
      if ((flags & T_UNALIGNED) !== 0 && !device1 && isDevice(result & RESULT_ATTR)) {
        return this.toEl2(v, c, access, flags, 0, FSC_ALIGNMENT, false, ipa, vaHi, lo);
      }
      if ((flags & T_ANY) === 0 && !this.stage2Permits(access, c.el0)) {
        if (access !== ACCESS_WRITE || !s2.canDirty()) {
          return this.toEl2(v, c, access, flags, iss, fscAt(FSC_PERMISSION, s2.level), false, ipa, vaHi, lo);
        }
        s2.setDirty(v, ipa);
        s2.translate(v, c.cpu, c.stage2Tag, ipa, true);
      }
      if (access === ACCESS_FETCH && s2.isDevice(fwb) && this.profile.fetchFromDevice === "permission-fault") {
        return this.toEl2(v, c, access, flags, iss, fscAt(FSC_PERMISSION, s2.level), false, ipa, vaHi, lo);
      }
      if (!s2.readable) perms &= ~(F_R0 | F_R1 | F_R1_PAN);
      if (!s2.writable) perms &= ~(F_W0 | F_W1 | F_W1_PAN);
      if (!s2.executable(true)) perms &= ~F_X0;
      if (!s2.executable(false)) perms &= ~F_X1;
      pa = s2.pa;
    } else {
      result = stage1Only(attr, sh);
      pa = ipa as number;
    }
    const atomics = supportsAtomics(result & RESULT_ATTR) && ((result >> RESULT_SH_SHIFT) & 3) !== 0;
    if ((flags & T_ATOMIC) !== 0 && !atomics && this.profile.atomicsOnDevice === "fault35") {
      // Stage 1 is the cause unless its own attributes would have done.
      if (c.stage2 && supportsAtomics(attr)) return this.toEl2(v, c, access, flags, 0, FSC_UNSUPPORTED_ATOMIC, false, ipa, vaHi, lo);
      return this.toEl1(v, c, access, flags, FSC_UNSUPPORTED_ATOMIC, vaHi, lo);
    }
    const marks = (device1 ? F_DEVICE1 : 0) | (isDevice(result & RESULT_ATTR) ? F_DEVICE : 0) | (atomics ? F_ATOMICS : 0);
    this.fill(c, hi, lo, tag, result | perms | marks, pa, ipa, size);
    if (stale) this.reportStale(hi, lo, ipa, pa, -1);
    // A maintenance operation may leave an entry that does not permit `need`; nothing asks it to.
    void need;
    return PE_OK;
  }

  private stage2Permits(access: number, el0: boolean): boolean {
    const s2 = this.stage2;
    return access === ACCESS_READ ? s2.readable : access === ACCESS_WRITE ? s2.writable : s2.executable(el0);
  }

  private fill(c: GuestContext, hi: number, lo: number, tag: number, flags: number, pa: number, ipa: number, size: number): void {
    const t = this.combined;
    const i = this.tlbs.combinedAt(c.cpu, hi, lo);
    this.entry = i;
    if ((size & 0xff) > 12) this.tlbs.noteBig(c.cpu);
    if (!this.sim.state.recording) {
      const a = t.a;
      a[i + C_VA_LO] = lo & ~0xfff;
      a[i + C_VA_HI] = hi;
      a[i + C_TAG] = tag;
      a[i + C_FLAGS] = flags;
      a[i + C_SLOT] = this.phys.slot(pa);
      a[i + C_CHANGES] = this.tables.changes.a[0]!;
      a[i + C_PA_LO] = pa & ~0xfff;
      a[i + C_PA_HI] = (pa / 4294967296) | 0;
      a[i + C_IPA_LO] = ipa & ~0xfff;
      a[i + C_IPA_HI] = (ipa / 4294967296) | 0;
      a[i + C_S1] = size;
      a[i + C_IDS] = c.ids;
      return;
    }
    t.set(i + C_VA_LO, lo & ~0xfff);
    t.set(i + C_VA_HI, hi);
    t.set(i + C_TAG, tag);
    t.set(i + C_FLAGS, flags);
    t.set(i + C_SLOT, this.phys.slot(pa));
    t.set(i + C_CHANGES, this.tables.changes.a[0]!);
    t.set(i + C_PA_LO, pa & ~0xfff);
    t.set(i + C_PA_HI, (pa / 4294967296) | 0);
    t.set(i + C_IPA_LO, ipa & ~0xfff);
    t.set(i + C_IPA_HI, (ipa / 4294967296) | 0);
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
    if (found && this.stage2.pa === pa && this.stage2Permits(access, c.el0)) return;
    this.reportStale(a[i + C_VA_HI]!, a[i + C_VA_LO]!, ipa, pa, found ? this.stage2.pa : -1);
  }

  private reportStale(hi: number, lo: number, ipa: number, pa: number, now: number): void {
    this.sim.bus.emit(staleTranslation, hi, lo, 0, ipa, pa, now, this.maintenance.pendingAnywhere());
  }

  // ---- aborts

  private stage1Failed(v: number, c: GuestContext, rc: number, access: number, flags: number, vaHi: number, lo: number): number {
    if (rc === S1_FAULT) return this.toEl1(v, c, access, flags, this.stage1.fault, vaHi, lo);
    return this.toEl2(v, c, access, flags, 0, this.walkFault(), true, this.stage1.walkIpa, vaHi, lo);
  }

  /** Status code of a stage-2 fault on a stage-1 walk, with the level that this machine reports. */
  walkFault(): number {
    const fsc = this.stage1.fault;
    return this.profile.walkFaultLevel === "stage1" && fsc < 0x10 ? (fsc & 0x3c) | this.stage1.walkLevel : fsc;
  }

  /** A stage-1 fault: exception to EL1. */
  toEl1(v: number, c: GuestContext, access: number, flags: number, fsc: number, vaHi: number, vaLo: number): number {
    const iss = (flags & T_CM) !== 0 ? ISS_CM | ISS_WNR : access === ACCESS_WRITE ? ISS_WNR : 0;
    const esr =
      access === ACCESS_FETCH
        ? instructionAbort(c.el0 ? EC_IABT_LOW : EC_IABT_CUR, 0, fsc)
        : dataAbort(c.el0 ? EC_DABT_LOW : EC_DABT_CUR, iss, fsc);
    this.sim.bus.emit(memoryAbort, esr >>> 0, vaHi, vaLo, 0, 1);
    this.exceptions.takeExceptionEl1(v, esr, vaHi, vaLo);
    return PE_EL1;
  }

  /** A stage-2 fault: the syndrome is latched for EL2. */
  toEl2(
    v: number,
    c: GuestContext,
    access: number,
    flags: number,
    iss: number,
    fsc: number,
    walk: boolean,
    ipa: Ipa,
    vaHi: number,
    vaLo: number,
  ): number {
    let bits = walk || (flags & T_CM) !== 0 ? 0 : iss & ISS_ISV_FIELDS;
    if (walk) bits |= ISS_S1PTW;
    if ((flags & T_CM) !== 0) bits |= ISS_CM | ISS_WNR;
    else if (access === ACCESS_WRITE) bits |= ISS_WNR;
    const esr = access === ACCESS_FETCH ? instructionAbort(EC_IABT_LOW, bits, fsc) : dataAbort(EC_DABT_LOW, bits, fsc);
    const p = this.regs.pool;
    const b = v * REGS_WORDS;
    p.set(b + ESR_EL2, esr);
    p.set(b + ESR_EL2 + 1, 0);
    p.set(b + FAR_EL2, vaLo);
    p.set(b + FAR_EL2 + 1, vaHi);
    // HPFAR is valid for translation, access flag and address size faults, and for every fault of a walk.
    if (walk || (fsc & 0x3c) !== FSC_PERMISSION || this.profile.hpfarOnPermission === "written") {
      const ipaHi = (ipa / 4294967296) | 0;
      p.set(b + HPFAR_EL2, hpfarLo(ipaHi, ipa | 0));
      p.set(b + HPFAR_EL2 + 1, hpfarHi(ipaHi));
    }
    this.sim.bus.emit(memoryAbort, esr >>> 0, vaHi, vaLo, ipa, 2);
    void c;
    return PE_EL2;
  }
}
