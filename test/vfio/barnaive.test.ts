/**
 * Mappings of a BAR in two processes and a guest, compared with a naive list of VMAs: which page of the BAR stands where, which VMAs the
 * driver knows of, and what an access gives: the device's word, all ones where the function does not answer, SIGBUS, SIGSEGV, EFAULT.
 * Written from drivers/vfio/pci (v5.4, v5.8, v6.1, v6.8, v6.9, v6.12), mm/mmap.c do_munmap and mm/mremap.c move_vma.
 */
import fc from "fast-check";
import { describe, expect } from "vitest";
import { eraRow } from "../../src/eras.js";
import { Machine } from "../../src/machine.js";
import { MREMAP_FIXED, MREMAP_MAYMOVE } from "../../src/mmu/mremap.js";
import { mmapMode } from "../../src/mmu/mmap.js";
import { HOST_SIGBUS_ADRERR, HOST_SIGSEGV } from "../../src/mmu/useraccess.js";
import { MAP_FIXED, MAP_SHARED } from "../../src/mmu/vmflags.js";
import type { Activity } from "../../src/sim/agents.js";
import { EFAULT } from "../../src/sim/errno.js";
import { PCI_COMMAND } from "../../src/vfio/configspace.js";
import { accessGuest, guestCode, OUT, setCode } from "../kvm/guestaccess.js";
import { comparePrograms } from "../mmu/naivememory.js";
import { NIC } from "./harness.js";

const PAGE = 4096;
const AT = 0x7f0000000000;
const FIRST = AT / PAGE;
/** Pages of the window that programs map into, and of the BAR that they use. */
const PAGES = 1536;
const BAR_PAGES = 1024;
const BAR = 2;
const RAM = 0x4000_0000;
const ONES = 0xffffffff;

interface Vma {
  start: number;
  end: number;
  /** The page of the BAR at its start. */
  bar: number;
  /** Pages whose entries are there; where the driver maps a page or a block for each fault, those that may be. */
  present: Set<number>;
  /** On the driver's list (vma_list). */
  tracked: boolean;
}

const edge = fc.oneof({ weight: 3, arbitrary: fc.constantFrom(0, 1, 2, 511, 512, 513, 1024) }, { weight: 1, arbitrary: fc.nat(PAGES - 1) });
const pages = fc.oneof(
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 6 }) },
  { weight: 2, arbitrary: fc.constantFrom(256, 512, 513, 1024) },
);
const who = fc.nat(1);
const value = fc.integer({ min: 1, max: 9 });
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ op: fc.constant("map" as const), who, page: edge, pages, bar: fc.constantFrom(0, 0, 1, 512) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("unmap" as const), who, page: edge, pages }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("mremap" as const), who, page: edge, pages, to: edge }) },
  {
    weight: 12,
    arbitrary: fc.record({
      op: fc.constantFrom("load" as const, "store" as const, "guestLoad" as const, "guestStore" as const),
      who,
      page: edge,
      value,
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constantFrom("off" as const, "on" as const, "on" as const, "reset" as const, "d3" as const, "d0" as const, "d0" as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constantFrom("fork" as const, "exit" as const, "slot" as const) }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

class Program {
  private readonly m: Machine;
  private readonly row;
  private readonly device;
  private readonly vm;
  private readonly vcpu;
  /** Has the guest a way to the BAR that the kernel of this era goes only when it is touched? */
  private readonly guest: boolean;
  private readonly first: number;
  private readonly pm: number;
  private readonly processes = new Map<number, Vma[]>([[0, []]]);
  private readonly words = new Map<number, number>();
  private memory = true;
  private awake = true;
  private slot = true;

  constructor(kernel: string) {
    const m = (this.m = new Machine({ kernel, ram: 2 ** 27, devices: [NIC] }));
    this.row = eraRow(kernel);
    this.guest = !this.row.kvm.eagerDeviceMapping;
    const code = guestCode(m);
    this.device = m.vfio.open(NIC.bdf);
    this.device.configWrite(PCI_COMMAND, 2, 2);
    const fn = m.vfioPci.pci.functions[0]!;
    this.first = fn.bars[BAR]!.start / PAGE;
    this.pm = fn.pm;
    this.vm = m.createVm();
    setCode(this.vm, code);
    this.vcpu = this.vm.createVcpu();
    if (this.guest) this.setSlot(PAGES);
  }

  private setSlot(pages: number): void {
    const r = this.vm.setUserMemoryRegion({ slot: 1, flags: 0, guestPhysAddr: RAM, memorySize: pages * PAGE, userspaceAddr: AT });
    expect(r).toBe(0);
  }
  private run(act: Activity, ...args: number[]): number {
    const { agents } = this.m.sim;
    agents.start(0, act, ...args);
    expect(agents.runToEnd(0)).toBe(true);
    return agents.result(0);
  }
  private whose(n: number): [number, Vma[]] {
    const all = [...this.processes];
    return all[n % all.length]!;
  }

  private get whole(): boolean {
    return this.row.vfio.vfioPtes === "wholeVmaAtFault";
  }
  /** The function answers; the driver lets a fault map it. */
  private get answers(): boolean {
    return this.memory && this.awake;
  }
  private get faultable(): boolean {
    return this.memory && (this.awake || this.row.vfio.vfioPowerState === "untested");
  }

  /** __split_vma: the new piece is opened, which takes its entries away in some eras. */
  private split(vmas: Vma[], at: number, newPiece: "lower" | "upper"): void {
    const v = vmas.find((q) => q.start < at && at < q.end);
    if (v === undefined) return;
    const part = (start: number, end: number): Vma => ({
      start,
      end,
      bar: v.bar + start - v.start,
      present: new Set([...v.present].filter((p) => p >= start && p < end)),
      tracked: v.tracked,
    });
    const [lower, upper] = [part(v.start, at), part(at, v.end)];
    const fresh = newPiece === "lower" ? lower : upper;
    fresh.tracked = false;
    if (this.row.vfio.vfioOpenZaps) fresh.present.clear();
    vmas.splice(vmas.indexOf(v), 1, lower, upper);
  }

  private unmap(vmas: Vma[], start: number, end: number): void {
    this.split(vmas, start, this.row.mm.munmapStartCutNewPiece);
    this.split(vmas, end, this.row.mm.munmapEndCutNewPiece);
    for (let i = vmas.length; i-- > 0;) if (vmas[i]!.start >= start && vmas[i]!.end <= end) vmas.splice(i, 1);
  }

  /** An access to a page of a process. @returns the page of the BAR, or the signal */
  private touch(vmas: Vma[], page: number): number {
    const v = vmas.find((q) => q.start <= page && page < q.end);
    if (v === undefined) return HOST_SIGSEGV;
    if (!v.present.has(page)) {
      if (!this.faultable) return HOST_SIGBUS_ADRERR;
      // The block around it, where one fits; the list does not say which.
      const block = page - (page % 512);
      const [from, to] = this.whole ? [v.start, v.end] : [Math.max(v.start, block), Math.min(v.end, block + 512)];
      for (let p = from; p < to; p++) v.present.add(p);
      v.tracked = true;
    }
    return v.bar + page - v.start;
  }

  private word(bar: number): number {
    return this.answers ? (this.words.get(bar) ?? 0) : ONES;
  }
  private put(bar: number, value: number): void {
    if (this.answers) this.words.set(bar, value);
  }

  private zapAll(): void {
    if (this.row.vfio.vfioMemoryLock === "none") return;
    for (const vmas of this.processes.values())
      for (const v of vmas) {
        if (this.whole && !v.tracked) continue;
        v.present.clear();
        v.tracked = false;
      }
  }

  do(s: Step): void {
    const { m, device } = this;
    switch (s.op) {
      case "off":
      case "on":
        device.configWrite(PCI_COMMAND, 2, s.op === "on" ? 2 : 0);
        this.memory = s.op === "on";
        if (!this.memory) this.zapAll();
        return;
      case "d3":
      case "d0":
        device.configWrite(this.pm + 4, 2, s.op === "d3" ? 3 : 0);
        this.awake = s.op === "d0";
        if (!this.awake && this.row.vfio.vfioPowerState === "tested") this.zapAll();
        return;
      case "reset":
        this.zapAll();
        expect(device.reset()).toBe(0);
        this.awake = true;
        return;
      case "slot":
        if (!this.guest) return;
        this.slot = !this.slot;
        return this.setSlot(this.slot ? PAGES : 0);
      case "fork": {
        if (this.processes.size > 1) return;
        const child = this.run(m.mm.syscalls.fork, 0);
        const zapped = this.row.vfio.vfioOpenZaps && this.row.mm.forkOpen === "afterCopy";
        const copy = this.processes.get(0)!.map((v) => ({ ...v, present: new Set(zapped ? [] : v.present), tracked: false }));
        this.processes.set(child, copy);
        return;
      }
      case "exit": {
        const child = [...this.processes.keys()][1];
        if (child === undefined) return;
        this.run(m.mm.syscalls.exitMm, child);
        this.processes.delete(child);
        return;
      }
      default:
        return this.at(s);
    }
  }

  private at(s: Extract<Step, { who: number }>): void {
    const { m } = this;
    const guest = s.op === "guestLoad" || s.op === "guestStore";
    const [mm, vmas] = guest ? [0, this.processes.get(0)!] : this.whose(s.who);
    const addr = AT + s.page * PAGE;
    switch (s.op) {
      case "map": {
        const n = Math.min(s.pages, PAGES - s.page, BAR_PAGES - s.bar);
        const offset = m.vfioPci.regionOffset(BAR, s.bar * PAGE);
        const r = this.run(m.mm.syscalls.mmap, mm, addr, n * PAGE, mmapMode(3, MAP_SHARED | MAP_FIXED), this.device.fd, offset);
        expect(r).toBe(addr);
        this.unmap(vmas, s.page, s.page + n);
        const v: Vma = { start: s.page, end: s.page + n, bar: s.bar, present: new Set(), tracked: false };
        if (this.row.vfio.vfioPtes === "atMmap") for (let p = v.start; p < v.end; p++) v.present.add(p);
        vmas.push(v);
        return;
      }
      case "unmap":
        expect(this.run(m.mm.syscalls.munmap, mm, addr, s.pages * PAGE)).toBe(0);
        return this.unmap(vmas, s.page, s.page + s.pages);
      case "mremap":
        return this.mremap(mm, vmas, s.page, s.pages, s.to);
      case "load":
      case "store": {
        const bar = this.touch(vmas, s.page);
        const r = this.run(m.mm.hostAccess, mm, addr + 8, 4, s.op === "store" ? 1 : 0, s.value, 0);
        expect(r).toBe(Math.min(0, bar));
        if (bar < 0) return;
        if (s.op === "store") this.put(bar, s.value);
        else expect(m.sim.agents.result(0, 1) >>> 0).toBe(this.word(bar));
        return;
      }
      default:
        if (this.guest && !this.reachesBeyond(vmas, s.page)) this.guestAccess(vmas, s.page, s.op === "guestStore", s.value);
    }
  }

  /** What scenarios/2026-pfnmap-block-beyond-vma is about: the first page of a block that the VMA does not hold whole. */
  private reachesBeyond(vmas: Vma[], page: number): boolean {
    if (this.row.kvm.pfnmapBlockSize !== "vma-arithmetic" || page % 512 !== 0) return false;
    return vmas.some((v) => v.start <= page && page < v.end && v.end < page + 512);
  }

  private guestAccess(vmas: Vma[], page: number, store: boolean, value: number): void {
    const { vcpu } = this;
    const { ret, exit } = accessGuest(vcpu, RAM + page * PAGE + 8, store, value);
    if (!this.slot) return expect([ret, exit.reason === "MMIO" ? exit.physAddr : 0]).toEqual([0, RAM + page * PAGE + 8]);
    const bar = this.touch(vmas, page);
    expect([ret, exit.reason === "MMIO" ? exit.physAddr : 0]).toEqual(bar < 0 ? [-EFAULT, 0] : [0, OUT]);
    if (bar < 0) return;
    if (store) this.put(bar, value);
    else expect(Number(vcpu.get("x1")), "the guest's load").toBe(this.word(bar));
  }

  /** Whole or part of one VMA; the new VMA is opened before the entries come to it. */
  private mremap(mm: number, vmas: Vma[], page: number, pages: number, to: number): void {
    const v = vmas.find((q) => q.start <= page && page < q.end);
    if (v === undefined) return;
    const n = Math.min(pages, v.end - page, PAGES - to);
    if (page + n > to && to + n > page) return;
    const size = n * PAGE;
    const r = this.run(this.m.mm.syscalls.mremap, mm, AT + page * PAGE, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, AT + to * PAGE);
    expect(r).toBe(AT + to * PAGE);
    this.unmap(vmas, to, to + n);
    const old = vmas.find((q) => q.start <= page && page < q.end)!;
    const moved: Vma = { start: to, end: to + n, bar: old.bar + page - old.start, present: new Set(), tracked: false };
    for (let i = 0; i < n; i++) if (old.present.delete(page + i)) moved.present.add(to + i);
    this.unmap(vmas, page, page + n);
    vmas.push(moved);
  }

  wrong(): string | undefined {
    const { sim, mm, vfioPci } = this.m;
    if (sim.crashed !== undefined) return "the host crashed";
    for (const lock of [vfioPci.devices.memoryLock[0]!, vfioPci.devices.vmaLock[0]!, mm.mmapLock(0)])
      if (sim.locks.isHeld(lock)) return "a lock is held";
    const exact = this.row.vfio.vfioPtes !== "perFault";
    for (const [id, vmas] of this.processes)
      for (let p = 0; p < PAGES; p++) {
        const v = vmas.find((q) => q.start <= p && p < q.end);
        const there = mm.pt.walk(id, (FIRST + p) * PAGE);
        const may = v?.present.has(p) === true;
        if (there ? !may : may && exact) return `mm ${id} page ${p}: ${there ? "an entry" : "no entry"}`;
        if (there && mm.pt.leafPfn !== this.first + v!.bar + p - v!.start) return `mm ${id} page ${p}: another page of the BAR`;
      }
    return this.stage2();
  }

  /** Stage 2 maps what VMAs of the VMM have; of a function that nobody may reach, what the driver has lost sight of alone. */
  private stage2(): string | undefined {
    const vmas = this.processes.get(0)!;
    for (const l of this.vm.stage2Leaves()) {
      if (l.ipa < RAM) continue;
      for (let i = 0; i < l.size / PAGE; i++) {
        const p = (l.ipa - RAM) / PAGE + i;
        const v = vmas.find((q) => q.start <= p && p < q.end);
        if (v === undefined || !this.slot) return `stage 2 maps page ${p}, which is not mapped`;
        if (l.pa / PAGE + i !== this.first + v.bar + p - v.start) return `stage 2 has another page of the BAR at ${p}`;
        if (!this.faultable && !v.present.has(p)) return `stage 2 still has page ${p}`;
      }
    }
    return undefined;
  }
}

describe("random mappings of a BAR, its function on and off: what is mapped and what accesses give is what a naive list has", () => {
  comparePrograms(
    ["v5.4", "v5.8", "v5.14", "v6.1", "v6.8", "v6.9", "v6.12.117", "v7.2.12"],
    step,
    { longest: 40, runs: 2 },
    (era) => new Program(era),
  );
});
