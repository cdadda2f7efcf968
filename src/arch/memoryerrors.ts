/**
 * Uncorrectable errors in RAM: lines of 64 bytes whose data is lost ("poison", Arm RAS architecture). Who loads one, or fetches
 * or walks through it, takes a synchronous external abort. Stores neither see nor mend it; what writes whole lines does.
 */
import type { Sim } from "../sim/sim.js";
import type { F64Pool } from "../sim/state.js";
import type { Pa } from "./types.js";

/** What firmware has for errors in RAM: injection (EINJ), and error records of external aborts besides (GHES). */
export const APEIS = ["einj", "ghes"] as const;
export type Apei = (typeof APEIS)[number];

const LINE = 64;
const PAGE = 4096;
/** Each access to a page with such a line, and to a device, looks through all of them. */
const MOST_LINES = 1024;

export class MemoryErrors {
  /** [0] how many lines, then their addresses. */
  private readonly lines: F64Pool;
  /** By agent: address + 1 of the line that its last external abort was of, as firmware records it; 0: no record. */
  private readonly records: F64Pool;

  /** @param firmwareFirst external aborts go by way of EL3, where firmware writes an error record (SCR_EL3.EA) */
  constructor(
    private readonly sim: Sim,
    private readonly firmwareFirst: boolean,
  ) {
    this.lines = sim.state.f64("memory.errors", 8);
    this.records = sim.state.f64("memory.errors.records", 8);
  }

  /** The line at an address of RAM is lost. @returns false if as many are as can be */
  inject(pa: Pa): boolean {
    const line = pa - (pa % LINE);
    if (this.lost(line, 1) >= 0) return true;
    const n = this.lines.a[0]! + 1;
    if (n > MOST_LINES) return false;
    this.lines.ensure(n + 1);
    this.lines.set(n, line);
    this.lines.set(0, n);
    return true;
  }

  /** [pa, pa + size) is written in whole lines: those are good again. */
  overwrite(pa: Pa, size: number): void {
    const { lines } = this;
    for (let i = lines.a[0]!; i > 0; i--) {
      const line = lines.a[i]!;
      if (line < pa || line + LINE > pa + size) continue;
      const last = lines.a[0]!;
      lines.set(i, lines.a[last]!);
      lines.set(0, last - 1);
    }
  }

  /** Is a line of the page at pa lost? */
  inPage(pa: Pa): boolean {
    const a = this.lines.a;
    for (let i = a[0]!; i > 0; i--) if (a[i]! - (a[i]! % PAGE) === pa - (pa % PAGE)) return true;
    return false;
  }

  /** An access consumes what it reads. @returns offset of its first lost byte, -1: none is */
  consume(pa: Pa, size: number): number {
    const offset = this.lost(pa, size);
    if (offset >= 0 && this.firmwareFirst) {
      const agent = this.sim.agents.current;
      this.records.ensure(agent + 1);
      this.records.set(agent, pa + offset + 1);
    }
    return offset;
  }

  private lost(pa: Pa, size: number): number {
    const a = this.lines.a;
    let first = -1;
    for (let i = a[0]!; i > 0; i--) {
      const line = a[i]!;
      if (line >= pa + size || line + LINE <= pa) continue;
      const offset = Math.max(line - pa, 0);
      if (first < 0 || offset < first) first = offset;
    }
    return first;
  }

  /** Takes the error record of the running agent's abort. @returns the address in it, -1 without one */
  takeRecord(): Pa {
    const agent = this.sim.agents.current;
    const at = this.records.a[agent] ?? 0;
    if (at === 0) return -1;
    this.records.set(agent, 0);
    return at - 1;
  }
}
