/**
 * The instruction caches, one for each physical CPU: 128 sets of 4 ways of 64 bytes. A line is filled
 * from the point of unification and stays until it is invalidated or replaced; no store reaches it
 * (Arm ARM B2.7.4, D7.5.11).
 *
 * CTR_EL0.DIC: nothing to invalidate, fetches always see the point of unification.
 * CTR_EL0.IDC: the point of unification sees stores at once; without it only after DC CVAU.
 */
import type { Sim } from "../sim/sim.js";
import type { F64Pool, I32Pool } from "../sim/state.js";
import type { DataCache } from "./cache.js";
import { FILL_FETCH, STALE_ICACHE, staleRead } from "./cacheevents.js";
import { LINE, LINE_WORDS, M_WRITER, META_SHIFT } from "./cachelines.js";
import type { PhysicalMemory } from "./phys.js";
import type { Pa } from "./types.js";

const SETS = 128;
const WAYS = 4;
const ENTRIES = SETS * WAYS;

export class InstructionCaches {
  /** Per CPU and entry: PA of the line + 1, 0: empty. */
  private readonly tag: F64Pool;
  private readonly data: I32Pool;
  /** Per CPU and entry: version of the data side with which the line was last found to agree. */
  private readonly agreed: I32Pool;
  /** Per CPU and set: the way that is replaced next. */
  private readonly victim: I32Pool;

  constructor(
    private readonly sim: Sim,
    private readonly phys: PhysicalMemory,
    private readonly cache: DataCache,
    private readonly cpus: number,
    /** CTR_EL0.DIC. */
    private readonly dic: boolean,
  ) {
    const s = sim.state;
    const kept = dic ? 0 : cpus;
    this.tag = s.f64("icache.tag", kept * ENTRIES);
    this.data = s.i32("icache.data", kept * ENTRIES * LINE_WORDS);
    this.agreed = s.i32("icache.agreed", kept * ENTRIES);
    this.victim = s.i32("icache.victim", kept * SETS);
  }

  /** The word at a 4-byte aligned address. @param cached the fetch's own type is cacheable */
  fetch(pa: Pa, cached: boolean): number {
    const line = pa - (pa & 63);
    const o = (pa & 63) >> 2;
    if (!cached) {
      this.phys.readMemory(pa, 4);
      return this.checked(this.phys.lo, pa, line);
    }
    if (this.dic) return this.checked(this.unified(line, o), pa, line);
    const cpu = this.sim.agents.cpu;
    const set = (line >>> 6) & (SETS - 1);
    const first = cpu * ENTRIES + set * WAYS;
    for (let i = first; i < first + WAYS; i++) {
      if (this.tag.a[i] !== line + 1) continue;
      const word = this.data.a[i * LINE_WORDS + o]!;
      if (this.agreed.a[i] === this.cache.lines.version.a[0]) return word;
      if (this.agrees(i, line)) this.agreed.set(i, this.cache.lines.version.a[0]!);
      return this.checked(word, pa, line);
    }
    const way = this.victim.a[cpu * SETS + set]!;
    this.victim.set(cpu * SETS + set, (way + 1) & (WAYS - 1));
    const i = first + way;
    this.tag.set(i, line + 1);
    for (let k = 0; k < LINE_WORDS; k++) this.data.set(i * LINE_WORDS + k, this.unified(line, k));
    this.agreed.set(i, -1);
    this.sim.agents.charge(this.sim.costs.memoryAccess);
    return this.checked(this.data.a[i * LINE_WORDS + o]!, pa, line);
  }

  /** Is the whole line what the data side has? */
  private agrees(i: number, line: Pa): boolean {
    for (let o = 0; o < LINE_WORDS; o++) if (this.data.a[i * LINE_WORDS + o] !== this.current(line, o)) return false;
    return true;
  }
  /** A word as a load would see it. */
  private current(line: Pa, o: number): number {
    const { lines } = this.cache;
    const i = lines.find(line);
    if (i >= 0) return lines.data.a[i * LINE_WORDS + o]!;
    this.phys.readMemory(line + 4 * o, 4);
    return this.phys.lo;
  }

  /** A word at the point of unification. */
  private unified(line: Pa, o: number): number {
    const { lines } = this.cache;
    const i = lines.find(line);
    if (i >= 0) return (lines.pou ?? lines.data).a[i * LINE_WORDS + o]!;
    this.phys.readMemory(line + 4 * o, 4);
    return this.phys.lo;
  }

  /** The word, after saying so if the data side has another. */
  private checked(word: number, pa: Pa, line: Pa): number {
    const { lines } = this.cache;
    const now = this.current(line, (pa & 63) >> 2);
    if (word !== now) {
      const i = lines.find(line);
      const writer = i < 0 ? 0 : lines.meta.a[(i << META_SHIFT) + M_WRITER]!;
      this.sim.bus.emit(staleRead, pa, 4, 0, word, 0, now, STALE_ICACHE, lines.writerName(writer), FILL_FETCH);
    }
    return word;
  }

  /** IC IVAU of a line on one CPU, or on all (-1). */
  invalidate(pa: Pa, cpu: number): void {
    if (this.dic) return;
    const line = pa - (pa % LINE);
    const set = (line >>> 6) & (SETS - 1);
    for (let c = 0; c < this.cpus; c++) {
      if (cpu >= 0 && c !== cpu) continue;
      const first = c * ENTRIES + set * WAYS;
      for (let i = first; i < first + WAYS; i++) if (this.tag.a[i] === line + 1) this.tag.set(i, 0);
    }
  }
  /** IC IALLU (one CPU), IC IALLUIS (-1). */
  invalidateAll(cpu: number): void {
    if (this.dic) return;
    for (let i = 0; i < this.cpus * ENTRIES; i++)
      if ((cpu < 0 || Math.floor(i / ENTRIES) === cpu) && this.tag.a[i] !== 0) this.tag.set(i, 0);
  }
  /** Lines of an address that CPUs hold: the CPUs' numbers. */
  holders(pa: Pa): number[] {
    if (this.dic) return [];
    const line = pa - (pa % LINE);
    const first = ((line >>> 6) & (SETS - 1)) * WAYS;
    const out: number[] = [];
    for (let c = 0; c < this.cpus; c++) {
      for (let i = first; i < first + WAYS; i++) if (this.tag.a[c * ENTRIES + i] === line + 1) out.push(c);
    }
    return out;
  }
  /** The lines that a CPU's cache holds, with a copy of their words. */
  list(cpu: number): { readonly address: Pa; readonly words: Int32Array }[] {
    const out: { address: Pa; words: Int32Array }[] = [];
    if (this.dic) return out;
    for (let i = cpu * ENTRIES; i < (cpu + 1) * ENTRIES; i++)
      if (this.tag.a[i] !== 0) out.push({ address: this.tag.a[i]! - 1, words: this.data.a.slice(i * LINE_WORDS, (i + 1) * LINE_WORDS) });
    return out;
  }
}
