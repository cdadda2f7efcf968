/**
 * The page-fault handlers of a BAR VMA (vfio_pci_core.c vfio_pci_mmap_fault, vfio_pci_mmap_huge_fault). The caller
 * holds the mmap_lock for reading. Whether the access writes does not matter: entries get the VMA's permissions.
 */
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import { EBUSY } from "../sim/errno.js";
import { VM_FAULT_FALLBACK, VM_FAULT_NOPAGE, VM_FAULT_OOM, VM_FAULT_SIGBUS } from "../mmu/vmfault.js";
import { PAGE_SIZE, REGION_PAGES, type VfioDevices } from "./device.js";
import { vfioFault, vfioHugeFault } from "./trace.js";
import type { VmaList } from "./vmalist.js";

const MM = ARG;
const VMA = ARG + 1;
const ADDR = ARG + 2;
const ORDER = ARG + 3;

/** log2 pages of a PMD block, 4 KiB granule. */
const PMD_ORDER = 9;
const PMD_SIZE = 2097152;
/** The answer of `insert` when memory_lock or the lock of the table is taken. */
const WAIT = -1;
/** The answer of `mapWhole` when an entry is there already. */
const NOT_EMPTY = -2;
const NOT_EMPTY_REASON = "BUG: a page-table entry is not empty";

export class VfioFault {
  /** vm_ops->fault: (mm, vma, addr, write) -> VM_FAULT_*. */
  readonly fault: Activity;
  /** The same in one step, in eras that map one page for each fault. @returns VM_FAULT_*, or WAIT: nothing has happened */
  readonly faultNow: ((mm: number, vma: number, addr: number) => number) | undefined;
  /** vm_ops->huge_fault: (mm, vma, addr, order) -> VM_FAULT_*; undefined in eras without it. */
  readonly hugeFault: Activity | undefined;

  constructor(
    private readonly v: VfioDevices,
    private readonly list: VmaList,
  ) {
    const { agents } = v.sim;
    const source = "drivers/vfio/pci/vfio_pci_core.c";
    if (v.d.vfioPtes === "perFault") {
      this.fault = agents.activity("vfioPciMmapPageFault", `${source} vfio_pci_mmap_page_fault`, 4, [["insert", (f) => this.pageFault(f)]]);
      this.faultNow = this.pageFaultNow;
    } else {
      this.faultNow = undefined;
      this.fault = agents.activity("vfioPciMmapFault", `${source} vfio_pci_mmap_fault`, 4, [
        ["vmaLock", (f) => this.lockVmaList(f)],
        ["memoryLock", (f) => this.mapTracked(f)],
        ["remap", (f) => this.mapUntested(f)],
      ]);
    }
    this.hugeFault =
      v.d.vfioHugeFault === "none"
        ? undefined
        : agents.activity("vfioPciMmapHugeFault", `${source} vfio_pci_mmap_huge_fault`, 4, [["insert", (f) => this.huge(f)]]);
  }

  // The whole VMA at the first fault (v5.8 to v6.9).

  private lockVmaList(f: number): number {
    const dev = this.v.ofVma(this.v.sim.agents.stack.a[f + VMA]! | 0);
    if (!this.v.sim.locks.write(this.v.vmaLock[dev]!)) return BLOCKED;
    return this.fault.first + 1;
  }

  private mapTracked(f: number): number {
    const { sim, d } = this.v;
    const { locks } = sim;
    const vma = sim.agents.stack.a[f + VMA]! | 0;
    const dev = this.v.ofVma(vma);
    const mm = sim.agents.stack.a[f + MM]! | 0;
    if (this.v.mm.zap.contended(mm, this.v.mm.vmas.start(vma), this.v.mm.vmas.end(vma))) return BLOCKED;
    if (!locks.read(this.v.memoryLock[dev]!)) return BLOCKED;
    let ret = VM_FAULT_SIGBUS;
    if (this.v.faultable(dev)) {
      if (d.vfioTrackedFault === "mapsAgain") {
        this.list.add(dev, mm, vma);
        locks.unlockWrite(this.v.vmaLock[dev]!);
        return this.fault.first + 2;
      }
      ret = this.list.contains(dev, vma) ? VM_FAULT_NOPAGE : this.mapWhole(dev, mm, vma);
    }
    if (ret === NOT_EMPTY) return sim.crash("remap_pte_range", NOT_EMPTY_REASON);
    locks.unlockRead(this.v.memoryLock[dev]!);
    locks.unlockWrite(this.v.vmaLock[dev]!);
    return this.done(f, dev, ret);
  }

  private mapWhole(dev: number, mm: number, vma: number): number {
    const { vmas, zap } = this.v.mm;
    const start = vmas.start(vma);
    if (zap.remapPfnRange(mm, vma, start, vmas.pgoff(vma), vmas.end(vma) - start) === -EBUSY) return NOT_EMPTY;
    this.list.add(dev, mm, vma);
    return VM_FAULT_NOPAGE;
  }

  /** v5.8: the VMA is on the list and vma_lock is dropped before the range is filled: two faults can both come here. */
  private mapUntested(f: number): number {
    const { sim, mm } = this.v;
    const vma = sim.agents.stack.a[f + VMA]! | 0;
    const dev = this.v.ofVma(vma);
    const space = sim.agents.stack.a[f + MM]! | 0;
    const start = mm.vmas.start(vma);
    if (mm.zap.contended(space, start, mm.vmas.end(vma))) return BLOCKED;
    const err = mm.zap.remapPfnRange(space, vma, start, mm.vmas.pgoff(vma), mm.vmas.end(vma) - start);
    if (err === -EBUSY) return sim.crash("remap_pte_range", NOT_EMPTY_REASON);
    sim.locks.unlockRead(this.v.memoryLock[dev]!);
    return this.done(f, dev, err < 0 ? VM_FAULT_OOM : VM_FAULT_NOPAGE);
  }

  private done(f: number, dev: number, ret: number): number {
    const { agents } = this.v.sim;
    this.tell(dev, ret, agents.stack.a[f + ADDR]!);
    return agents.ret(f, ret);
  }
  private tell(dev: number, ret: number, addr: number): void {
    const { bus } = this.v.sim;
    if (!bus.unheard()) bus.emit(vfioFault, ret, this.v.d.vfioPtes === "perFault" ? 1 : 0, this.v.function(dev).name, addr);
  }

  // One page or block for each fault (v6.12 and later).

  /** vfio_pci_mmap_page_fault: the huge handler with order 0. */
  private pageFault(f: number): number {
    const a = this.v.sim.agents.stack.a;
    const vma = a[f + VMA]! | 0;
    const dev = this.v.ofVma(vma);
    const ret = this.insert(dev, a[f + MM]! | 0, vma, a[f + ADDR]!, 0);
    return ret === WAIT ? BLOCKED : this.done(f, dev, ret);
  }

  private readonly pageFaultNow = (mm: number, vma: number, addr: number): number => {
    const dev = this.v.ofVma(vma);
    // Only the activity tells that it waits for a lock.
    if (this.v.sim.locks.heldByWriter(this.v.memoryLock[dev]!)) return WAIT;
    const ret = this.insert(dev, mm, vma, addr, 0);
    if (ret !== WAIT) this.tell(dev, ret, addr);
    return ret;
  };

  private huge(f: number): number {
    const { agents } = this.v.sim;
    const a = agents.stack.a;
    const vma = a[f + VMA]! | 0;
    const ret = this.insert(this.v.ofVma(vma), a[f + MM]! | 0, vma, a[f + ADDR]!, a[f + ORDER]!);
    return ret === WAIT ? BLOCKED : agents.ret(f, ret);
  }

  /** vfio_pci_mmap_huge_fault. @returns VM_FAULT_*, or WAIT while a writer holds memory_lock, or somebody the table's lock */
  private insert(dev: number, mm: number, vma: number, address: number, order: number): number {
    const { sim, d } = this.v;
    const { vmas } = this.v.mm;
    const pages = order === 0 ? 1 : 2 ** order;
    const size = pages * PAGE_SIZE;
    const page = address - (address & (PAGE_SIZE - 1));
    const head = order === 0 ? page : Math.floor(address * (order === PMD_ORDER ? 1 / PMD_SIZE : 1 / size)) * size;
    const addr = d.vfioHugeFault === "alignedDown" ? head : page;
    const pfn = this.firstPfn(dev, vma) + (addr - vmas.start(vma)) / PAGE_SIZE;
    const beyond = pfn & (pages - 1);
    let ret = VM_FAULT_SIGBUS;
    if (order > 0 && !this.blockFits(vma, addr, head, size, beyond)) ret = VM_FAULT_FALLBACK;
    else {
      if (this.v.mm.zap.contended(mm, addr, addr + 1) || !sim.locks.read(this.v.memoryLock[dev]!)) return WAIT;
      if (this.v.faultable(dev)) {
        if (order === 0) ret = this.v.mm.zap.vmfInsertPfn(mm, vma, addr, pfn);
        // A pfn that is not aligned loses its low bits in the descriptor.
        else if (order === PMD_ORDER) ret = this.v.mm.zap.vmfInsertPfnPmd(mm, vma, addr, pfn - beyond);
        else ret = VM_FAULT_FALLBACK;
      }
      sim.locks.unlockRead(this.v.memoryLock[dev]!);
    }
    if (!sim.bus.unheard()) sim.bus.emit(vfioHugeFault, ret, this.v.function(dev).name, address, order);
    return ret;
  }

  /** May the block be mapped by one entry? Asked in the terms of the era. */
  private blockFits(vma: number, addr: number, head: number, size: number, pfnOffset: number): boolean {
    const { vmas } = this.v.mm;
    if (addr + size > vmas.end(vma)) return false;
    switch (this.v.d.vfioHugeFault) {
      case "faultAddressOnly":
        return addr === head;
      case "faultAddressAndPfn":
        return addr === head && pfnOffset === 0;
      default:
        return head >= vmas.start(vma) && pfnOffset === 0;
    }
  }

  /** vma_to_pfn: the pfn of the VMA's first page. */
  private firstPfn(dev: number, vma: number): number {
    const pgoff = this.v.mm.vmas.pgoff(vma);
    if (this.v.d.vfioPgoff === "pfn") return pgoff;
    const bar = this.v.function(dev).bars[(pgoff / REGION_PAGES) | 0]!;
    return Math.floor(bar.start / PAGE_SIZE) + (pgoff & (REGION_PAGES - 1));
  }
}
