/**
 * Memory of a platform device outside RAM: what answers on the bus behind it. Sparse: a page has data
 * from the first store on, and reads as its own page number before that, so that a wrong mapping shows.
 */
import type { BusDevice, PhysicalMemory } from "../../arch/phys.js";
import type { Sim } from "../../sim/sim.js";
import type { I32Pool } from "../../sim/state.js";

const PAGE_WORDS = 1024;

export class DeviceMemory implements BusDevice {
  /** Per page of the device: number of its data page + 1, or 0. */
  private readonly directory: I32Pool;
  private readonly data: I32Pool;
  /** [0] data pages in use. */
  private readonly used: I32Pool;

  constructor(
    sim: Sim,
    private readonly phys: PhysicalMemory,
    name: string,
    readonly base: number,
    size: number,
  ) {
    this.directory = sim.state.i32(`${name}.directory`, size / 4096);
    this.data = sim.state.i32(`${name}.data`, PAGE_WORDS);
    this.used = sim.state.i32(`${name}.used`, 1);
    phys.addWindow(base, size, this);
  }

  /** The first page frame. */
  get pfn(): number {
    return this.base / 4096;
  }

  private word(offset: number): number {
    const page = this.directory.a[Math.floor(offset / 4096)]!;
    return page === 0 ? Math.floor(offset / 4096) : this.data.a[(page - 1) * PAGE_WORDS + ((offset & 4095) >> 2)]!;
  }

  reset(): void {
    for (let n = 0; n < this.directory.a.length; n++) if (this.directory.a[n] !== 0) this.directory.set(n, 0);
  }

  /** A copy of pages to other ones, which the device's own engine makes; what they were is gone. */
  move(from: number, to: number, pages: number): void {
    for (let n = 0; n < pages; n++) {
      const data = this.directory.a[from + n]!;
      if (data === this.directory.a[to + n]) continue;
      this.directory.set(to + n, data);
      this.directory.set(from + n, 0);
    }
  }

  read(offset: number, size: number): void {
    const shift = (offset & 3) * 8;
    const lo = this.word(offset) >>> shift;
    this.phys.lo = size >= 4 ? lo | 0 : lo & ((1 << (8 * size)) - 1);
    this.phys.hi = size === 8 ? this.word(offset + 4) : 0;
  }

  write(offset: number, size: number, lo: number, hi: number): void {
    const at = this.pageFor(offset) + ((offset & 4095) >> 2);
    if (size >= 4) {
      this.data.set(at, lo);
      if (size === 8) this.data.set(at + 1, hi);
      return;
    }
    const shift = (offset & 3) * 8;
    const mask = ((1 << (8 * size)) - 1) << shift;
    this.data.set(at, (this.data.a[at]! & ~mask) | ((lo << shift) & mask));
  }

  /** First data word of the page at an offset, made and filled if it is absent. */
  private pageFor(offset: number): number {
    const n = Math.floor(offset / 4096);
    let page = this.directory.a[n]!;
    if (page === 0) {
      page = this.used.a[0]! + 1;
      this.used.set(0, page);
      this.data.ensure(page * PAGE_WORDS);
      for (let i = 0; i < PAGE_WORDS; i++) this.data.set((page - 1) * PAGE_WORDS + i, n);
      this.directory.set(n, page);
    }
    return (page - 1) * PAGE_WORDS;
  }
}
