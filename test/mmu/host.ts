/** A host for the tests of this room: RAM, tables, one VMM thread, and a processing element without a TLB. */
import { TablePages } from "../../src/arch/tables.js";
import { PhysicalMemory } from "../../src/arch/phys.js";
import { eraRow } from "../../src/eras.js";
import { HostMm, type HostMmOptions } from "../../src/mmu/mm.js";
import { mmapMode } from "../../src/mmu/mmap.js";
import { MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE } from "../../src/mmu/vmflags.js";
import type { MmRow } from "../../src/mmu/decisions.js";
import type { Activity } from "../../src/sim/agents.js";
import { Sim } from "../../src/sim/sim.js";

export const RW = PROT_READ | PROT_WRITE;
export const ANON = MAP_PRIVATE | MAP_ANONYMOUS;
export const FIXED = MAP_FIXED;
export const SHARED = MAP_SHARED;
export const MIB = 0x100000;
/** A block-aligned address far from what mmap chooses. */
export const BASE = 0x40_0000_0000;

export class TestHost {
  readonly sim = new Sim();
  readonly mm: HostMm;
  readonly phys: PhysicalMemory;
  /** Notifier ranges since `clearRanges`: "S UNMAP 0x1000-0x2000" relative to `BASE`. */
  ranges: string[] = [];

  /** The kinds of TLBI that the host has issued (arch/tlbi.ts). */
  readonly tlbis = new Set<number>();
  constructor(era = "v6.12", set: Readonly<Record<string, string>> = {}, options: HostMmOptions = {}) {
    this.sim.agents.add("vmm", "vmm", 0);
    const phys = new PhysicalMemory(this.sim, { ramBase: 0x40000000, ramSize: 0x80000000 });
    this.phys = phys;
    const tables = new TablePages(this.sim, phys, { base: 0x200000000, size: 0x10000000 });
    const pe = {
      tlbi: (_: number, op: number) => void this.tlbis.add(op),
      dsb: () => undefined,
      hostLoad: (pa: number, size: number) => (phys.read(pa, size), 0),
      hostStore: (pa: number, size: number, lo: number, hi: number) => phys.write(pa, size, lo, hi),
      dma: () => undefined,
      lineOp: () => undefined,
      hostLookup: (_root: number, asid: number, hva: number, write: boolean) => {
        const pt = this.mm.pt;
        if (!pt.walk(asid, hva) || !pt.valid || (write && !pt.writable)) return -1;
        return pt.leafPfn * 4096 + (hva % 4096);
      },
    };
    const row = eraRow(era, set).mm as MmRow;
    this.mm = new HostMm(this.sim, phys, tables, pe, { tlbiRange: true, mte: true, hafdbs: true }, row, options);
    const range = (letter: string) => (e: Readonly<Record<string, unknown>>) => {
      const at = (n: unknown) => `0x${((n as number) - BASE).toString(16)}`;
      this.ranges.push(`${letter} ${String(e["type"])} ${at(e["start"])}-${at(e["end"])}${e["mm"] === 0 ? "" : ` mm${String(e["mm"])}`}`);
    };
    this.sim.bus.on("mmu_notifier_invalidate_range_start", range("S"));
    this.sim.bus.on("mmu_notifier_invalidate_range_end", range("E"));
  }

  /** Runs an activity to its end on the VMM's thread. @returns its first result */
  run(act: Activity, ...args: number[]): number {
    this.sim.agents.start(0, act, ...args);
    if (!this.sim.agents.runToEnd(0)) throw new Error(`blocked in ${this.sim.agents.backtrace(0).join(" < ")}`);
    return this.sim.agents.result(0);
  }
  result(word: number): number {
    return this.sim.agents.result(0, word);
  }

  mmap(addr: number, len: number, { prot = RW, flags = ANON | FIXED, file = -1, offset = 0, align = 4096 } = {}): number {
    return this.run(this.mm.syscalls.mmap, 0, addr, len, mmapMode(prot, flags, align), file, offset);
  }
  munmap(addr: number, len: number): number {
    return this.run(this.mm.syscalls.munmap, 0, addr, len);
  }
  mprotect(addr: number, len: number, prot: number): number {
    return this.run(this.mm.syscalls.mprotect, 0, addr, len, prot);
  }
  madvise(addr: number, len: number, advice: number): number {
    return this.run(this.mm.syscalls.madvise, 0, addr, len, advice);
  }
  mremap(addr: number, oldLen: number, newLen: number, flags = 0, to = 0): number {
    return this.run(this.mm.syscalls.mremap, 0, addr, oldLen, newLen, flags, to);
  }
  fork(): number {
    return this.run(this.mm.syscalls.fork, 0);
  }
  write(addr: number, value: number, mm = 0): number {
    return this.run(this.mm.hostAccess, mm, addr, 4, 1, value, 0);
  }
  read(addr: number, mm = 0): number {
    const error = this.run(this.mm.hostAccess, mm, addr, 4, 0, 0, 0);
    return error < 0 ? error : this.result(1);
  }

  /** Forgets the ranges so far. */
  quiet(): this {
    this.ranges = [];
    return this;
  }
  /** Only the starts, without their letter. */
  get starts(): string[] {
    return this.ranges.filter((r) => r.startsWith("S ")).map((r) => r.slice(2));
  }
  /** Every VMA as one line: "start-end flags file+offset", addresses relative to BASE. */
  maps(mm = 0): string[] {
    const short: Readonly<Record<string, string>> = { READ: "r", WRITE: "w", EXEC: "x", SHARED: "s" };
    return this.mm.maps(mm).map((v) => {
      const prot = v.flags.map((n) => short[n] ?? "").join("");
      const rest = v.flags.filter((n) => !n.startsWith("MAY") && short[n] === undefined && n !== "MTE_ALLOWED");
      const file = v.fd < 0 ? "" : ` ${v.file}+0x${v.offset.toString(16)}`;
      return `0x${(v.start - BASE).toString(16)}-0x${(v.end - BASE).toString(16)} ${prot === "" ? "-" : prot}${file}${rest.map((n) => ` ${n}`).join("")}`;
    });
  }
}
