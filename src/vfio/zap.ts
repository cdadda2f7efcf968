/**
 * Taking a device's BAR mappings away and keeping accesses off (vfio_pci_core.c
 * vfio_pci_zap_and_down_write_memory_lock and below).
 *
 * v5.8 to v6.9: the mmap_lock is outermost, so each tracked VMA is zapped first, under its mmap_lock, until the list
 * is empty, and memory_lock is taken with vma_lock still held. v6.10 and later: memory_lock first, then
 * everything that maps the file, through its list of mappings.
 */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { BAR0_REGION, REGION_SPAN, ROM_REGION, type VfioDevices } from "./device.js";
import { vfioZap, vfioZapVma } from "./trace.js";
import type { DmaBufs } from "./dmabuf.js";
import type { VmaList } from "./vmalist.js";

const DEV = ARG;
const TRY = ARG + 1;
/** Local: the address space whose VMAs are being zapped. */
const MM = ARG + 2;

const ZAP_AND_DOWN_WRITE = 0;
const ZAP_AND_VMA_LOCK = 1;

export class VfioZap {
  /** (dev, try 0|1) -> R0 1 with memory_lock held for writing, 0 if `try` met a taken lock. */
  readonly zapAndLock: Activity;

  constructor(
    private readonly v: VfioDevices,
    private readonly list: VmaList,
    private readonly dmabufs: DmaBufs,
  ) {
    const { agents } = v.sim;
    const source = "drivers/vfio/pci/vfio_pci_core.c vfio_pci_zap_and_down_write_memory_lock";
    switch (v.d.vfioMemoryLock) {
      case "none":
        this.zapAndLock = agents.activity("noMemoryLock", source, 3, [["nothing", (f) => agents.ret(f, 1)]]);
        break;
      case "zapThenLock":
        this.zapAndLock = agents.activity("vfioPciZapAndDownWriteMemoryLock", source, 3, [
          ["enter", (f) => this.enterTracked(f)],
          ["vmaLock", (f) => this.takeVmaLock(f)],
          ["mmapLock", (f) => this.takeMmapLock(f)],
          ["vmaLockAgain", (f) => this.retakeVmaLock(f)],
          ["zapNext", (f) => this.zapNext(f)],
          ["memoryLock", (f) => this.takeMemoryLock(f)],
          ["moved", (f) => agents.ret(f, 1)],
        ]);
        break;
      case "lockThenZap":
        this.zapAndLock = agents.activity("vfioPciZapAndDownWriteMemoryLock", source, 3, [
          ["enter", (f) => this.enter(f)],
          ["memoryLock", (f) => this.lockFirst(f)],
          ["zapBars", (f) => this.move(f, 3)],
          ["moved", (f) => agents.ret(f, 1)],
        ]);
    }
  }

  /** down_write(memory_lock) alone. @returns false: BLOCKED */
  downWrite(dev: number): boolean {
    return this.v.d.vfioMemoryLock === "none" || this.v.sim.locks.write(this.v.memoryLock[dev]!);
  }
  upWrite(dev: number): void {
    this.dmabufs.settle(dev);
    if (this.v.d.vfioMemoryLock !== "none") this.v.sim.locks.unlockWrite(this.v.memoryLock[dev]!);
  }

  private announce(f: number, which: number): void {
    this.v.sim.bus.emit(vfioZap, this.v.function(this.v.sim.agents.stack.a[f + DEV]!).name, which);
  }

  // v6.10 and later.

  private enter(f: number): number {
    this.announce(f, ZAP_AND_DOWN_WRITE);
    return this.zapAndLock.first + 1;
  }

  private lockFirst(f: number): number {
    const { agents, locks } = this.v.sim;
    const dev = agents.stack.a[f + DEV]!;
    const trying = agents.stack.a[f + TRY] !== 0;
    const lock = this.v.memoryLock[dev]!;
    if (!(trying ? locks.tryWrite(lock) : locks.write(lock))) return trying ? agents.ret(f, 0) : BLOCKED;
    const file = this.v.file(dev);
    if (file < 0) return agents.ret(f, 1);
    const { unmapMappingRange } = this.v.mm;
    return agents.call(f, this.zapAndLock.first + 2, unmapMappingRange, file, BAR0_REGION * REGION_SPAN, ROM_REGION * REGION_SPAN, 1);
  }

  // v5.8 to v6.9.

  private enterTracked(f: number): number {
    this.announce(f, ZAP_AND_DOWN_WRITE);
    this.announce(f, ZAP_AND_VMA_LOCK);
    return this.zapAndLock.first + 1;
  }

  private takeVmaLock(f: number): number {
    const { agents, locks } = this.v.sim;
    const dev = agents.stack.a[f + DEV]!;
    const trying = agents.stack.a[f + TRY] !== 0;
    const lock = this.v.vmaLock[dev]!;
    if (!(trying ? locks.tryWrite(lock) : locks.write(lock))) return trying ? agents.ret(f, 0) : BLOCKED;
    locks.assertHeld(lock);
    const node = this.list.first(dev);
    if (node < 0) return this.zapAndLock.first + 5;
    agents.stack.set(f + MM, this.list.mm(node));
    locks.unlockWrite(this.v.vmaLock[dev]!);
    return this.zapAndLock.first + 2;
  }

  private takeMmapLock(f: number): number {
    const { agents, locks } = this.v.sim;
    if (!locks.read(this.v.mm.mmapLock(agents.stack.a[f + MM]!))) return agents.stack.a[f + TRY] !== 0 ? agents.ret(f, 0) : BLOCKED;
    return this.zapAndLock.first + 3;
  }

  private retakeVmaLock(f: number): number {
    const { agents, locks } = this.v.sim;
    const a = agents.stack.a;
    const lock = this.v.vmaLock[a[f + DEV]!]!;
    if (a[f + TRY] === 0) return locks.write(lock) ? this.zapAndLock.first + 4 : BLOCKED;
    if (locks.tryWrite(lock)) return this.zapAndLock.first + 4;
    locks.unlockRead(this.v.mm.mmapLock(a[f + MM]!));
    return agents.ret(f, 0);
  }

  private zapNext(f: number): number {
    const { agents, locks, bus } = this.v.sim;
    const dev = agents.stack.a[f + DEV]!;
    const mm = agents.stack.a[f + MM]!;
    const node = this.list.firstOf(dev, mm);
    if (node < 0) {
      locks.unlockWrite(this.v.vmaLock[dev]!);
      locks.unlockRead(this.v.mm.mmapLock(mm));
      return this.zapAndLock.first + 1;
    }
    const vma = this.list.vma(node);
    this.list.remove(dev, vma);
    const start = this.v.mm.vmas.start(vma);
    const end = this.v.mm.vmas.end(vma);
    bus.emit(vfioZapVma, this.v.function(dev).name, start, end);
    return agents.call(f, this.zapAndLock.first + 4, this.v.mm.zapVmaPtes, mm, start, end);
  }

  private takeMemoryLock(f: number): number {
    const { agents, locks } = this.v.sim;
    const dev = agents.stack.a[f + DEV]!;
    const trying = agents.stack.a[f + TRY] !== 0;
    const lock = this.v.memoryLock[dev]!;
    const got = trying ? locks.tryWrite(lock) : locks.write(lock);
    if (!got && !trying) return BLOCKED;
    locks.unlockWrite(this.v.vmaLock[dev]!);
    if (!got) return agents.ret(f, 0);
    return this.move(f, 6);
  }

  /** Importers of what was exported without a mapping let go too. @param then the phase after */
  private move(f: number, then: number): number {
    const { agents } = this.v.sim;
    const dev = agents.stack.a[f + DEV]!;
    if (!this.dmabufs.any(dev)) return agents.ret(f, 1);
    return agents.call(f, this.zapAndLock.first + then, this.dmabufs.moveNotify, dev, 0);
  }
}

/** True if the zap that a phase called got its lock. */
export function zapped(v: VfioDevices, f: number): boolean {
  return v.sim.agents.stack.a[f + R0] === 1;
}
