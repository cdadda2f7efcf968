/**
 * Cache maintenance by physical address: what DC and IC instructions do once their address is
 * translated, whoever issues them (the guest, the kernel for it, the VMM at EL0). Always announced and
 * charged; where caches are modelled, also done.
 */
import type { Sim } from "../sim/sim.js";
import { CACHE_MODELS, DataCache, type CacheModel } from "./cache.js";
import { BACK_CLEAN, BACK_SCRIPT } from "./cacheevents.js";
import { InstructionCaches } from "./cacheinstr.js";
import { LINE } from "./cachelines.js";
import { dcacheClean, icacheInval } from "./events.js";
import type { CpuFeatures } from "./features.js";
import type { PhysicalMemory } from "./phys.js";
import type { Pa } from "./types.js";

export { CACHE_MODELS, type CacheModel };

/** Operations, the values of dcache_clean's field op. */
export const CLEAN_POC = 0;
export const CLEAN_POU = 1;
export const INVALIDATE = 2;
export const CLEAN_INVALIDATE = 3;
/** Who issues them, the values of its field by. */
export const BY_GUEST = 0;
export const BY_KERNEL = 1;
export const BY_VMM = 2;

/** dc cvac, dc cvau, dc civac by the VMM; (3: ic ivau); dc ivac, dc civac by the kernel. */
const LINE_OPS = [CLEAN_POC, CLEAN_POU, CLEAN_INVALIDATE, -1, INVALIDATE, CLEAN_INVALIDATE] as const;
const LINE_IC = 3;
const LINE_KERNEL = 4;
const LINE_SPECULATE = 6;
const LINE_EVICT = 7;

/** The modelled caches of a machine. */
export interface Caches {
  readonly data: DataCache;
  readonly instr: InstructionCaches;
}

export interface CacheOptions {
  readonly model: CacheModel;
  /** 0: lines leave the cache only when they must, or when a script says so. */
  readonly seed: number;
  readonly cpus: number;
}

export class CacheMaintenance {
  /** Absent: caches are not modelled, RAM is the one copy of everything. */
  readonly caches: Caches | undefined;

  constructor(
    private readonly sim: Sim,
    phys: PhysicalMemory,
    features: CpuFeatures,
    options?: CacheOptions,
  ) {
    if (options === undefined) return;
    const data = new DataCache(sim, phys, options.model, options.seed, features.idc);
    this.caches = { data, instr: new InstructionCaches(sim, phys, data, options.cpus, features.dic) };
    phys.cache = data;
    phys.direct = false;
  }

  /**
   * Data cache maintenance of [pa, pa + size). @param op CLEAN_POC, … @param by BY_GUEST, …
   * The caller charges its time where it is more than one line.
   */
  dcache(pa: Pa, size: number, op: number, by: number): void {
    this.sim.bus.emit(dcacheClean, pa, size, by, op);
    const data = this.caches?.data;
    if (data === undefined) return;
    const { lines } = data;
    for (let line = pa - (pa % LINE); line < pa + size; line += LINE) {
      const i = lines.find(line);
      if (i < 0) continue;
      if (op === CLEAN_POU) lines.unify(i);
      else if (op === CLEAN_POC) lines.clean(i, BACK_CLEAN);
      else if (op === INVALIDATE) lines.invalidate(i);
      else lines.evict(i, BACK_CLEAN);
    }
  }

  /**
   * One line, as the host asks by its own address: the EL0 instructions of the VMM, the kernel's for it,
   * and what no instruction does but hardware may at any moment.
   * @param n index into the table below (LINE_* of src/mmu/useraccess.ts)
   */
  line(pa: Pa, n: number): void {
    const line = pa - (pa % LINE);
    const data = this.caches?.data;
    if (n === LINE_SPECULATE) data?.speculate(line);
    else if (n === LINE_EVICT) data?.evictAt(line, BACK_SCRIPT);
    else {
      this.sim.agents.charge(this.sim.costs.cacheLine);
      const by = n >= LINE_KERNEL ? BY_KERNEL : BY_VMM;
      if (n === LINE_IC) this.icache(line, LINE, by);
      else this.dcache(line, LINE, LINE_OPS[n]!, by);
    }
  }

  /** The machine that runs the VM is another now: everything is in its memory, its caches are empty. */
  changeHost(coherent: boolean): void {
    if (this.caches === undefined) return;
    const { data, instr } = this.caches;
    for (let i = 0; i < data.lines.entries; i++) if (data.lines.address(i) >= 0) data.lines.evict(i, BACK_CLEAN);
    instr.invalidateAll(-1);
    data.setCoherent(coherent);
  }

  /** Instruction cache maintenance. @param size 0: everything @param cpu the one CPU whose cache it is, -1: all of the inner shareable domain */
  icache(pa: Pa, size: number, by: number, cpu = -1): void {
    this.sim.bus.emit(icacheInval, pa, size, by);
    const instr = this.caches?.instr;
    if (instr === undefined) return;
    if (size === 0) instr.invalidateAll(cpu);
    else for (let line = pa - (pa % LINE); line < pa + size; line += LINE) instr.invalidate(line, cpu);
  }
}
