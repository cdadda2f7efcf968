/**
 * Every usable stage-2 entry gives the page that the host gives: the page-table entry, or where there is none yet
 * and the VMA maps a linear range of page frames, the VMA. This is what makes a wrong but quiet state visible: no
 * access is needed.
 */
import { VM_PFNMAP, VM_WRITE } from "../../mmu/vmflags.js";
import { KVM_MEM_DMABUF, KVM_MEM_GUEST_MEMFD } from "../../kvm/ports.js";
import { GICV_BASE } from "../../kvm/vgicv2.js";
import type { Machine } from "../../machine.js";
import { inside } from "./busy.js";
import { hex, type Invariant, type Watch } from "./invariant.js";
import { eachVmLeaf, size, vmaAt, type Leaf } from "./stage2leaves.js";

export const stage2Page: Invariant = {
  name: "stage2-agrees-with-host",
  statement: "A usable stage-2 entry gives the page that the host gives at that moment, and allows writes only where the host entry does.",
  source: "Documentation/virt/kvm/locking.rst and mmu_notifier.rst: secondary page tables mirror the primary ones",
  looksAt: ["tables"],
  holds: (w) => eachVmLeaf(w.machine, (leaf, vm) => wrongLeaf(w.machine, vm, leaf)),
  excused: unpublished,
};

const PUBLISHING = ["kvmSetMemoryRegion"];

/** Eager mapping (v4.0 - v5.12) fills stage 2 before the slot is published. */
export function unpublished(w: Watch, what: string): boolean {
  return what.endsWith("in no memslot") && inside(w.machine, PUBLISHING);
}

function wrongLeaf(m: Machine, vm: number, leaf: Leaf): string | undefined {
  const { memslots, vms } = m.kvm;
  const { pt, vmas } = m.mm;
  const mm = vms.mm(vm);
  const said = `stage 2 maps ${size(leaf.size)} at IPA ${hex(leaf.ipa)} to ${hex(leaf.pa)}`;
  for (let off = 0; off < leaf.size;) {
    const slot = memslots.find(vm, (leaf.ipa + off) / 4096);
    if (slot < 0) {
      // KVM's own: the GICv2 CPU interface has neither slot nor VMA.
      if (leaf.pa === GICV_BASE || leaf.pa - GICV_BASE === 4096) return undefined;
      return `${said}; IPA ${hex(leaf.ipa + off)} is in no memslot`;
    }
    if (!memslots.valid(slot)) return undefined;
    const hva = memslots.gfnToHva(slot, (leaf.ipa + off) / 4096);
    const pfn = (leaf.pa + off) / 4096;
    if ((memslots.flags(slot) & KVM_MEM_DMABUF) !== 0) {
      // No host address: the exporter says which page it is.
      if (m.vfioPci.dmabufs.importedPfn(hva) !== pfn) return `${said}; the exporter of the dma-buf does not give that page`;
      off += 4096;
      continue;
    }
    if ((memslots.flags(slot) & KVM_MEM_GUEST_MEMFD) !== 0) {
      if (m.kvm.guestMemfd.pfnNow(slot, (leaf.ipa + off) / 4096) !== pfn) return `${said}; the guest_memfd has another page there, or none`;
      off += 4096;
      continue;
    }
    if (pt.walk(mm, hva)) {
      if (pt.leafPfn !== pfn) return `${said}; host address ${hex(hva)} has page ${hex(pt.leafPfn * 4096)}, not ${hex(pfn * 4096)}`;
      if (leaf.writable && !pt.writable) return `${said} for writing; the host's entry of ${hex(hva)} is read-only`;
      const leafSize = pt.leafLevel === 3 ? 4096 : pt.leafLevel === 2 ? 2 ** 21 : 2 ** 30;
      off += leafSize - (hva % leafSize);
      continue;
    }
    const vma = vmaAt(m, mm, hva);
    const linear = vma >= 0 && (vmas.flags(vma) & VM_PFNMAP) !== 0 && vmas.pageIndex(vma, hva) === pfn;
    if (!linear) return `${said}; the host maps nothing at ${hex(hva)}${vma < 0 ? ", where no VMA is" : ""}`;
    if (leaf.writable && (vmas.flags(vma) & VM_WRITE) === 0) return `${said} for writing; the VMA at ${hex(hva)} is read-only`;
    off += 4096;
  }
  return undefined;
}

export const blockInVma: Invariant = {
  name: "block-inside-vma",
  statement: "A stage-2 block of a PFNMAP mapping lies within that one VMA.",
  source: "KVM: arm64: the block size of PFNMAP memory is taken from the host leaf (v7.2.11, v6.12.115; v6.1.192 maps pages only)",
  looksAt: ["tables"],
  holds: (w) =>
    eachVmLeaf(w.machine, (leaf, vm) => {
      if (leaf.size === 4096) return undefined;
      const { memslots, vms } = w.machine.kvm;
      const m = w.machine;
      const { vmas } = m.mm;
      const mm = vms.mm(vm);
      for (let off = 0; off < leaf.size; off += 4096) {
        const slot = memslots.find(vm, (leaf.ipa + off) / 4096);
        if (slot < 0 || !memslots.valid(slot)) return undefined;
        const hva = memslots.gfnToHva(slot, (leaf.ipa + off) / 4096);
        const vma = vmaAt(m, mm, hva);
        if (vma < 0 || (vmas.flags(vma) & VM_PFNMAP) === 0) continue;
        const start = hva - off;
        if (vmas.start(vma) <= start && vmas.end(vma) >= start + leaf.size) return undefined;
        return `a block of ${size(leaf.size)} at IPA ${hex(leaf.ipa)} reaches beyond the VMA ${hex(vmas.start(vma))}-${hex(vmas.end(vma))}`;
      }
      return undefined;
    }),
};
