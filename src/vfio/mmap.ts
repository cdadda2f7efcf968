/**
 * mmap of a device region (vfio_pci_core.c vfio_pci_core_mmap) and the callbacks with which the mm tells that VMAs
 * of the device come and go. The caller of each holds the mmap_lock for writing.
 */
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import { EBUSY, EINVAL } from "../sim/errno.js";
import {
  PAGE_PROT_DEVICE,
  PAGE_PROT_NONCACHED,
  PAGE_PROT_WRITECOMBINE,
  VM_ALLOW_ANY_UNCACHED,
  VM_DONTDUMP,
  VM_DONTEXPAND,
  VM_FORCE_CACHED,
  VM_IO,
  VM_PFNMAP,
  VM_SHARED,
  VM_UFFD_WP,
} from "../mmu/vmflags.js";
import { NUM_REGIONS, PAGE_SIZE, REGION_PAGES, ROM_REGION, type VfioDevices } from "./device.js";
import type { MmapTypes } from "./mmaptypes.js";
import type { Bar } from "./pci.js";
import { vfioMmap } from "./trace.js";
import type { VmaList } from "./vmalist.js";

const MM = ARG;
const VMA = ARG + 1;

export class VfioMmap {
  /** f_op->mmap: (mm, vma) -> 0 | -errno. */
  readonly mmap: Activity;
  /** vm_ops->open: (mm, vma). */
  readonly open: Activity;
  /** vm_ops->close: (mm, vma). */
  readonly close: Activity;

  constructor(
    private readonly v: VfioDevices,
    private readonly list: VmaList,
    private readonly types: MmapTypes,
    /** (dev): what happens when the last reference is gone. */
    private readonly release: Activity,
  ) {
    const { agents } = v.sim;
    const source = "drivers/vfio/pci/vfio_pci_core.c";
    this.mmap = agents.activity("vfioPciCoreMmap", `${source} vfio_pci_core_mmap`, 2, [["mmap", (f) => this.coreMmap(f)]]);
    this.open = agents.activity("vfioPciMmapOpen", `${source} vfio_pci_mmap_open`, 2, [
      ["zap", (f) => this.mmapOpen(f)],
      ["zapped", (f) => agents.ret(f)],
    ]);
    this.close = agents.activity("vfioPciMmapClose", `${source} vfio_pci_mmap_close`, 2, [
      ["untrack", (f) => this.mmapClose(f)],
      ["released", (f) => agents.ret(f)],
    ]);
  }

  private coreMmap(f: number): number {
    const { sim, mm } = this.v;
    const vma = sim.agents.stack.a[f + VMA]!;
    const pgoff = mm.vmas.pgoff(vma);
    const dev = this.v.ofVma(vma);
    const atOnce = this.v.d.vfioPtes === "atMmap" || this.v.d.vfioCoherentMemory === "cacheable";
    if (atOnce && mm.zap.contended(sim.agents.stack.a[f + MM]!, mm.vmas.start(vma), mm.vmas.end(vma))) return BLOCKED;
    const ret = this.checkAndMap(dev, sim.agents.stack.a[f + MM]!, vma, pgoff);
    if (ret === 0) this.v.ref(dev, 1);
    sim.bus.emit(
      vfioMmap,
      ret,
      this.v.d.vfioModule === "vfio_pci" ? 0 : 1,
      this.v.function(dev).name,
      mm.vmas.start(vma),
      mm.vmas.end(vma),
      pgoff,
    );
    return sim.agents.ret(f, ret);
  }

  /** The tests in the source's order, then the VMA as the era makes it. */
  private checkAndMap(dev: number, mm: number, vma: number, pgoff: number): number {
    const { v } = this;
    const { vmas } = v.mm;
    const index = Math.floor(pgoff / REGION_PAGES);
    if (v.d.vfioRegionLookup === "indexTestedFirst" && index >= NUM_REGIONS) return -EINVAL;
    if (vmas.end(vma) < vmas.start(vma)) return -EINVAL;
    const region = v.function(dev).bars[index];
    if (region?.spec.coherent === true && v.d.vfioCoherentMemory === "cacheable")
      return this.nvgraceMap(mm, vma, region, pgoff % REGION_PAGES);
    if ((vmas.flags(vma) & VM_SHARED) === 0) return -EINVAL;
    if (index >= ROM_REGION) return -EINVAL;
    const bar = v.function(dev).bars[index];
    if (bar === undefined || !v.mappable(dev, bar)) return -EINVAL;
    const length = v.d.vfioMmapLength === "exact" ? bar.size : Math.ceil(bar.size / PAGE_SIZE) * PAGE_SIZE;
    const first = pgoff % REGION_PAGES;
    const request = vmas.end(vma) - vmas.start(vma);
    if (first * PAGE_SIZE + request > length) return -EINVAL;
    const msixEnd = v.d.vfioMsixMmap === "mappable" ? 0 : v.msixEnd(dev, index);
    if (first < msixEnd && first + request / PAGE_SIZE > v.msixFirst(dev)) return -EINVAL;
    if (!v.claim(dev, index)) return -EBUSY;
    const pfn = bar.start / PAGE_SIZE + first;
    vmas.setPageProt(vma, this.pageProt(dev, bar, pgoff, request / PAGE_SIZE));
    if (v.d.vfioPgoff === "pfn") vmas.setPgoff(vma, Math.floor(pfn));
    const marked = v.d.vfioMarksPtes && v.mm.d.userfaultfdWp ? VM_UFFD_WP : 0;
    const uncached = (v.d.vfioAllowAnyUncached ? VM_ALLOW_ANY_UNCACHED : 0) | marked;
    vmas.setFlags(vma, vmas.flags(vma) | VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP | uncached);
    if (v.d.vfioPtes !== "atMmap") return 0;
    return v.mm.zap.remapPfnRange(mm, vma, vmas.start(vma), Math.floor(pfn), request);
  }

  /** vm_page_prot of a BAR's VMA. */
  private pageProt(dev: number, bar: Bar, pgoff: number, pages: number): number {
    switch (this.v.d.vfioMmapType) {
      case "device":
        return PAGE_PROT_DEVICE;
      case "writecombine":
        return PAGE_PROT_WRITECOMBINE;
      case "writecombine-if-prefetchable":
        return bar.spec.prefetch === true ? PAGE_PROT_WRITECOMBINE : PAGE_PROT_NONCACHED;
      case "as-asked":
        return this.types.combines(dev, pgoff, pages) ? PAGE_PROT_WRITECOMBINE : PAGE_PROT_NONCACHED;
      default:
        return PAGE_PROT_NONCACHED;
    }
  }

  /**
   * nvgrace_gpu_mmap: the memory of the device, all at once, vm_page_prot left as mmap made it. VM_SHARED is not asked for;
   * a private writable mapping goes through remap_pfn_range's rule for COW: the whole VMA or nothing.
   */
  private nvgraceMap(mm: number, vma: number, region: Bar, first: number): number {
    const { vmas, zap, d } = this.v.mm;
    const request = vmas.end(vma) - vmas.start(vma);
    if (first * PAGE_SIZE + request > region.size) return -EINVAL;
    const pfn = region.start / PAGE_SIZE + first;
    const flagged = d.vmForceCached ? VM_FORCE_CACHED : 0;
    vmas.setFlags(vma, vmas.flags(vma) | VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP | flagged);
    vmas.setPgoff(vma, pfn);
    return zap.remapPfnRange(mm, vma, vmas.start(vma), pfn, request);
  }

  /** A split or a fork made a new VMA. In eras that zap it, it is not tracked until it faults. */
  private mmapOpen(f: number): number {
    const { sim, mm, d } = this.v;
    const { agents } = sim;
    const vma = agents.stack.a[f + VMA]!;
    this.v.ref(this.v.ofVma(vma), 1);
    if (!d.vfioOpenZaps) return agents.ret(f);
    return agents.call(f, this.open.first + 1, mm.zapVmaPtes, agents.stack.a[f + MM]!, mm.vmas.start(vma), mm.vmas.end(vma));
  }

  private mmapClose(f: number): number {
    const { sim, d } = this.v;
    const { agents, locks } = sim;
    const vma = agents.stack.a[f + VMA]!;
    const dev = this.v.ofVma(vma);
    if (d.vfioPtes === "wholeVmaAtFault") {
      if (!locks.write(this.v.vmaLock[dev]!)) return BLOCKED;
      locks.assertHeld(this.v.vmaLock[dev]!);
      this.list.remove(dev, vma);
      locks.unlockWrite(this.v.vmaLock[dev]!);
    }
    if (this.v.ref(dev, -1) > 0) return agents.ret(f);
    return agents.call(f, this.close.first + 1, this.release, dev);
  }
}
