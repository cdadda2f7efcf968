/**
 * The files resourceN and resourceN_wc of a PCI function in sysfs (drivers/pci/pci-sysfs.c pci_mmap_resource,
 * drivers/pci/mmap.c pci_mmap_resource_range): what user space maps where vfio-pci does not let it choose. resourceN is
 * Device-nGnRE, resourceN_wc, which only prefetchable memory BARs have, Normal Non-cacheable. All entries are made at
 * mmap; nothing of vfio-pci knows of these VMAs, so that no reset and no disabled memory takes them away.
 */
import { PAGE_PROT_DEVICE, PAGE_PROT_WRITECOMBINE, VM_DONTDUMP, VM_DONTEXPAND, VM_IO, VM_PFNMAP } from "../mmu/vmflags.js";
import { VM_FAULT_SIGBUS } from "../mmu/vmfault.js";
import type { VmOperations } from "../mmu/files.js";
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import { EINVAL, ENOENT } from "../sim/errno.js";
import type { I32Pool } from "../sim/state.js";
import { PAGE_SIZE, type VfioDevices } from "./device.js";

export const SYSFS_PCI = "/sys/bus/pci/devices/";
const MM = ARG;
const VMA = ARG + 1;

/** In `of`: 1 + 12 * function + 2 * BAR + write combining. */
const PER_FUNCTION = 12;

export class SysfsResources {
  private readonly ops: VmOperations;
  /** Per file: which resource it is, 0: none. */
  private readonly of: I32Pool;

  constructor(private readonly v: VfioDevices) {
    const { agents, state } = v.sim;
    this.of = state.i32("sysfs.resources", 1);
    const mmap: Activity = agents.activity("pciMmapResource", "drivers/pci/pci-sysfs.c pci_mmap_resource", 2, [
      ["mmap", (f) => this.mmap(f)],
    ]);
    // All entries are there from mmap on: whoever finds one gone gets a signal.
    const fault = agents.activity("pciPhysFault", "mm/memory.c do_fault without a handler", 4, [
      ["fault", (f) => agents.ret(f, VM_FAULT_SIGBUS)],
    ]);
    this.ops = { mmap, fault };
    v.mm.files.declareDriver(this.ops);
  }

  /** open(). @returns a file descriptor or -errno */
  open(path: string): number {
    const m = /^([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\/resource([0-5])(_wc)?$/.exec(path.slice(SYSFS_PCI.length));
    const dev = m === null ? -1 : this.v.pci.find(m[1]!);
    if (m === null || dev < 0) return -ENOENT;
    const bar = this.v.function(dev).bars[Number(m[2])];
    const combining = m[3] !== undefined;
    if (bar === undefined || bar.io || (combining && bar.spec.prefetch !== true)) return -ENOENT;
    const file = this.v.mm.files.openDevice(this.ops);
    this.v.mm.files.setSize(file, bar.size);
    this.of.ensure(file + 1);
    this.of.set(file, 1 + dev * PER_FUNCTION + bar.index * 2 + (combining ? 1 : 0));
    return file;
  }

  private mmap(f: number): number {
    const { sim, mm } = this.v;
    const s = sim.agents.stack.a;
    const vma = s[f + VMA]!;
    if (mm.zap.contended(s[f + MM]!, mm.vmas.start(vma), mm.vmas.end(vma))) return BLOCKED;
    return sim.agents.ret(f, this.map(s[f + MM]!, vma));
  }

  /** pci_mmap_fits, pci_mmap_resource_range. */
  private map(mm: number, vma: number): number {
    const { vmas, zap } = this.v.mm;
    const which = this.of.a[vmas.file(vma)]! - 1;
    const bar = this.v.function(Math.floor(which / PER_FUNCTION)).bars[(which % PER_FUNCTION) >> 1]!;
    const size = vmas.end(vma) - vmas.start(vma);
    const offset = vmas.pgoff(vma) * PAGE_SIZE;
    if (offset + size > Math.ceil(bar.size / PAGE_SIZE) * PAGE_SIZE) return -EINVAL;
    const pfn = (bar.start + offset) / PAGE_SIZE;
    vmas.setPageProt(vma, (which & 1) !== 0 ? PAGE_PROT_WRITECOMBINE : PAGE_PROT_DEVICE);
    vmas.setFlags(vma, vmas.flags(vma) | VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
    vmas.setPgoff(vma, pfn);
    return zap.remapPfnRange(mm, vma, vmas.start(vma), pfn, size);
  }
}
