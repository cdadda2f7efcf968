/**
 * KVM_RUN does not answer EFAULT to a guest whose mapping was valid from the fault to the answer.
 *
 * memory, per agent: 1 while a fault is being handled whose mapping has been valid so far, its host address, 1 for a
 * store; then the number of devices that have memory disabled.
 */
import { VM_MTE_ALLOWED, VM_PFNMAP, VM_READ, VM_SHARED, VM_WRITE } from "../../mmu/vmflags.js";
import { vmaAt } from "./stage2leaves.js";
import { hex, type Invariant, type Watch } from "./invariant.js";

const AGENTS = 32;
const WORDS = 3;
const EC_DABT_LOW = 0x24;
const EFAULT = -14;

export const noFalseEfault: Invariant = {
  name: "no-false-efault",
  statement: "KVM_RUN does not end in EFAULT for a data access whose memslot and VMA allowed it all the time.",
  source: "Documentation/virt/kvm/api.rst, KVM_RUN; KVM: arm/arm64: second fault on a present device page (v4.0 - v5.8)",
  words: AGENTS * WORDS,
  on: {
    // vcpu_pc, hsr, hxfar (two words each), ipa
    kvm_guest_fault: (w, agent, ring, at) => {
      if (agent >= AGENTS) return undefined;
      const p = w.at + agent * WORDS;
      const esr = ring[at + 3]! >>> 0;
      const store = (esr & (1 << 6)) !== 0 && (esr & (1 << 8)) === 0;
      const hva = esr >>> 26 === EC_DABT_LOW ? hvaOf(w, agent, ring[at + 6]!, store) : -1;
      w.memory.set(p, hva >= 0 && allowed(w, hva, store) ? 1 : 0);
      w.memory.set(p + 1, hva < 0 ? 0 : hva);
      w.memory.set(p + 2, store ? 1 : 0);
      return undefined;
    },
    guest_abort: (w, agent, ring, at) => {
      if (agent >= AGENTS) return undefined;
      const p = w.at + agent * WORDS;
      const a = w.memory.a;
      const wrong =
        a[p] === 1 && ring[at] === EFAULT
          ? `KVM_RUN gives EFAULT although host address ${hex(a[p + 1]!)} was validly mapped throughout`
          : undefined;
      for (let i = 0; i < WORDS; i++) w.memory.set(p + i, 0);
      return wrong;
    },
  },
  after: (w) => {
    const a = w.memory.a;
    for (let p = w.at; p < w.at + AGENTS * WORDS; p += WORDS) if (a[p] === 1 && !allowed(w, a[p + 1]!, a[p + 2] === 1)) w.memory.set(p, 0);
    return undefined;
  },
};

function hvaOf(w: Watch, agent: number, ipa: number, store: boolean): number {
  const { vcpus, memslots } = w.machine.kvm;
  for (let v = 0; v < vcpus.count; v++) {
    if (vcpus.agent(v) !== agent) continue;
    const gfn = Math.floor(ipa / 4096);
    return memslots.gfnToHva(memslots.find(vcpus.vm(v), gfn), gfn, store);
  }
  return -1;
}

/** A VM with memory tagging gets EFAULT for a VMA that has no tags. */
function tagsAllowed(w: Watch, flags: number): boolean {
  const { vms, d } = w.machine.kvm;
  for (let vm = 0; vm < vms.count; vm++)
    if (vms.mte(vm)) return d.mteVma === "not-shared" ? (flags & VM_SHARED) === 0 : (flags & VM_MTE_ALLOWED) !== 0;
  return true;
}

function allowed(w: Watch, hva: number, store: boolean): boolean {
  const { vmas, pt } = w.machine.mm;
  const vma = vmaAt(w.machine, 0, hva);
  if (vma < 0 || (vmas.flags(vma) & (store ? VM_WRITE : VM_READ)) === 0) return false;
  if (!tagsAllowed(w, vmas.flags(vma))) return false;
  // A device may refuse: its memory counts as valid while the host has it mapped.
  return (vmas.flags(vma) & VM_PFNMAP) === 0 || pt.walk(0, hva);
}
