/** A host without guests for the tests of src/mmu: real frames, tables, VMAs and notifiers; a CPU whose TLB is a small map. */
import { PhysicalMemory } from "../../src/arch/phys.js";
import { TablePages } from "../../src/arch/tables.js";
import { ARG, type Activity } from "../../src/sim/agents.js";
import { Sim } from "../../src/sim/sim.js";
import type { EventRecord } from "../../src/sim/events.js";
import { eraRow } from "../../src/eras.js";
import type { MmRow } from "../../src/mmu/decisions.js";
import { mmapMode } from "../../src/mmu/mmap.js";
import { HostMm, type HostMmOptions } from "../../src/mmu/mm.js";
import type { HostPe } from "../../src/mmu/hosttlb.js";
import { PTE_RDONLY } from "../../src/mmu/pte.js";
import { PAGE_PROT_NONCACHED, VM_DONTDUMP, VM_DONTEXPAND, VM_IO, VM_PFNMAP } from "../../src/mmu/vmflags.js";

export interface HostTranslation {
  readonly mm: number;
  readonly page: number;
  readonly pfn: number;
  readonly writable: boolean;
}

/** A CPU whose TLB remembers every translation until it is told to forget it: it makes a missing flush visible. */
export abstract class HostTlb implements HostPe {
  /** By `mm:page`. */
  readonly cached = new Map<string, HostTranslation>();
  host!: HostMm;
  phys!: PhysicalMemory;

  hostLoad(pa: number, size: number): number {
    this.phys.read(pa, size);
    return 0;
  }
  hostStore(pa: number, size: number, lo: number, hi: number): void {
    this.phys.write(pa, size, lo, hi);
  }
  hostLookup(_root: number, mm: number, hva: number, write: boolean): number {
    const page = Math.floor(hva / 4096);
    const hit = this.cached.get(`${mm}:${page}`);
    if (hit !== undefined && (!write || hit.writable)) return hit.pfn * 4096 + (hva % 4096);
    const { pt } = this.host;
    if (!pt.walk(mm, hva) || !pt.valid || (pt.lo & (1 << 6)) === 0 || !pt.young) return -1;
    const writable = (pt.lo & PTE_RDONLY) === 0;
    if (write && !writable) return -1;
    this.cached.set(`${mm}:${page}`, { mm, page, pfn: pt.leafPfn, writable });
    return pt.leafPfn * 4096 + (hva % 4096);
  }
  dma(): void {}
  lineOp(): void {}
  dsb(): void {}
  abstract tlbi(v: number, op: number, hi: number, lo: number): void;
}

/** Each TLBI makes it forget all. */
class MapTlb extends HostTlb {
  tlbi(): void {
    this.cached.clear();
  }
}

export class Bench {
  readonly sim = new Sim();
  readonly phys: PhysicalMemory;
  readonly tables: TablePages;
  readonly mm: HostMm;
  readonly vmm: number;
  /** S and E of every range, change_pte: as text. */
  readonly notes: string[] = [];

  constructor(
    era = "v6.12",
    options: HostMmOptions = {},
    set: Partial<Record<keyof MmRow, unknown>> = {},
    ram = 256 * 1048576,
    readonly pe: HostTlb = new MapTlb(),
  ) {
    this.phys = this.pe.phys = new PhysicalMemory(this.sim, { ramBase: 0x40000000, ramSize: ram });
    this.tables = new TablePages(this.sim, this.phys, { base: 0x4000000000, size: 0x10000000 });
    this.vmm = this.sim.agents.add("vmm", "vmm", 0);
    this.mm = new HostMm(
      this.sim,
      this.phys,
      this.tables,
      this.pe,
      { tlbiRange: true, mte: false, hafdbs: true },
      { ...eraRow(era).mm, ...set } as MmRow,
      options,
    );
    this.pe.host = this.mm;
    this.subscribe();
  }

  private subscribe(): void {
    const { agents } = this.sim;
    const note = (kind: string, from: number) => (f: number) => {
      const a = agents.stack.a;
      const hex = (n: number) => n.toString(16);
      this.notes.push(kind === "P" ? `P ${hex(a[f + from]!)}` : `${kind} ${hex(a[f + from]!)}-${hex(a[f + from + 1]!)}`);
      return agents.ret(f, 0);
    };
    const act = (name: string, kind: string) => agents.activity(name, "test", 6, [["note", note(kind, ARG + 1)]]);
    this.mm.notifiers.register(0, { rangeStart: act("testStart", "S"), rangeEnd: act("testEnd", "E"), changePte: act("testPte", "P") });
  }

  run(act: Activity, ...args: number[]): number {
    this.sim.agents.start(this.vmm, act, ...args);
    if (!this.sim.agents.runToEnd(this.vmm)) throw new Error(`blocked: ${this.sim.agents.backtrace(this.vmm).join(" < ")}`);
    return this.sim.agents.result(this.vmm);
  }
  result(word: number): number {
    return this.sim.agents.result(this.vmm, word);
  }

  /** mmap with the system call's PROT_ and MAP_ words. */
  map(addr: number, length: number, prot: number, flags: number, file = -1, offset = 0): number {
    return this.run(this.mm.syscalls.mmap, 0, addr, length, mmapMode(prot, flags), file, offset);
  }
  read(hva: number, size = 8): number {
    return this.run(this.mm.hostAccess, 0, hva, size, 0, 0, 0);
  }
  write(hva: number, lo: number, size = 8): number {
    return this.run(this.mm.hostAccess, 0, hva, size, 1, lo, 0);
  }
  gup(hva: number, flags: number): number {
    return this.run(this.mm.gup.getUserPagesUnlocked, 0, hva, flags);
  }
  /** A driver's mmap of PFNMAP memory: the marks of vfio-pci's. @param after given the VMA */
  driverMmap(after: (v: number) => void = () => {}): Activity {
    const { agents } = this.sim;
    const { vmas } = this.mm;
    return agents.activity("devMmap", "test", 2, [
      [
        "mmap",
        (f) => {
          const v = agents.stack.a[f + ARG + 1]!;
          vmas.setFlags(v, vmas.flags(v) | VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
          vmas.setPageProt(v, PAGE_PROT_NONCACHED);
          after(v);
          return agents.ret(f, 0);
        },
      ],
    ]);
  }
  /** What the notifiers were told since the last call. */
  told(): string[] {
    return this.notes.splice(0);
  }
  events(name: string): EventRecord[] {
    const out: EventRecord[] = [];
    this.sim.bus.on(name, (r) => out.push(r));
    return out;
  }

  /** Every leaf of an address space: address, level, pfn, "rwx" letters with s (special) and n (PROT_NONE). */
  leaves(mm = 0): string[] {
    const { pt, vmas } = this.mm;
    const out: string[] = [];
    for (let v = vmas.first(mm); v >= 0; v = vmas.next(v)) {
      for (let a = vmas.start(v); a < vmas.end(v);) {
        const present = pt.walk(mm, a);
        const size = [2 ** 39, 2 ** 30, 2 ** 21, 4096][pt.level]!;
        if (present) out.push(`${a.toString(16)} ${pt.leafLevel} ${pt.writable ? "w" : "r"}${pt.special ? "s" : ""}${pt.valid ? "" : "n"}`);
        a = Math.floor(a / size) * size + size;
      }
    }
    return out;
  }
}
