/**
 * The processing element: one access of a vCPU on the running agent's physical CPU, in the fixed order
 * of its places: alignment · TLB · stage-1 walk · stage-2 walk · resulting type · [store and gathering
 * buffer] · [cache] · physical bus · RAM or device window. What follows a TLB miss is in
 * translation.ts; what the instructions for maintenance do is at the end of this file.
 *
 * Data goes through the fields d0..d3, 32 bits each, least significant first.
 */
import type { Agents } from "../sim/agents.js";
import type { CostTable } from "../sim/costs.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import { AtOp, DcOp, IcOp } from "./a64system.js";
import { BRACKETS } from "./brackets.js";
import { Ordering, type BufferMode } from "./ordering.js";
import { E_DATA, E_ESR, E_HPFAR_HI, E_HPFAR_LO, E_RESULT, E_SIZE, E_VA_HI, E_VA_LO } from "./orderingearly.js";
import type { Hardware } from "./orderingseed.js";
import { KIND_NC, KIND_OF, KIND_WB, READ_OK, READ_SEA } from "./storebuffer.js";
import {
  BY_GUEST,
  CacheMaintenance,
  CLEAN_INVALIDATE,
  CLEAN_POC,
  CLEAN_POU,
  INVALIDATE,
  type CacheModel,
  type Caches,
} from "./cachemaintenance.js";
import { Exceptions } from "./exception.js";
import type { CpuFeatures } from "./features.js";
import { GuestContext } from "./guestcontext.js";
import { HostTranslation } from "./hostaccess.js";
import { canonicalAttr, isDevice, mairByte } from "./mair.js";
import { effectiveShareability } from "./memtype.js";
import { WIDENED } from "./pageindex.js";
import type { PhysicalMemory } from "./phys.js";
import { ARCHITECTURAL, type MachineProfile } from "./profile.js";
import {
  ESR_EL2,
  FAR_EL2,
  HCR_DC,
  HCR_EL2,
  HCR_FB,
  HCR_VM,
  HPFAR_EL2,
  MAIR_EL1,
  PAR_EL1,
  PC,
  REGS_WORDS,
  VTCR_EL2,
  VTTBR_EL2,
  type RegisterFile,
} from "./registers.js";
import { S1_FAULT, S1_OK, S1_WALK_FAULT, Stage1 } from "./stage1.js";
import { Stage2 } from "./stage2walk.js";
import { memoryAbort } from "./events.js";
import { FSC_ADDRESS_SIZE, fscAt, FSC_PERMISSION, ISS_AR } from "./syndrome.js";
import type { TablePages } from "./tables.js";
import {
  C_CHANGES,
  C_FLAGS,
  C_PA_HI,
  C_PA_LO,
  C_SLOT,
  C_TAG,
  C_VA_HI,
  COMBINED,
  C_SHIFT,
  F_ATOMICS,
  F_DEVICE,
  F_DEVICE1,
  F_FETCH_CACHED,
  F_R0,
  F_R1,
  F_W0,
  F_W1,
  Tlbs,
} from "./tlb.js";
import { TLBI_FORCED, TLBI_IPAS2E1, TLBI_IS, TLBI_RIPAS2E1, TLBI_VMALLS12E1, TLBI_ALLE1, TlbiKind, TlbMaintenance } from "./tlbi.js";
import {
  ACCESS_FETCH,
  ACCESS_READ,
  ACCESS_WRITE,
  PE_EL1,
  PE_EL2,
  PE_OK,
  T_ANY,
  T_ATOMIC,
  T_CM,
  T_UNALIGNED,
  Translation,
} from "./translation.js";
import { joinWords, type Hva, type Ipa, type Pa } from "./types.js";
import { VTCR_VS } from "./geometry.js";

export { PE_EL1, PE_EL2, PE_OK };

/** Of src/mmu/useraccess.ts: a speculative read. */
const LINE_SPECULATE = 6;
/** Bytes of DC ZVA (DCZID_EL0.BS = 4) and of a cache line. */
const LINE = 64;

/** Of accessEarly: Device. */
export const NOT_EARLY = 3;

/** HypTlbi of kvm/tlbflush.ts -> operation of tlbi.ts. */
const HYP_OPS = [TLBI_IPAS2E1, TLBI_RIPAS2E1, TlbiKind.Vmalle1, TLBI_VMALLS12E1, TLBI_ALLE1] as const;

export interface PeOptions {
  /** Physical CPUs, at least 1. */
  readonly cpus?: number;
  readonly profile?: MachineProfile;
  /** Store and gathering buffers; "off" if absent. */
  readonly buffers?: BufferMode;
  /** Bytes of a peripheral, to which Device-nR accesses keep their order; everything behind a bridge if absent. */
  readonly peripheralBlock?: number;
  /** Inner shareable barriers do not order Device and Normal-NC accesses; false if absent. */
  readonly strictShareability?: boolean;
  /** Absent: caches are not modelled. */
  readonly cache?: CacheModel;
  /** With caches: 0 for none of the evictions and speculative fills that hardware may do on its own. */
  readonly seed?: number;
}

export class Pe {
  /** Data of the access, 32 bits each, least significant first; loads are zero-extended. */
  d0 = 0;
  d1 = 0;
  d2 = 0;
  d3 = 0;
  /** Physical address of the last access's first byte. */
  pa: Pa = 0;
  /** The last buffered access went to a device. */
  device = false;
  /** How a device answered the last load: READ_OK … */
  private answer = READ_OK;
  readonly tlbs: Tlbs;
  /** The store and gathering buffers, undefined while they are not modelled. */
  readonly ordering: Ordering | undefined;
  /** What is done before every instruction of a guest, in weak mode. */
  hardware: Hardware | undefined;
  readonly maintenance: TlbMaintenance;
  readonly host: HostTranslation;
  readonly profile: MachineProfile;
  readonly cacheOps: CacheMaintenance;

  /** The modelled caches, if any: what a page of RAM without a direct slot goes through. */
  private readonly caches: Caches | undefined;
  private readonly context: GuestContext;
  private readonly stage1: Stage1;
  private readonly stage2: Stage2;
  private readonly translation: Translation;
  private readonly combined: I32Pool;
  private readonly changes: I32Pool;
  private readonly dir: I32Pool;
  private readonly full: I32Pool;
  private readonly agents: Agents;
  private readonly costs: CostTable;
  private readonly lse2: boolean;
  /** Atomics abort where the memory does not support them. */
  private readonly refusesAtomics: boolean;
  private readonly exceptions: Exceptions;
  /** Something between the resulting type and the bus is modelled: accesses take the long way. */
  readonly modelled: boolean;

  constructor(
    private readonly sim: Sim,
    private readonly regs: RegisterFile,
    readonly phys: PhysicalMemory,
    readonly tables: TablePages,
    private readonly features: CpuFeatures,
    options: PeOptions = {},
  ) {
    this.profile = options.profile ?? ARCHITECTURAL;
    this.refusesAtomics = this.profile.unsupportedAtomics === "fault35" || this.profile.unsupportedAtomics === "sea";
    const cpus = options.cpus ?? 1;
    const model = options.cache === undefined ? undefined : { model: options.cache, seed: options.seed ?? 0, cpus };
    this.cacheOps = new CacheMaintenance(sim, phys, features, model);
    this.caches = this.cacheOps.caches;
    this.tlbs = new Tlbs(sim, cpus);
    this.maintenance = new TlbMaintenance(sim, this.tlbs, features);
    this.host = new HostTranslation(sim, phys, tables, this.tlbs, this.maintenance, features);
    this.context = new GuestContext(sim, regs, this.tlbs, features);
    this.stage2 = new Stage2(sim, regs, phys, tables, this.tlbs, features);
    this.stage1 = new Stage1(sim, regs, phys, tables, this.tlbs, features, this.stage2);
    this.exceptions = new Exceptions(regs, features);
    const mode = options.buffers ?? "off";
    this.ordering =
      mode === "off"
        ? undefined
        : new Ordering(
            sim,
            phys,
            this.tlbs.cpus,
            mode === "weak",
            this.profile.ets,
            this.caches?.data,
            options.strictShareability,
            options.peripheralBlock,
          );
    this.modelled = mode !== "off";
    this.maintenance.ordering = this.ordering;
    this.host.ordering = this.ordering;
    this.translation = new Translation(
      sim,
      regs,
      phys,
      tables,
      this.tlbs,
      this.maintenance,
      this.stage1,
      this.stage2,
      this.exceptions,
      features,
      this.profile,
    );
    this.combined = this.tlbs.combined;
    this.changes = tables.changes;
    this.dir = phys.dir;
    this.full = phys.full;
    this.agents = sim.agents;
    this.costs = sim.costs;
    this.lse2 = (features.id.ID_AA64MMFR2_EL1[0] & 0xf) !== 0;
  }

  // ---- the access path

  /**
   * Looks whether vCPU v's system registers, its CPU or the TLB contexts changed since its last access.
   * Needed before readHere, writeHere and fetchHere at the start of a run and after whatever may change them (MSR,
   * exception, ERET, TLBI with its DSB); all other methods do it themselves.
   */
  enter(v: number): void {
    const c = this.context;
    if (c.outdated(v)) c.load(v);
  }

  /**
   * Loads 1, 2, 4, 8 or 16 bytes into d0..d3. @param iss ISS template of the decoder (ISV fields), 0 when
   * the access has none @returns PE_OK, PE_EL1 or PE_EL2
   */
  read(v: number, vaHi: number, vaLo: number, size: number, iss: number): number {
    const c = this.context;
    if (c.outdated(v)) c.load(v);
    return this.readHere(v, vaHi, vaLo, size, iss);
  }
  /** `read` after `enter(v)`. */
  readHere(v: number, vaHi: number, vaLo: number, size: number, iss: number): number {
    if (BRACKETS && this.modelled) return this.readBuffered(v, vaHi, vaLo, size, iss);
    const c = this.context;
    if ((vaLo & (size - 1)) !== 0) return this.readUnaligned(v, vaHi, vaLo, size, iss);
    const hi = (vaHi & 0x800000) === 0 ? vaHi & c.tbiAnd : vaHi | c.tbiOr;
    const t = this.combined.a;
    let i = (c.first + (((vaLo >>> 12) ^ (vaLo >>> 22) ^ hi) & (COMBINED - 1))) << C_SHIFT;
    const tag = t[i + C_TAG]!;
    if (
      (tag === c.asidTag || tag === c.globalTag) &&
      t[i] === (vaLo & ~0xfff) &&
      t[i + C_VA_HI] === hi &&
      (t[i + C_FLAGS]! & c.readMask) !== 0
    ) {
      if (t[i + C_CHANGES] !== this.changes.a[0]) this.translation.recheck(v, c, i, ACCESS_READ);
      this.translation.entry = i;
    } else {
      const rc = this.translation.translate(v, c, hi, vaHi, vaLo, ACCESS_READ, iss, 0);
      if (rc !== PE_OK) return rc;
      i = this.translation.entry;
    }
    return this.load(v, i, vaHi, vaLo, size);
  }

  /** From the TLB entry to RAM or the bus. @returns PE_OK, or where the external abort went */
  private load(v: number, i: number, vaHi: number, vaLo: number, size: number): number {
    const o = vaLo & 0xfff;
    const slot = this.combined.a[i + C_SLOT]!;
    if (slot >= 0) {
      this.agents.charge(this.costs.ramAccess);
      const ref = this.dir.a[slot]!;
      if (ref < 0 && size === 8 && (o & 3) === 0) {
        const w = (~ref << 10) | (o >> 2);
        this.d0 = this.full.a[w]!;
        this.d1 = this.full.a[w + 1]!;
        return PE_OK;
      }
      this.phys.readRef(ref, o, size);
    } else if (slot !== -1) this.loadNarrow(i, slot, o, size);
    else {
      const rc = this.loadAside(v, i, vaHi, vaLo, size);
      if (rc !== PE_OK) return rc;
    }
    const p = this.phys;
    this.d0 = p.lo;
    this.d1 = p.hi;
    if (size === 16) {
      this.d2 = p.lo2;
      this.d3 = p.hi2;
    }
    return PE_OK;
  }
  /** `load` where no slot is: of a device, through a cache, or where a line of the page is lost. */
  private loadAside(v: number, i: number, vaHi: number, vaLo: number, size: number): number {
    const pa = this.pageOf(i) + (vaLo & 0xfff);
    const rc = this.lost(v, i, pa, vaHi, vaLo, size, ACCESS_READ);
    if (rc === PE_OK) this.phys.readBy(pa, size, this.combined.a[i + C_FLAGS]!);
    return rc;
  }
  /** A part of an access within one page consumes what it reads. @param i its combined entry @returns PE_OK, or where the external abort went */
  private lost(v: number, i: number, pa: Pa, vaHi: number, vaLo: number, size: number, access: number): number {
    const { errors } = this.phys;
    if (errors === undefined) return PE_OK;
    const o = errors.consume(pa, size);
    return o < 0 ? PE_OK : this.translation.externalAbort(v, this.context, i, vaHi, vaLo + o, access);
  }

  /** The physical page of a combined entry. */
  private pageOf(i: number): Pa {
    const t = this.combined.a;
    return joinWords(t[i + C_PA_HI]!, t[i + C_PA_LO]!);
  }
  /** `load` by a narrow slot. If the chunk was widened since the entry was made, the entry gets the slot that it has now. */
  private loadNarrow(i: number, slot: number, o: number, size: number): void {
    this.agents.charge(this.costs.ramAccess);
    if (this.dir.a[~slot] !== WIDENED) {
      this.phys.readRef(this.phys.narrowRef(slot, this.combined.a[i + C_PA_LO]!), o, size);
      return;
    }
    const now = this.phys.slot(this.pageOf(i));
    this.combined.set(i + C_SLOT, now);
    this.phys.readRef(this.dir.a[now]!, o, size);
  }

  /** Stores 1, 2, 4, 8 or 16 bytes from d0..d3. @returns PE_OK, PE_EL1 or PE_EL2 */
  write(v: number, vaHi: number, vaLo: number, size: number, iss: number): number {
    const c = this.context;
    if (c.outdated(v)) c.load(v);
    return this.writeHere(v, vaHi, vaLo, size, iss);
  }
  /** `write` after `enter(v)`. */
  readonly writeHere = (v: number, vaHi: number, vaLo: number, size: number, iss: number): number => {
    if (BRACKETS && this.modelled) return this.writeBuffered(v, vaHi, vaLo, size, iss);
    const c = this.context;
    if ((vaLo & (size - 1)) !== 0) return this.writeUnaligned(v, vaHi, vaLo, size, iss);
    const hi = (vaHi & 0x800000) === 0 ? vaHi & c.tbiAnd : vaHi | c.tbiOr;
    const t = this.combined.a;
    let i = (c.first + (((vaLo >>> 12) ^ (vaLo >>> 22) ^ hi) & (COMBINED - 1))) << C_SHIFT;
    const tag = t[i + C_TAG]!;
    if (
      (tag === c.asidTag || tag === c.globalTag) &&
      t[i] === (vaLo & ~0xfff) &&
      t[i + C_VA_HI] === hi &&
      (t[i + C_FLAGS]! & c.writeMask) !== 0
    ) {
      if (t[i + C_CHANGES] !== this.changes.a[0]) this.translation.recheck(v, c, i, ACCESS_WRITE);
      this.translation.entry = i;
    } else {
      const rc = this.translation.translate(v, c, hi, vaHi, vaLo, ACCESS_WRITE, iss, 0);
      if (rc !== PE_OK) return rc;
      i = this.translation.entry;
    }
    this.store(i, vaLo & 0xfff, size);
    return PE_OK;
  };

  private store(i: number, o: number, size: number): void {
    const slot = this.combined.a[i + C_SLOT]!;
    if (slot >= 0) {
      this.agents.charge(this.costs.ramAccess);
      const ref = this.dir.a[slot]!;
      if (ref < 0 && size === 8 && (o & 3) === 0) {
        const w = (~ref << 10) | (o >> 2);
        this.full.set(w, this.d0);
        this.full.set(w + 1, this.d1);
        return;
      }
      this.phys.writeSlot(slot, o, size, this.d0, this.d1, this.d2, this.d3);
      return;
    }
    if (slot !== -1) {
      this.agents.charge(this.costs.ramAccess);
      if (!this.phys.writeNarrow(slot, this.combined.a[i + C_PA_LO]!, o, size, this.d0, this.d1, this.d2, this.d3)) {
        this.storeWidening(i, slot, o, size);
      }
    } else this.phys.writeBy(this.pageOf(i) + o, size, this.combined.a[i + C_FLAGS]!, this.d0, this.d1, this.d2, this.d3);
  }
  /** `store` by a narrow slot that does not tell where the data goes. If the chunk is a wide one now, the entry gets the slot that it has. */
  private storeWidening(i: number, slot: number, o: number, size: number): void {
    const pa = this.pageOf(i) + o;
    this.phys.writeMemory(pa, size, this.d0, this.d1, this.d2, this.d3);
    if (this.dir.a[~slot] === WIDENED) this.combined.set(i + C_SLOT, this.phys.slot(pa));
  }

  /** Combined entry of the last fetch, or load or store that was aligned: the only one that it filled or changed. */
  get entry(): number {
    return this.translation.entry;
  }
  /** Changes when `enter` has found another context. */
  get contextNumber(): number {
    return this.context.loads;
  }

  /** After `enter(v)`: is a combined entry at index i, with this tag and flags, one of this context and CPU that permits fetches? */
  fetchHits(i: number, tag: number, flags: number): boolean {
    const c = this.context;
    const mine = ((i >> C_SHIFT) & -COMBINED) === c.first;
    return mine && (tag === c.asidTag || tag === c.globalTag) && (flags & c.fetchMask) !== 0;
  }

  /** Fetches the instruction word at a 4-byte aligned address into d0. */
  fetch(v: number, vaHi: number, vaLo: number): number {
    const c = this.context;
    if (c.outdated(v)) c.load(v);
    return this.fetchHere(v, vaHi, vaLo);
  }
  /** `fetch` after `enter(v)`. */
  fetchHere(v: number, vaHi: number, vaLo: number): number {
    const c = this.context;
    const hi = (vaHi & 0x800000) === 0 ? vaHi & c.tbiAnd : vaHi | c.tbiOr;
    const t = this.combined.a;
    let i = (c.first + (((vaLo >>> 12) ^ (vaLo >>> 22) ^ hi) & (COMBINED - 1))) << C_SHIFT;
    const tag = t[i + C_TAG]!;
    if (
      (tag === c.asidTag || tag === c.globalTag) &&
      t[i] === (vaLo & ~0xfff) &&
      t[i + C_VA_HI] === hi &&
      (t[i + C_FLAGS]! & c.fetchMask) !== 0
    ) {
      if (t[i + C_CHANGES] !== this.changes.a[0]) this.translation.recheck(v, c, i, ACCESS_FETCH);
      this.translation.entry = i;
    } else {
      const rc = this.translation.translate(v, c, hi, vaHi, vaLo, ACCESS_FETCH, 0, 0);
      if (rc !== PE_OK) return rc;
      i = this.translation.entry;
    }
    let slot = this.combined.a[i + C_SLOT]!;
    const o = vaLo & 0xfff;
    if (slot < -1) {
      slot = this.phys.wideSlot(this.pageOf(i));
      this.combined.set(i + C_SLOT, slot);
    }
    if (slot >= 0) {
      const ref = this.dir.a[slot]!;
      if (ref < 0) {
        this.d0 = this.full.a[(~ref << 10) | (o >> 2)]!;
        return PE_OK;
      }
      // Code is read word by word, again and again: its page is worth a full one.
      if (ref > 0) {
        // First the page: making it may move the pool.
        const page = this.phys.fullPage(slot);
        this.d0 = this.full.a[(page << 10) | (o >> 2)]!;
      } else this.d0 = 0;
      return PE_OK;
    }
    const pa = this.pageOf(i) + o;
    const rc = this.lost(v, i, pa, vaHi, vaLo, 4, ACCESS_FETCH);
    if (rc !== PE_OK) return rc;
    if (BRACKETS && this.caches !== undefined && this.phys.isRam(pa)) {
      this.d0 = this.caches.instr.fetch(pa, (this.combined.a[i + C_FLAGS]! & F_FETCH_CACHED) !== 0);
      return PE_OK;
    }
    this.phys.read(pa, 4);
    this.d0 = this.phys.lo;
    return PE_OK;
  }

  /**
   * Translates and checks an exclusive or atomic access without making it; `pa` is its address.
   * Must be aligned (within 16 bytes with FEAT_LSE2).
   */
  probe(v: number, vaHi: number, vaLo: number, size: number, iss: number, write: boolean): number {
    const c = this.context;
    if (c.outdated(v)) c.load(v);
    const access = write ? ACCESS_WRITE : ACCESS_READ;
    if ((vaLo & (size - 1)) !== 0 && (!this.lse2 || (vaLo & 15) + size > 16)) {
      return this.translation.alignmentFault(v, c, access, vaHi, vaLo);
    }
    if (BRACKETS && this.modelled) this.ordering!.atomic(c.cpu);
    return this.locate(v, c, vaHi, vaLo, access, iss, T_ATOMIC);
  }
  /** The last probe found memory where this CPU's atomics do nothing and store-exclusives fail (profile "nop"). */
  atomicIsNop(): boolean {
    return this.profile.unsupportedAtomics === "nop" && (this.combined.a[this.translation.entry + C_FLAGS]! & F_ATOMICS) === 0;
  }

  /** The alignment and translation of an ordered access, or of one half of a pair, without making it. */
  check(v: number, vaHi: number, vaLo: number, size: number, iss: number, write: boolean): number {
    const c = this.context;
    if (c.outdated(v)) c.load(v);
    const access = write ? ACCESS_WRITE : ACCESS_READ;
    const unaligned = (vaLo & (size - 1)) !== 0;
    if (unaligned && this.mustAlign(c, vaLo, size, iss)) return this.translation.alignmentFault(v, c, access, vaHi, vaLo);
    return this.locate(v, c, vaHi, vaLo, access, iss, unaligned ? T_UNALIGNED : 0);
  }

  /** Finds or makes the combined entry of an access; `translation.entry` and `pa` are its result. */
  private locate(v: number, c: GuestContext, vaHi: number, vaLo: number, access: number, iss: number, flags: number): number {
    const hi = (vaHi & 0x800000) === 0 ? vaHi & c.tbiAnd : vaHi | c.tbiOr;
    const t = this.combined.a;
    const i = this.tlbs.combinedAt(c.cpu, hi, vaLo);
    const tag = t[i + C_TAG]!;
    const need = access === ACCESS_WRITE ? c.writeMask : c.readMask;
    // What only the walk can judge: alignment on Device, unsupported atomics.
    const refuses = (flags & T_ATOMIC) !== 0 && this.refusesAtomics;
    const wrong = (flags & T_UNALIGNED) !== 0 ? F_DEVICE | F_DEVICE1 : 0;
    const entry = t[i + C_FLAGS]!;
    const hit =
      (tag === c.asidTag || tag === c.globalTag) &&
      t[i] === (vaLo & ~0xfff) &&
      t[i + C_VA_HI] === hi &&
      ((flags & T_ANY) !== 0 || (entry & need) !== 0) &&
      (entry & wrong) === 0 &&
      (!refuses || (entry & F_ATOMICS) !== 0);
    if (hit) {
      if (t[i + C_CHANGES] !== this.changes.a[0]) this.translation.recheck(v, c, i, access);
      this.translation.entry = i;
    } else {
      const rc = this.translation.translate(v, c, hi, vaHi, vaLo, access, iss, flags);
      if (rc !== PE_OK) return rc;
    }
    const e = this.translation.entry;
    this.pa = joinWords(this.combined.a[e + C_PA_HI]!, this.combined.a[e + C_PA_LO]!) + (vaLo & 0xfff);
    return PE_OK;
  }

  // ---- accesses with store and gathering buffers between type and bus

  private readBuffered(v: number, vaHi: number, vaLo: number, size: number, iss: number): number {
    const c = this.context;
    const o = this.ordering!;
    if ((iss & ISS_AR) !== 0) o.acquire(c.cpu);
    if (o.weak) {
      const rc = this.takeEarly(v, vaHi, vaLo, size);
      if (rc >= 0) return rc;
    }
    return this.readNow(v, vaHi, vaLo, size, iss);
  }

  private readNow(v: number, vaHi: number, vaLo: number, size: number, iss: number): number {
    const c = this.context;
    const o = this.ordering!;
    const unaligned = (vaLo & (size - 1)) !== 0;
    if (unaligned && this.mustAlign(c, vaLo, size, iss)) return this.translation.alignmentFault(v, c, ACCESS_READ, vaHi, vaLo);
    const flags = unaligned ? T_UNALIGNED : 0;
    let rc = this.locateOrdered(v, c, vaHi, vaLo, ACCESS_READ, iss, flags, size);
    if (rc !== PE_OK) return rc;
    const here = 4096 - (vaLo & 0xfff);
    const first = this.pa;
    const marks = this.marks();
    rc = this.lost(v, this.translation.entry, first, vaHi, vaLo, Math.min(here, size), ACCESS_READ);
    if (rc !== PE_OK) return rc;
    this.answer = READ_OK;
    this.loadBuffered(this.translation.entry, first, Math.min(here, size), here >= size);
    if (this.answer !== READ_OK) {
      if (this.answer === READ_SEA) return this.translation.externalAbort(v, c, this.translation.entry, vaHi, vaLo, ACCESS_READ);
      // Several loads may be outstanding: the SError is not of one of them.
      o.raiseSerror(c.cpu, this.answer);
    }
    if (here < size) {
      rc = this.locateOrdered(v, c, nextHi(vaHi, vaLo, here), (vaLo + here) | 0, ACCESS_READ, iss, T_UNALIGNED, size - here);
      if (rc !== PE_OK) return rc;
      rc = this.lost(v, this.translation.entry, this.pa, nextHi(vaHi, vaLo, here), (vaLo + here) | 0, size - here, ACCESS_READ);
      if (rc !== PE_OK) return rc;
      this.readSplit(first, this.pa, here, size, marks);
      o.buffers.d0 = this.d0;
      o.buffers.d1 = this.d1;
      o.buffers.overlay(c.cpu, first, here);
      this.d0 = o.buffers.d0;
      this.d1 = o.buffers.d1;
    }
    return PE_OK;
  }

  /** `locate`; an access that faults, with FEAT_ETS2, does so after the stores before it. */
  private locateOrdered(
    v: number,
    c: GuestContext,
    vaHi: number,
    vaLo: number,
    access: number,
    iss: number,
    flags: number,
    size: number,
  ): number {
    const o = this.ordering!;
    const { cpu } = c;
    if (o.weak && o.early.ets >= 2 && o.buffers.count(cpu) > 0 && this.wouldMiss(c, vaHi, vaLo, access)) o.leaveAll(cpu);
    const rc = this.locate(v, c, vaHi, vaLo, access, iss, flags);
    if (o.weak) o.early.accessed(cpu, vaHi, vaLo, rc === PE_OK ? this.pa : -1, size);
    return rc;
  }
  private wouldMiss(c: GuestContext, vaHi: number, vaLo: number, access: number): boolean {
    const hi = (vaHi & 0x800000) === 0 ? vaHi & c.tbiAnd : vaHi | c.tbiOr;
    const t = this.combined.a;
    const i = this.tlbs.combinedAt(c.cpu, hi, vaLo);
    const tag = t[i + C_TAG]!;
    const need = access === ACCESS_WRITE ? c.writeMask : c.readMask;
    return !(
      (tag === c.asidTag || tag === c.globalTag) &&
      t[i] === (vaLo & ~0xfff) &&
      t[i + C_VA_HI] === hi &&
      (t[i + C_FLAGS]! & need) !== 0
    );
  }

  /** A load within one page. @param whole the data goes to d0..d3 */
  private loadBuffered(i: number, pa: Pa, size: number, whole: boolean): void {
    const t = this.combined.a;
    const b = this.ordering!.buffers;
    const { cpu } = this.context;
    const p = this.phys;
    const kind = KIND_OF[t[i + C_FLAGS]! & 0xff]!;
    this.device = !p.isRam(pa);
    if (!this.device) {
      this.agents.charge(this.costs.ramAccess);
      // What crosses into another page is read again, byte by byte.
      if (whole) b.memory.load(pa, size, t[i + C_FLAGS]!);
    } else {
      b.beforeDeviceLoad(cpu, kind, pa, size);
      this.answer = b.port.read(kind, pa, size);
    }
    if (!whole) return;
    b.d0 = p.lo;
    b.d1 = p.hi;
    b.d2 = p.lo2;
    b.d3 = p.hi2;
    if (!this.device) b.overlay(cpu, pa, size);
    this.d0 = b.d0;
    this.d1 = b.d1;
    if (size === 16) {
      this.d2 = b.d2;
      this.d3 = b.d3;
    }
  }

  private writeBuffered(v: number, vaHi: number, vaLo: number, size: number, iss: number): number {
    const c = this.context;
    const o = this.ordering!;
    if (o.weak) {
      const rc = this.takeEarly(v, vaHi, vaLo, size);
      if (rc >= 0) return rc;
    }
    const unaligned = (vaLo & (size - 1)) !== 0;
    if (unaligned && this.mustAlign(c, vaLo, size, iss)) return this.translation.alignmentFault(v, c, ACCESS_WRITE, vaHi, vaLo);
    const flags = unaligned ? T_UNALIGNED : 0;
    let rc = this.locateOrdered(v, c, vaHi, vaLo, ACCESS_WRITE, iss, flags, size);
    if (rc !== PE_OK) return rc;
    const here = 4096 - (vaLo & 0xfff);
    if (here >= size) {
      this.storeBuffered(this.translation.entry, this.pa, size, (iss & ISS_AR) !== 0);
      return PE_OK;
    }
    const first = this.pa;
    const entry = this.translation.entry;
    rc = this.locateOrdered(v, c, nextHi(vaHi, vaLo, here), (vaLo + here) | 0, ACCESS_WRITE, iss, T_UNALIGNED, size - here);
    if (rc !== PE_OK) return rc;
    const second = this.pa;
    const d0 = this.d0;
    const d1 = this.d1;
    for (let n = 0; n < size; n++) {
      this.d0 = ((n < 4 ? d0 : d1) >>> ((n & 3) * 8)) & 0xff;
      this.storeBuffered(n < here ? entry : this.translation.entry, n < here ? first + n : second + n - here, 1, false);
    }
    this.pa = first;
    return PE_OK;
  }

  private storeBuffered(i: number, pa: Pa, size: number, release: boolean): void {
    const o = this.ordering!;
    const t = this.combined.a;
    const marks = t[i + C_FLAGS]!;
    const kind = KIND_OF[marks & 0xff]!;
    this.device = !this.phys.isRam(pa);
    if (!this.device) this.agents.charge(this.costs.ramAccess);
    if (kind === KIND_WB && !o.weak) {
      if (release) o.buffers.drainAll(this.context.cpu, 0);
      o.buffers.memory.store(pa, size, marks, this.d0, this.d1, this.d2, this.d3);
      return;
    }
    o.buffers.store(this.context.cpu, kind, marks, pa, size, this.d0, this.d1, this.d2, this.d3, release);
  }

  /** What was performed early for the instruction at PC. @returns its PE_ code, -1: nothing that can be used */
  private takeEarly(v: number, vaHi: number, vaLo: number, size: number): number {
    const { early } = this.ordering!;
    const { cpu } = this.context;
    const r = this.regs.pool;
    const b = Math.imul(v, REGS_WORDS);
    const e = early.find(cpu, r.a[b + PC + 1]!, r.a[b + PC]!);
    if (e < 0) return -1;
    const a = early.pool.a;
    const fits = a[e + E_VA_LO] === vaLo && a[e + E_VA_HI] === vaHi && a[e + E_SIZE] === size;
    const rc = fits ? a[e + E_RESULT]! : -1;
    const esr = a[e + E_ESR]!;
    this.d0 = a[e + E_DATA]!;
    this.d1 = a[e + E_DATA + 1]!;
    const hpLo = a[e + E_HPFAR_LO]!;
    const hpHi = a[e + E_HPFAR_HI]!;
    early.taken(e);
    if (rc === PE_EL1) {
      this.sim.bus.emit(memoryAbort, esr >>> 0, vaHi, vaLo, 0, 1);
      this.exceptions.takeExceptionEl1(v, esr, vaHi, vaLo);
    } else if (rc === PE_EL2) {
      r.set2(b + ESR_EL2, esr, 0);
      r.set2(b + FAR_EL2, vaLo, vaHi);
      r.set2(b + HPFAR_EL2, hpLo, hpHi);
      this.sim.bus.emit(memoryAbort, esr >>> 0, vaHi, vaLo, 0, 2);
    }
    return rc;
  }

  /** The access of an instruction further on, or only its translation: for LookAhead. A store is only translated. */
  accessEarly(v: number, vaHi: number, vaLo: number, size: number, write: boolean, load: boolean): number {
    const c = this.context;
    if (c.outdated(v)) c.load(v);
    const rc = this.locate(v, c, vaHi, vaLo, write ? ACCESS_WRITE : ACCESS_READ, 0, 0);
    if (rc !== PE_OK) return rc;
    const t = this.combined.a;
    const i = this.translation.entry;
    // Device memory is never accessed speculatively.
    if (!this.phys.isRam(this.pa) && KIND_OF[t[i + C_FLAGS]! & 0xff]! < KIND_NC) return NOT_EARLY;
    // What is lost is consumed by an access in order, or not at all.
    if (this.phys.errors?.inPage(this.pa) === true) return NOT_EARLY;
    if (load && !write) this.loadBuffered(this.translation.entry, this.pa, size, true);
    return PE_OK;
  }
  /** A speculative walk: a TLB entry is made where the tables permit a read. @returns false if they do not */
  walkSpeculatively(v: number, vaHi: number, vaLo: number): boolean {
    const { state } = this.sim;
    const mark = state.mark();
    const c = this.context;
    if (c.outdated(v)) c.load(v);
    if (this.locate(v, c, vaHi, vaLo, ACCESS_READ, 0, 0) === PE_OK) return true;
    state.rollback(mark);
    return false;
  }
  /** The instruction word at an address on the code page that the vCPU fetches from, 0 if the TLB does not hold it. */
  codeWord(v: number, hi: number, lo: number): number {
    const c = this.context;
    if (c.outdated(v)) c.load(v);
    const i = this.tlbs.combinedAt(c.cpu, hi, lo);
    const t = this.combined.a;
    if (t[i] !== (lo & ~0xfff) || t[i + C_VA_HI] !== hi || !this.fetchHits(i, t[i + C_TAG]!, t[i + C_FLAGS]!)) return 0;
    this.phys.readMemory(joinWords(t[i + C_PA_HI]!, t[i + C_PA_LO]!) + (lo & 0xfff), 4);
    return this.phys.lo;
  }

  // ---- unaligned accesses

  /** SCTLR_EL1.A, or an ordered access beyond what FEAT_LSE2 allows: alignment fault before translation. */
  private mustAlign(c: GuestContext, vaLo: number, size: number, iss: number): boolean {
    return c.strictAlignment || ((iss & ISS_AR) !== 0 && (!this.lse2 || (vaLo & 15) + size > 16));
  }

  private readUnaligned(v: number, vaHi: number, vaLo: number, size: number, iss: number): number {
    const c = this.context;
    if (this.mustAlign(c, vaLo, size, iss)) return this.translation.alignmentFault(v, c, ACCESS_READ, vaHi, vaLo);
    let rc = this.locate(v, c, vaHi, vaLo, ACCESS_READ, iss, T_UNALIGNED);
    if (rc !== PE_OK) return rc;
    const here = 4096 - (vaLo & 0xfff);
    if (here >= size) return this.load(v, this.translation.entry, vaHi, vaLo, size);
    const first = this.pa;
    const marks = this.marks();
    rc = this.lost(v, this.translation.entry, first, vaHi, vaLo, here, ACCESS_READ);
    if (rc !== PE_OK) return rc;
    rc = this.locate(v, c, nextHi(vaHi, vaLo, here), (vaLo + here) | 0, ACCESS_READ, iss, T_UNALIGNED);
    if (rc !== PE_OK) return rc;
    rc = this.lost(v, this.translation.entry, this.pa, nextHi(vaHi, vaLo, here), (vaLo + here) | 0, size - here, ACCESS_READ);
    if (rc !== PE_OK) return rc;
    this.readSplit(first, this.pa, here, size, marks);
    return PE_OK;
  }

  /** C_FLAGS of the last translation. */
  private marks(): number {
    return this.combined.a[this.translation.entry + C_FLAGS]!;
  }

  /** @param marks of the first page; the second is the last translation */
  private readSplit(first: Pa, second: Pa, here: number, size: number, marks: number): void {
    const d = [0, 0, 0, 0];
    for (let n = 0; n < size; n++) {
      const pa = n < here ? first + n : second + n - here;
      this.phys.readBy(pa, 1, n < here ? marks : this.marks());
      d[n >> 2]! |= this.phys.lo << ((n & 3) * 8);
    }
    this.d0 = d[0]!;
    this.d1 = d[1]!;
    this.d2 = d[2]!;
    this.d3 = d[3]!;
    this.pa = first;
  }

  private writeUnaligned(v: number, vaHi: number, vaLo: number, size: number, iss: number): number {
    const c = this.context;
    if (this.mustAlign(c, vaLo, size, iss)) return this.translation.alignmentFault(v, c, ACCESS_WRITE, vaHi, vaLo);
    let rc = this.locate(v, c, vaHi, vaLo, ACCESS_WRITE, iss, T_UNALIGNED);
    if (rc !== PE_OK) return rc;
    const here = 4096 - (vaLo & 0xfff);
    if (here >= size) {
      this.store(this.translation.entry, vaLo & 0xfff, size);
      return PE_OK;
    }
    const first = this.pa;
    const marks = this.marks();
    rc = this.locate(v, c, nextHi(vaHi, vaLo, here), (vaLo + here) | 0, ACCESS_WRITE, iss, T_UNALIGNED);
    if (rc !== PE_OK) return rc;
    const second = this.pa;
    for (let n = 0; n < size; n++) {
      const w = n < 4 ? this.d0 : n < 8 ? this.d1 : n < 12 ? this.d2 : this.d3;
      const pa = n < here ? first + n : second + n - here;
      const byte = (w >>> ((n & 3) * 8)) & 0xff;
      this.phys.writeBy(pa, 1, n < here ? marks : this.marks(), byte);
    }
    this.pa = first;
    return PE_OK;
  }

  // ---- cache maintenance, address translation

  /** DC operations by address and by set/way. @param op DcOp */
  dc(v: number, op: number, vaHi: number, vaLo: number): number {
    if (op === DcOp.Zva) return this.dcZva(v, vaHi, vaLo);
    // Maintenance by address comes after the CPU's own stores to the line.
    if (BRACKETS && this.modelled) this.ordering!.atomic(this.agents.cpu);
    if (op === DcOp.Isw || op === DcOp.Csw || op === DcOp.Cisw) {
      this.agents.charge(this.costs.cacheLine);
      return PE_OK;
    }
    if (op === DcOp.Ivac) {
      // With stage 2 on it also cleans (Arm ARM D7.5.9).
      const stage2 = (this.regs.pool.a[Math.imul(v, REGS_WORDS) + HCR_EL2]! & (HCR_VM | HCR_DC)) !== 0;
      return this.maintain(v, ACCESS_WRITE, vaHi, vaLo, stage2 ? CLEAN_INVALIDATE : INVALIDATE);
    }
    return this.maintain(v, ACCESS_READ, vaHi, vaLo, op === DcOp.Cvau ? CLEAN_POU : op === DcOp.Civac ? CLEAN_INVALIDATE : CLEAN_POC);
  }

  /** @param what values of dcache_clean's op, -1: instruction cache */
  private maintain(v: number, access: number, vaHi: number, vaLo: number, what: number): number {
    this.agents.charge(this.costs.cacheLine);
    if (!this.profile.cacheMaintenanceFaults) return PE_OK;
    const c = this.context;
    if (c.outdated(v)) c.load(v);
    // Cleaning from EL1 asks no permission; from EL0 it asks for reading; DC IVAC always for writing.
    const any = access === ACCESS_READ && !c.el0 ? T_ANY : 0;
    const rc = this.locate(v, c, vaHi, vaLo, access, 0, T_CM | any);
    if (rc !== PE_OK) return rc;
    const line = this.pa - (this.pa % LINE);
    if (what < 0) this.cacheOps.icache(line, LINE, BY_GUEST);
    else this.cacheOps.dcache(line, LINE, what, BY_GUEST);
    return PE_OK;
  }

  /** DC ZVA: zeroes 64 bytes; on Device an alignment fault. */
  private dcZva(v: number, vaHi: number, vaLo: number): number {
    const c = this.context;
    if (c.outdated(v)) c.load(v);
    const rc = this.locate(v, c, vaHi, vaLo, ACCESS_WRITE, 0, T_UNALIGNED);
    if (rc !== PE_OK) return rc;
    this.phys.errors?.overwrite(this.pa - (this.pa % LINE), LINE);
    if (this.modelled) {
      const line = this.pa - (this.pa % LINE);
      this.d0 = this.d1 = this.d2 = this.d3 = 0;
      for (let n = 0; n < LINE; n += 16) this.storeBuffered(this.translation.entry, line + n, 16, false);
      return PE_OK;
    }
    this.agents.charge(this.costs.ramAccess);
    if (this.caches !== undefined) this.caches.data.zero(this.pa, this.marks());
    else this.phys.zeroLine(this.pa - (this.pa % LINE));
    return PE_OK;
  }

  /** IC operations. @param op IcOp */
  ic(v: number, op: number, vaHi: number, vaLo: number): number {
    if (op === IcOp.Ivau) return this.maintain(v, ACCESS_READ, vaHi, vaLo, -1);
    this.agents.charge(this.costs.cacheLine);
    // HCR_EL2.FB broadcasts IC IALLU.
    const local = op === IcOp.Iallu && (this.regs.pool.a[Math.imul(v, REGS_WORDS) + HCR_EL2]! & HCR_FB) === 0;
    this.cacheOps.icache(0, 0, BY_GUEST, local ? this.agents.cpu : -1);
    return PE_OK;
  }

  /**
   * AT S1E1R and relatives, executed by the guest: fills PAR_EL1. A stage-2 fault on the walk is taken
   * to EL2 with CM and WnR set. @param op AtOp
   */
  at(v: number, op: number, vaHi: number, vaLo: number): number {
    const c = this.context;
    if (c.outdated(v)) c.load(v);
    const rc = this.translateStage1(v, c, op, vaHi, vaLo);
    if (rc !== S1_OK && rc !== S1_FAULT) {
      return this.translation.atWalkFault(v, c, rc, vaHi, vaLo);
    }
    this.writePar(v, c, rc === S1_OK ? 0 : (this.stage1.fault << 1) | 1);
    return PE_OK;
  }

  /**
   * The same executed by the hypervisor for this vCPU's regime (KVM's __translate_far_to_hpfar): a
   * stage-2 fault on the walk is reported in PAR_EL1 (S and PTW). @returns true if it succeeded
   */
  atFromEl2(v: number, op: number, vaHi: number, vaLo: number): boolean {
    const c = this.context;
    if (c.outdated(v)) c.load(v);
    const rc = this.translateStage1(v, c, op, vaHi, vaLo);
    this.writePar(v, c, rc === S1_OK ? 0 : (this.stage1.fault << 1) | 1 | (rc === S1_WALK_FAULT ? 0x300 : 0));
    return rc === S1_OK;
  }

  /** The IPA of a guest VA by AT S1E1R, PAR_EL1 untouched. @returns -1 when stage 1 (or a stage-2 fault on its walk) says no */
  translateIpa(v: number, vaHi: number, vaLo: number): Ipa {
    const c = this.context;
    if (c.outdated(v)) c.load(v);
    return this.translateStage1(v, c, AtOp.S1e1r, vaHi, vaLo) === S1_OK ? this.stage1.ipa : -1;
  }

  private translateStage1(v: number, c: GuestContext, op: number, vaHi: number, vaLo: number): number {
    const hi = (vaHi & 0x800000) === 0 ? vaHi & c.tbiAnd : vaHi | c.tbiOr;
    const s1 = this.stage1;
    if (!c.stage1) {
      s1.ipa = joinWords(hi, vaLo);
      s1.fault = FSC_ADDRESS_SIZE;
      return hi >>> Math.min(this.features.paBits - 32, 31) === 0 ? S1_OK : S1_FAULT;
    }
    const el0 = op === AtOp.S1e0r || op === AtOp.S1e0w;
    const write = op === AtOp.S1e1w || op === AtOp.S1e0w || op === AtOp.S1e1wp;
    let rc = s1.translate(v, c, hi, vaLo, el0, false);
    const need = el0 ? (write ? F_W0 : F_R0) : write ? F_W1 : F_R1;
    if (rc === S1_OK && (this.translation.leafPermissions(Math.imul(v, REGS_WORDS)) & need) === 0 && s1.cached)
      rc = s1.translate(v, c, hi, vaLo, el0, true);
    if (rc !== S1_OK || (this.translation.leafPermissions(Math.imul(v, REGS_WORDS)) & need) !== 0 || (write && s1.canDirty(v))) return rc;
    s1.fault = fscAt(FSC_PERMISSION, s1.level);
    return S1_FAULT;
  }

  /** PAR_EL1: F 0, SH 8:7, NS 9, bit 11 RES1, PA 51:12, ATTR 63:56; or F 1, FST 6:1, PTW 8, S 9. */
  private writePar(v: number, c: GuestContext, failure: number): void {
    const r = this.regs.pool;
    const b = Math.imul(v, REGS_WORDS);
    if (failure !== 0) {
      r.set(b + PAR_EL1, failure | 0x800);
      r.set(b + PAR_EL1 + 1, 0);
      return;
    }
    let attr = 0;
    let sh = this.profile.parShareability === "raw" ? 0 : 2;
    if (c.stage1) {
      const byte = mairByte(r.a[b + MAIR_EL1 + 1]!, r.a[b + MAIR_EL1]!, (this.stage1.lo >>> 2) & 7);
      attr = isDevice(byte) ? byte : canonicalAttr(byte);
      sh = effectiveShareability(canonicalAttr(byte), (this.stage1.lo >>> 8) & 3);
    } else if ((r.a[b + HCR_EL2]! & HCR_DC) !== 0) {
      attr = 0xff;
      sh = 0;
    }
    const ipa = this.stage1.ipa;
    r.set(b + PAR_EL1, (ipa & ~0xfff) | 0xa00 | (sh << 7));
    r.set(b + PAR_EL1 + 1, ((ipa / 4294967296) & 0xfffff) | (attr << 24));
  }

  // ---- TLB maintenance and barriers

  /** VMID of a vCPU: VTTBR_EL2[63:48], 8 bits unless VTCR_EL2.VS. */
  private vmidOf(v: number): number {
    const r = this.regs.pool.a;
    const b = Math.imul(v, REGS_WORDS);
    return (r[b + VTTBR_EL2 + 1]! >>> 16) & ((r[b + VTCR_EL2]! & VTCR_VS) !== 0 ? 0xffff : 0xff);
  }

  /** TLBI by a guest (v >= 0; its VMID) or by the host for its own regime (v = -1). @param op kind | domain (a64system.ts, tlbi.ts) */
  tlbi(v: number, op: number, hi: number, lo: number): void {
    let how = op;
    // HCR_EL2.FB broadcasts what the guest means for its own CPU.
    if (v >= 0 && (op & 0x30) === 0 && (this.regs.pool.a[Math.imul(v, REGS_WORDS) + HCR_EL2]! & HCR_FB) !== 0) how |= TLBI_FORCED;
    this.maintenance.issue(this.agents.cpu, how, v < 0 ? -1 : this.vmidOf(v), hi, lo);
  }

  /** The hypervisor port of KVM's TLB primitives: op 0 IPAS2E1, 1 RIPAS2E1, 2 VMALLE1, 3 VMALLS12E1, 4 ALLE1. */
  hypTlbi(op: number, broadcast: boolean, vmid: number, hi: number, lo: number): void {
    this.maintenance.issue(this.agents.cpu, HYP_OPS[op]! | (broadcast ? TLBI_IS : 0), vmid, hi, lo);
  }
  hostDsb(type: number): void {
    this.maintenance.dsb(this.agents.cpu, type);
  }

  /** DSB on the running CPU. @param type CRm (see DSB_ constants); nXS forms as their plain ones */
  dsb(v: number, type: number): void {
    this.maintenance.dsb(this.agents.cpu, this.widened(v, type));
  }
  /** HCR_EL2.BSU: the least domain of a guest's barriers. KVM sets inner shareable. */
  private widened(v: number, type: number): number {
    const bsu = v < 0 ? 0 : (this.regs.pool.a[Math.imul(v, REGS_WORDS) + HCR_EL2]! >>> 10) & 3;
    const domain = (type >> 2) & 3;
    if (bsu === 0 || domain !== 1) return type;
    return (type & ~0xc) | (bsu === 1 ? 8 : bsu === 2 ? 0 : 12);
  }
  /** DMB: orders; completes no TLBI. */
  dmb(v: number, type: number): void {
    this.ordering?.dmb(this.agents.cpu, this.widened(v, type));
    this.agents.charge(this.costs.dsb);
  }
  isb(v: number): void {
    void v;
    this.ordering?.contextSync(this.agents.cpu);
    this.agents.charge(this.costs.isb);
  }
  get runningCpu(): number {
    return this.agents.cpu;
  }
  /** A physical SError of the running CPU, routed to EL2 (HCR_EL2.AMO): taken now. @returns READ_SERROR, READ_UNCONTAINED; 0: none is pending */
  takeSerror(): number {
    return this.ordering === undefined ? 0 : this.ordering.takeSerror(this.agents.cpu);
  }
  /** An exclusive or LSE atomic has been executed: its store is in the memory system. */
  atomicDone(): void {
    this.ordering?.atomic(this.agents.cpu);
  }

  // ---- the host's own accesses (the HostCpu and HostTlb of src/mmu)

  /** A bus master reads into phys.lo, hi, or writes. @param snoops it is in the coherent domain */
  dma(pa: Pa, size: number, write: boolean, snoops: boolean, lo: number, hi: number): void {
    if (this.caches === undefined) {
      if (write) this.phys.write(pa, size, lo, hi);
      else this.phys.read(pa, size);
    } else if (write) this.caches.data.dmaWrite(pa, size, snoops, lo, hi);
    else this.caches.data.dmaRead(pa, size, snoops);
  }
  /** Something with the line at pa. @param op LINE_* of src/mmu/useraccess.ts */
  lineOp(pa: Pa, op: number): void {
    if (op === LINE_SPECULATE && !this.phys.isRam(pa)) this.host.speculate(pa);
    else this.cacheOps.line(pa, op);
  }
  /**
   * Hardware reads ahead through a guest's translation, as it may wherever stage 1 and stage 2 together say Normal; never
   * from Device memory. Its walk leaves nothing behind. @returns true if something was read
   */
  speculateGuest(v: number, vaHi: number, vaLo: number): boolean {
    const { state } = this.sim;
    const began = state.beginUndo();
    const mark = state.mark();
    const c = this.context;
    if (c.outdated(v)) c.load(v);
    const ok = this.locate(v, c, vaHi, vaLo, ACCESS_READ, 0, 0) === PE_OK;
    const marks = ok ? this.marks() : 0;
    state.rollback(mark);
    state.endUndo(began);
    const kind = KIND_OF[marks & 0xff]!;
    if (!ok || kind < KIND_NC) return false;
    if (this.phys.isRam(this.pa)) this.caches?.data.speculate(this.pa);
    else if (this.ordering === undefined) this.phys.read(this.pa, 4);
    else this.ordering.buffers.port.read(kind, this.pa, 4);
    return true;
  }
  /** An uncorrectable error at an address of RAM (`phys.errors`): from now on who loads its line takes an external abort. @returns false if there are too many */
  injectError(pa: Pa): boolean {
    if (!this.phys.errors!.inject(pa)) return false;
    this.tlbs.forgetSlots(pa);
    return true;
  }
  hostLookup(rootPa: Pa, asid: number, hva: Hva, write: boolean): Pa {
    return this.host.hostLookup(rootPa, asid, hva, write);
  }
  hostLoad(pa: Pa, size: number): number {
    return this.host.hostLoad(pa, size);
  }
  hostStore(pa: Pa, size: number, lo: number, hi: number): void {
    this.host.hostStore(pa, size, lo, hi);
  }
  flushPage(asid: number, hva: Hva): void {
    this.host.flushPage(asid, hva);
  }
  flushRange(asid: number, start: Hva, end: Hva): void {
    this.host.flushRange(asid, start, end);
  }
  flushMm(asid: number): void {
    this.host.flushMm(asid);
  }
}

/** High word of va + n, for n below 4096. */
function nextHi(hi: number, lo: number, n: number): number {
  return (lo >>> 0) + n > 0xffffffff ? (hi + 1) | 0 : hi;
}
