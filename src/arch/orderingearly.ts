/**
 * Accesses performed early (weak mode): a CPU looks ahead of its program counter and performs a load, finds the fault
 * of an access, or ends a table walk in a fault, before the instructions in between (Arm ARM B2.3, B2.7; without
 * FEAT_ETS2 the walk of an access is not ordered even by DMB and DSB, D8.2.6).
 *
 * What was found waits here until its instruction is reached, and is used if nothing since then forbids it:
 *
 * entry     | goes when this CPU …
 * load      | executes a barrier or acquire that orders loads, accesses the same bytes, synchronises its context
 * fault     | the same, or accesses the same page
 * walkFault | accesses the same page, synchronises its context; when a remote TLBI for its page completes
 *
 * A load or fault whose page a remote TLBI named also goes when an older access to the page is still to come
 * (hazard-ordered-before): two accesses to one address do not see a translation and then the one before it.
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";

export const EARLY_LOAD = 1;
export const EARLY_FAULT = 2;
export const EARLY_WALK = 3;

/** Entries of a CPU. */
const ENTRIES = 2;
export const E_WHAT = 0;
export const E_PC_LO = 1;
export const E_PC_HI = 2;
export const E_VA_LO = 3;
export const E_VA_HI = 4;
export const E_SIZE = 5;
/** PE_ code. */
export const E_RESULT = 6;
export const E_DATA = 7;
export const E_ESR = 11;
export const E_HPFAR_LO = 12;
export const E_HPFAR_HI = 13;
export const E_PA_LO = 14;
export const E_PA_HI = 15;
/** 1: a remote TLBI of its page has completed since. */
const E_HAZARD = 16;
export const EARLY_WORDS = 17;

export class EarlyAccesses {
  readonly pool: I32Pool;
  /** Per CPU, while it has entries: low word of the PC that comes next on the path that they were found on. */
  private readonly path: I32Pool;

  constructor(
    sim: Sim,
    cpus: number,
    readonly ets: number,
  ) {
    this.pool = sim.state.i32("early.entries", cpus * ENTRIES * EARLY_WORDS);
    this.path = sim.state.i32("early.path", cpus);
  }

  private at(cpu: number, n: number): number {
    return (cpu * ENTRIES + n) * EARLY_WORDS;
  }
  private clear(at: number): void {
    for (let i = 0; i < EARLY_WORDS; i++) this.pool.set(at + i, 0);
  }

  /** An unused entry, or -1. */
  free(cpu: number): number {
    for (let n = 0; n < ENTRIES; n++) if (this.pool.a[this.at(cpu, n)] === 0) return this.at(cpu, n);
    return -1;
  }
  any(cpu: number): boolean {
    for (let n = 0; n < ENTRIES; n++) if (this.pool.a[this.at(cpu, n)] !== 0) return true;
    return false;
  }
  /** The entry of the instruction at this PC, -1 without. */
  find(cpu: number, pcHi: number, pcLo: number): number {
    const a = this.pool.a;
    for (let n = 0; n < ENTRIES; n++) {
      const e = this.at(cpu, n);
      if (a[e] !== 0 && a[e + E_PC_LO] === pcLo && a[e + E_PC_HI] === pcHi) return e;
    }
    return -1;
  }
  /** The instruction of this entry has been executed. */
  taken(e: number): void {
    this.clear(e);
  }

  /** An entry was made by a CPU that stands at this PC. */
  found(cpu: number, pcLo: number): void {
    this.path.set(cpu, pcLo);
  }
  /** The CPU comes to an instruction: a branch, an exception or another vCPU ends the path that was looked at. */
  follow(cpu: number, pcLo: number): void {
    if (this.any(cpu)) {
      if (this.path.a[cpu] !== pcLo) this.drop(cpu);
      else this.path.set(cpu, (pcLo + 4) | 0);
    }
    if (this.path.a[cpu] !== 0 && !this.any(cpu)) this.path.set(cpu, 0);
  }

  drop(cpu: number): void {
    for (let n = 0; n < ENTRIES; n++) this.clear(this.at(cpu, n));
  }
  /** DMB of loads, LDAR: what was performed early was so in vain; a walk stands without FEAT_ETS2. */
  loadBarrier(cpu: number): void {
    for (let n = 0; n < ENTRIES; n++) {
      const e = this.at(cpu, n);
      if (this.pool.a[e] !== EARLY_WALK) this.clear(e);
    }
  }
  dsb(cpu: number): void {
    this.loadBarrier(cpu);
  }

  /** This CPU performs an access in its turn. @param pa -1: it faulted */
  accessed(cpu: number, vaHi: number, vaLo: number, pa: number, size: number): void {
    const a = this.pool.a;
    for (let n = 0; n < ENTRIES; n++) {
      const e = this.at(cpu, n);
      if (a[e] === 0) continue;
      const samePage = a[e + E_VA_HI] === vaHi && ((a[e + E_VA_LO]! ^ vaLo) & ~0xfff) === 0;
      if (samePage && (a[e] !== EARLY_LOAD || a[e + E_HAZARD] !== 0)) {
        this.clear(e);
        continue;
      }
      const entryPa = (a[e + E_PA_HI]! >>> 0) * 4294967296 + (a[e + E_PA_LO]! >>> 0);
      if (a[e] === EARLY_LOAD && pa >= 0 && entryPa < pa + size && entryPa + a[e + E_SIZE]! > pa) this.clear(e);
    }
  }

  /** A remote TLBI has completed. @param page VA[43:12] that it names, -1: all of the regime */
  remoteTlbi(cpu: number, pageLo: number): void {
    const a = this.pool.a;
    for (let n = 0; n < ENTRIES; n++) {
      const e = this.at(cpu, n);
      if (a[e] === 0 || (pageLo !== -1 && ((a[e + E_VA_LO]! >>> 12) | (a[e + E_VA_HI]! << 20)) !== pageLo)) continue;
      if (a[e] === EARLY_WALK) this.clear(e);
      else this.pool.set(e + E_HAZARD, 1);
    }
  }
}
