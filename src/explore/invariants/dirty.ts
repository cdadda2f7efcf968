/**
 * No write is lost to the dirty log: a page that the guest can write without a fault has its bit set, or its entry in a ring. Asked when
 * nobody is inside a fault, a log call or a memslot update: on their way these pass through states that are not so.
 */
import { C_FLAGS, C_IPA_HI, C_IPA_LO, CTX_HOST, F_W0, F_W1 } from "../../arch/tlb.js";
import { KVM_MEM_LOG_DIRTY_PAGES } from "../../kvm/memslots.js";
import type { Machine } from "../../machine.js";
import { inside, LOGGING_BUSY } from "./busy.js";
import { hex, type Invariant } from "./invariant.js";
import { vmOf } from "./invalidation.js";
import { eachVmLeaf } from "./stage2leaves.js";
import { pageAddress, tlbEntries } from "./tlbentries.js";

/** A page that may be written: what is wrong with that, or undefined. @param pa -1: not known */
type Unseen = (m: Machine, vm: number, ipa: number, pa: number) => string | undefined;

/** Every page that stage 2 or a TLB lets the guest write. */
function writable(m: Machine, unseen: Unseen): string | undefined {
  const inTables = eachVmLeaf(m, (leaf, vm) => {
    if (!leaf.writable) return undefined;
    for (let off = 0; off < leaf.size; off += 4096) {
      const said = unseen(m, vm, leaf.ipa + off, leaf.pa + off);
      if (said !== undefined) return `stage 2 lets the guest write ${said}`;
    }
    return undefined;
  });
  if (inTables !== undefined) return inTables;
  for (const { pool, at, cpu, kind, ids } of tlbEntries(m)) {
    if (pool !== m.pe.tlbs.combined || kind === CTX_HOST) continue;
    if ((pool.a[at + C_FLAGS]! & (F_W0 | F_W1)) === 0) continue;
    const vm = vmOf(m, ids >>> 16);
    const ipa = pageAddress(pool.a[at + C_IPA_HI]!, pool.a[at + C_IPA_LO]!);
    const said = vm < 0 ? undefined : unseen(m, vm, ipa, -1);
    if (said !== undefined) return `the TLB of CPU ${cpu} lets the guest write ${said}`;
  }
  return undefined;
}

export const noLostWrite: Invariant = {
  name: "no-lost-write",
  statement: "A page written since the last GET or CLEAR is set in the log when GET returns, or a store to it still faults.",
  source: "Documentation/virt/kvm/api.rst, KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG",
  looksAt: ["tables", "tlb", "dirty"],
  holds: (w) => writable(w.machine, clean),
  excused: (w) => inside(w.machine, LOGGING_BUSY),
};

export const noLostRingEntry: Invariant = {
  name: "no-lost-ring-entry",
  statement:
    "With dirty rings, a page written since it was last reset has an entry in a ring that is not reset yet, or a store to it still faults.",
  source: "Documentation/virt/kvm/api.rst, KVM_CAP_DIRTY_LOG_RING; virt/kvm/dirty_ring.c kvm_dirty_ring_reset",
  looksAt: ["tables", "tlb", "dirty"],
  holds: (w) => writable(w.machine, notInRing),
  excused: (w) => inside(w.machine, LOGGING_BUSY),
};

/** The slot of a page if writes to it are logged, else -1. */
function loggedSlot(m: Machine, vm: number, gfn: number, pa: number): number {
  const { memslots } = m.kvm;
  const slot = memslots.find(vm, gfn);
  if (slot < 0 || !memslots.valid(slot) || memslots.readonly(slot) || (memslots.flags(slot) & KVM_MEM_LOG_DIRTY_PAGES) === 0) return -1;
  // Device memory is not logged.
  return pa >= 0 && !m.mm.frames.isRam(pa / 4096) ? -1 : slot;
}

/** A page of a slot with a ring, without an entry in any of the VM's rings, nor a bit in the bitmap beside them. */
function notInRing(m: Machine, vm: number, ipa: number, pa: number): string | undefined {
  const { memslots, dirtyLog, rings, vms } = m.kvm;
  if (vms.ringSize(vm) === 0) return undefined;
  const slot = loggedSlot(m, vm, ipa / 4096, pa);
  if (slot < 0) return undefined;
  const page = ipa / 4096 - memslots.baseGfn(slot);
  const id = memslots.id(slot);
  return rings.holds(vm, id, page) || dirtyLog.isDirty(slot, page)
    ? undefined
    : `page ${hex(page)} of slot ${id} unseen: no ring has an entry for it`;
}

/** A page of a logged slot whose bit is not set. */
function clean(m: Machine, vm: number, ipa: number, pa: number): string | undefined {
  const { memslots, dirtyLog, vms } = m.kvm;
  if (vms.ringSize(vm) !== 0 || !vms.usesBitmap(vm)) return undefined;
  const slot = loggedSlot(m, vm, ipa / 4096, pa);
  if (slot < 0 || !dirtyLog.hasBitmap(slot)) return undefined;
  const page = ipa / 4096 - memslots.baseGfn(slot);
  return dirtyLog.isDirty(slot, page) ? undefined : `page ${hex(page)} of slot ${memslots.id(slot)} unseen: its dirty bit is clear`;
}
