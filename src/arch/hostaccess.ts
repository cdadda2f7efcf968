/**
 * The host's own translation regime (EL2&0 with VHE, EL1&0 of a host at EL1): the loads and stores of
 * the VMM go through the TLBs of its CPU like a guest's, tagged with the mm as ASID, and miss into the
 * host's page tables. Also the maintenance that the host's mm issues for itself
 * (arch/arm64/include/asm/tlbflush.h): barrier, TLBI, barrier.
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import { DESC_AF, DESC_TABLE, DESC_VALID, HI_DBM, HI_OA, S1_AP_EL0, S1_AP_RDONLY } from "./descriptors.js";
import { staleTranslation, tlbMiss } from "./events.js";
import type { CpuFeatures } from "./features.js";
import { ATTR_NC, ATTR_nGnRE, ATTR_nGnRnE, ATTR_TAGGED, ATTR_WB, isCacheable } from "./mair.js";
import type { Ordering } from "./ordering.js";
import { KIND_NC, KIND_OF, KIND_WB, READ_OK, READ_SEA } from "./storebuffer.js";
import type { PhysicalMemory } from "./phys.js";
import type { TablePages } from "./tables.js";
import { DSB_ISH, DSB_ISHST, TLBI_IS, TlbiKind, vaOperandHi, vaOperandLo, type TlbMaintenance } from "./tlbi.js";
import {
  BIG_HOST,
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
  CTX_HOST,
  F_CACHED,
  F_R0,
  F_W0,
  type Tlbs,
} from "./tlb.js";
import { joinWords, type Hva, type Pa } from "./types.js";

/** Above so many pages flush_tlb_range drops the whole address space (MAX_DVM_OPS, PTRS_PER_PTE). */
const MAX_PAGES_BY_ADDRESS = 512;

/**
 * MAIR_EL1 (MAIR_EL2 with VHE) of the host by AttrIndx (arch/arm64/mm/proc.S MAIR_EL1_SET): MT_NORMAL, MT_NORMAL_TAGGED,
 * MT_NORMAL_NC, MT_DEVICE_nGnRnE, MT_DEVICE_nGnRE.
 */
const HOST_MAIR = [ATTR_WB, ATTR_TAGGED, ATTR_NC, ATTR_nGnRnE, ATTR_nGnRE, ATTR_WB, ATTR_WB, ATTR_WB] as const;

export class HostTranslation {
  /** Store and gathering buffers, where they are modelled. */
  ordering: Ordering | undefined;
  /** Memory type of the last translated access: a KIND_ of storebuffer.ts. */
  private kind = KIND_WB;
  /** The leaf of the last walk: words, PA of the byte, log2 of its size, word index. */
  private lo = 0;
  private hi = 0;
  private pa: Pa = 0;
  private shift = 12;
  private word = 0;
  private level = 3;
  /** C_FLAGS of the last successful look-up: how the access uses the caches. */
  marks = 0;
  private readonly combined: I32Pool;

  constructor(
    private readonly sim: Sim,
    private readonly phys: PhysicalMemory,
    private readonly tables: TablePages,
    private readonly tlbs: Tlbs,
    private readonly maintenance: TlbMaintenance,
    private readonly features: CpuFeatures,
  ) {
    this.combined = tlbs.combined;
  }

  /**
   * Translates an access of host user space on the running CPU. @param rootPa the pgd (TTBR0)
   * @param asid the address space's tag @returns PA, or -1: the access faults
   */
  hostLookup(rootPa: Pa, asid: number, hva: Hva, write: boolean): Pa {
    const cpu = this.sim.agents.cpu;
    const hi = (hva / 4294967296) | 0;
    const lo = hva | 0;
    const need = write ? F_W0 : F_R0;
    const tag = this.tlbs.findContext(cpu, CTX_HOST, 0, asid);
    const i = this.tlbs.combinedAt(cpu, hi, lo);
    const t = this.combined;
    if (tag !== 0 && t.a[i + C_TAG] === tag && t.a[i] === (lo & ~0xfff) && t.a[i + C_VA_HI] === hi && (t.a[i + C_FLAGS]! & need) !== 0) {
      if (t.a[i + C_CHANGES] !== this.tables.changes.a[0]) this.recheck(rootPa, i, hva, write);
      this.kind = KIND_OF[t.a[i + C_FLAGS]! & 0xff]!;
      this.marks = t.a[i + C_FLAGS]!;
      return joinWords(t.a[i + C_PA_HI]!, t.a[i + C_PA_LO]!) + (lo & 0xfff);
    }
    return this.miss(rootPa, asid, cpu, i, hi, lo, write);
  }

  /**
   * The load of a translated access, within one page; the data is left in the PhysicalMemory's lo and hi.
   * @returns READ_OK; READ_SEA: the data is lost; or how the CPU gets to know that the end point did not answer
   */
  hostLoad(pa: Pa, size: number): number {
    const { ordering, phys } = this;
    if (phys.errors !== undefined && phys.errors.consume(pa, size) >= 0) return READ_SEA;
    if (ordering === undefined) {
      phys.readBy(pa, size, this.marks);
      return READ_OK;
    }
    const b = ordering.buffers;
    const { cpu } = this.sim.agents;
    if (!phys.isRam(pa)) {
      b.beforeDeviceLoad(cpu, this.kind, pa, size);
      return b.port.read(this.kind, pa, size);
    }
    phys.readBy(pa, size, this.marks);
    b.d0 = phys.lo;
    b.d1 = phys.hi;
    b.overlay(cpu, pa, size);
    phys.lo = b.d0;
    phys.hi = b.d1;
    return READ_OK;
  }
  /** The store of a translated access. */
  hostStore(pa: Pa, size: number, lo: number, hi: number): void {
    const { ordering } = this;
    if (ordering === undefined || (this.kind === KIND_WB && !ordering.weak)) this.phys.writeBy(pa, size, this.marks, lo, hi);
    else ordering.buffers.store(this.sim.agents.cpu, this.kind, this.marks, pa, size, lo, hi, 0, 0, false);
  }

  /** Hardware reads a word of a device ahead through the mapping just looked up, which it may only where that is Normal. */
  speculate(pa: Pa): void {
    if (this.kind < KIND_NC) return;
    if (this.ordering === undefined) this.phys.read(pa, 4);
    else this.ordering.buffers.port.read(this.kind, pa, 4);
  }

  private miss(rootPa: Pa, asid: number, cpu: number, i: number, hi: number, lo: number, write: boolean): Pa {
    this.sim.bus.emit(tlbMiss, hi, lo, 0, asid, write ? 5 : 4);
    const found = this.walk(rootPa, hi, lo);
    this.sim.agents.charge(this.sim.costs.walkStep * (this.level + 1));
    if (!found || !this.usable(write)) return -1;
    const t = this.combined;
    const attr = HOST_MAIR[(this.lo >>> 2) & 7]!;
    this.kind = KIND_OF[attr]!;
    let flags = F_R0 | attr | (isCacheable(attr) ? F_CACHED : 0);
    if ((this.lo & S1_AP_RDONLY) === 0) flags |= F_W0;
    const pa = this.pa;
    t.set(i + C_VA_LO, lo & ~0xfff);
    t.set(i + C_VA_HI, hi);
    t.set(i + C_TAG, this.tlbs.context(cpu, CTX_HOST, 0, asid));
    t.set(i + C_FLAGS, flags);
    t.set(i + C_SLOT, this.phys.directSlot(pa));
    this.marks = flags;
    t.set(i + C_CHANGES, this.tables.changes.a[0]!);
    t.set(i + C_PA_LO, pa & ~0xfff);
    t.set(i + C_PA_HI, (pa / 4294967296) | 0);
    t.set(i + C_IPA_LO, 0);
    t.set(i + C_IPA_HI, 0);
    t.set(i + C_S1, (this.level << 8) | this.shift);
    t.set(i + C_IDS, asid);
    this.tlbs.noteHost(cpu, hi, lo, this.shift);
    if (this.shift > 12) this.tlbs.noteBig(cpu, BIG_HOST);
    return pa;
  }

  /** Access flag, EL0 access and write permission of the leaf; hardware sets AF and dirty where the CPU can. */
  private usable(write: boolean): boolean {
    if ((this.lo & S1_AP_EL0) === 0) return false;
    let lo = this.lo;
    if ((lo & DESC_AF) === 0) {
      if (!this.features.hafdbs) return false;
      lo |= DESC_AF;
    }
    if (write && (lo & S1_AP_RDONLY) !== 0) {
      if (!this.features.hafdbs || (this.hi & HI_DBM) === 0) return false;
      lo &= ~S1_AP_RDONLY;
    }
    if (lo !== this.lo) this.tables.words.set(this.word, lo);
    this.lo = lo;
    return true;
  }

  /** Walks four levels of 4 KiB tables. @returns false without a valid leaf */
  private walk(rootPa: Pa, hi: number, lo: number): boolean {
    const words = this.tables.words.a;
    let word = this.tables.word(rootPa) + (((hi >>> 7) & 511) << 1);
    for (let level = 0; ; level++) {
      const dlo = words[word]!;
      const dhi = words[word + 1]!;
      this.level = level;
      if ((dlo & DESC_VALID) === 0) return false;
      if (level === 3 || (dlo & DESC_TABLE) === 0) {
        if (level === 0 || (level === 3 && (dlo & DESC_TABLE) === 0)) return false;
        this.lo = dlo;
        this.hi = dhi;
        this.word = word;
        this.shift = 39 - 9 * level;
        const mask = (1 << this.shift) - 1;
        this.pa = joinWords(dhi & HI_OA, (dlo & ~0xfff & ~mask) | (lo & mask));
        return true;
      }
      const next = this.tables.word(joinWords(dhi & HI_OA, dlo & ~0xfff));
      const index = level === 0 ? ((hi & 0x7f) << 2) | (lo >>> 30) : level === 1 ? (lo >>> 21) & 511 : (lo >>> 12) & 511;
      word = next + (index << 1);
    }
  }

  private recheck(rootPa: Pa, i: number, hva: Hva, write: boolean): void {
    const t = this.combined;
    t.set(i + C_CHANGES, this.tables.changes.a[0]!);
    const hi = (hva / 4294967296) | 0;
    const cached = joinWords(t.a[i + C_PA_HI]!, t.a[i + C_PA_LO]!) + (hva & 0xfff);
    const found = this.walk(rootPa, hi, hva | 0);
    if (found && this.pa === cached && (!write || (this.lo & S1_AP_RDONLY) === 0)) return;
    this.sim.bus.emit(staleTranslation, hi, hva | 0, 1, 0, cached, found ? this.pa : -1, this.maintenance.pendingAnywhere());
  }

  // ---- the host's own maintenance

  private issue(kind: TlbiKind, hi: number, lo: number): void {
    this.maintenance.issue(this.sim.agents.cpu, kind | TLBI_IS, -1, hi, lo);
  }
  private dsb(type: number): void {
    this.maintenance.dsb(this.sim.agents.cpu, type);
  }

  /** flush_tlb_page: DSB ISHST; VALE1IS; DSB ISH. */
  flushPage(asid: number, hva: Hva): void {
    this.dsb(DSB_ISHST);
    const hi = (hva / 4294967296) | 0;
    this.issue(TlbiKind.Vale1, vaOperandHi(hi, asid, 0), vaOperandLo(hi, hva | 0));
    this.dsb(DSB_ISH);
  }

  /** __flush_tlb_range: by address, or the whole address space when the range is long. */
  flushRange(asid: number, start: Hva, end: Hva): void {
    const pages = Math.ceil((end - start) / 4096);
    if (pages > MAX_PAGES_BY_ADDRESS) {
      this.flushMm(asid);
      return;
    }
    this.dsb(DSB_ISHST);
    if (this.features.tlbiRange) this.ranges(asid, start, pages);
    else {
      for (let n = 0; n < pages; n++) {
        const hva = start + n * 4096;
        const hi = (hva / 4294967296) | 0;
        this.issue(TlbiKind.Vae1, vaOperandHi(hi, asid, 0), vaOperandLo(hi, hva | 0));
      }
    }
    this.dsb(DSB_ISH);
  }

  /** __flush_tlb_range_op: an odd page alone, then RVAE1IS with growing scale. */
  private ranges(asid: number, start: Hva, pages: number): void {
    let page = start / 4096;
    for (let scale = 0; pages > 0;) {
      if ((pages & 1) !== 0) {
        const hva = page * 4096;
        const hi = (hva / 4294967296) | 0;
        this.issue(TlbiKind.Vae1, vaOperandHi(hi, asid, 0), vaOperandLo(hi, hva | 0));
        page++;
        pages--;
        continue;
      }
      const units = (pages >>> (5 * scale + 1)) & 31;
      if (units > 0) {
        // BaseADDR 36:0, TTL 38:37, NUM 43:39, SCALE 45:44, TG 47:46, ASID 63:48.
        this.issue(TlbiKind.Rvae1, (asid << 16) | (1 << 14) | (scale << 12) | ((units - 1) << 7) | ((page / 4294967296) & 0x1f), page | 0);
        page += units << (5 * scale + 1);
        pages -= units << (5 * scale + 1);
      }
      scale++;
    }
  }

  /** flush_tlb_mm: DSB ISHST; ASIDE1IS; DSB ISH. */
  flushMm(asid: number): void {
    this.dsb(DSB_ISHST);
    this.issue(TlbiKind.Aside1, asid << 16, 0);
    this.dsb(DSB_ISH);
  }
}
