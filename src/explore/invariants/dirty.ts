/**
 * No write is lost to the dirty log: a page that the guest can write without a fault has its bit set. Asked when
 * nobody is inside a fault, a log call or a memslot update: on their way these pass through states that are not so.
 */
import { C_FLAGS, C_IPA_HI, C_IPA_LO, CTX_HOST, F_W0, F_W1 } from "../../arch/tlb.js";
import type { Machine } from "../../machine.js";
import { inside, LOGGING_BUSY } from "./busy.js";
import { hex, type Invariant } from "./invariant.js";
import { vmOf } from "./invalidation.js";
import { eachVmLeaf } from "./stage2leaves.js";
import { tlbEntries } from "./tlbentries.js";

export const noLostWrite: Invariant = {
  name: "no-lost-write",
  statement: "A page written since the last GET or CLEAR is set in the log when GET returns, or a store to it still faults.",
  source: "Documentation/virt/kvm/api.rst, KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG",
  looksAt: ["tables", "tlb", "dirty"],
  holds: (w) => {
    const m = w.machine;
    const inTables = eachVmLeaf(m, (leaf, vm) => {
      if (!leaf.writable) return undefined;
      for (let off = 0; off < leaf.size; off += 4096) {
        const said = clean(m, vm, leaf.ipa + off, leaf.pa + off);
        if (said !== undefined) return `stage 2 lets the guest write ${said}`;
      }
      return undefined;
    });
    if (inTables !== undefined) return inTables;
    for (const { pool, at, cpu, kind, ids } of tlbEntries(m)) {
      if (pool !== m.pe.tlbs.combined || kind === CTX_HOST) continue;
      if ((pool.a[at + C_FLAGS]! & (F_W0 | F_W1)) === 0) continue;
      const vm = vmOf(m, ids >>> 16);
      const ipa = (pool.a[at + C_IPA_HI]! >>> 0) * 4294967296 + ((pool.a[at + C_IPA_LO]! & ~0xfff) >>> 0);
      const said = vm < 0 ? undefined : clean(m, vm, ipa, -1);
      if (said !== undefined) return `the TLB of CPU ${cpu} lets the guest write ${said}`;
    }
    return undefined;
  },
  excused: (w) => inside(w.machine, LOGGING_BUSY),
};

/** A page of a logged slot whose bit is not set. */
function clean(m: Machine, vm: number, ipa: number, pa: number): string | undefined {
  const { memslots, dirtyLog, vms } = m.kvm;
  const gfn = ipa / 4096;
  const slot = memslots.find(vm, gfn);
  if (
    slot < 0 ||
    !memslots.valid(slot) ||
    memslots.readonly(slot) ||
    !dirtyLog.hasBitmap(slot) ||
    !vms.usesBitmap(vm) ||
    vms.ringSize(vm) !== 0
  )
    return undefined;
  // Device memory is not logged.
  if (pa >= 0 && !m.mm.frames.isRam(pa / 4096)) return undefined;
  return dirtyLog.isDirty(slot, gfn - memslots.baseGfn(slot))
    ? undefined
    : `page ${hex(gfn - memslots.baseGfn(slot))} of slot ${memslots.id(slot)} unseen: its dirty bit is clear`;
}
