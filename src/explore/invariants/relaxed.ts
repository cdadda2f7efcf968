/**
 * The architecture permits a TLB to keep what a permission fault came from. KVM lifts the permission, and unless it also invalidates,
 * the vCPU comes back to the same fault.
 *
 * memory, per agent: IPA of the page whose permissions it has lifted under mmu_lock + 1.
 */
import { S2_S2AP_R, S2_S2AP_W } from "../../arch/descriptors.js";
import { C_FLAGS, C_IPA_HI, C_IPA_LO, CTX_OFF, F_R1, F_W1, L_DESC_LO, L_HI, L_LO, L_SIZE } from "../../arch/tlb.js";
import { hex, type Invariant, type Watch } from "./invariant.js";
import { vmOf } from "./invalidation.js";
import { pageAddress, tlbEntries } from "./tlbentries.js";

const AGENTS = 32;

/** What the CPU of an agent keeps of an IPA that stage 2 gives more of. */
function refused(w: Watch, agent: number, ipa: number): string | undefined {
  const { kvm, pe, sim } = w.machine;
  const { tlbs } = pe;
  const cpu = sim.agents.cpuOfAgent(agent);
  for (const { pool, at, cpu: of, kind, ids } of tlbEntries(w.machine)) {
    if (of !== cpu) continue;
    const combined = pool === tlbs.combined && kind === CTX_OFF;
    if (!combined && pool !== tlbs.stage2) continue;
    const bytes = combined ? 4096 : 2 ** (pool.a[at + L_SIZE]! & 0xff);
    const page = combined
      ? pageAddress(pool.a[at + C_IPA_HI]!, pool.a[at + C_IPA_LO]!)
      : pageAddress(pool.a[at + L_HI]!, pool.a[at + L_LO]!);
    if (Math.floor(page / bytes) !== Math.floor(ipa / bytes)) continue;
    const vm = vmOf(w.machine, ids >>> 16);
    if (vm < 0 || kvm.stage2.entries.find(vm, ipa) < 0) continue;
    const now = kvm.stage2.entries.lo;
    const flags = combined ? pool.a[at + C_FLAGS]! : 0;
    const kept = combined ? ((flags & F_R1) !== 0 ? S2_S2AP_R : 0) | ((flags & F_W1) !== 0 ? S2_S2AP_W : 0) : pool.a[at + L_DESC_LO]!;
    if ((now & ~kept & (S2_S2AP_R | S2_S2AP_W)) !== 0) return `the TLB of CPU ${cpu} still refuses what stage 2 permits at IPA ${hex(ipa)}`;
  }
  return undefined;
}

export const relaxedUsable: Invariant = {
  name: "relaxed-page-usable",
  statement:
    "When KVM has lifted permissions of a page and drops mmu_lock, the CPU that faulted keeps no translation that refuses what is permitted now.",
  source:
    'KVM: arm64: Always invalidate TLB for stage-2 permission faults (be097997a273, v6.7): "the architecture permits the TLB to cache translations that precipitate a permission fault"',
  words: AGENTS,
  on: {
    stage2_relax: (w, agent, ring, at) => {
      if (agent < AGENTS) w.memory.set(w.at + agent, ring[at]! + 1);
      return undefined;
    },
    lock_released: (w, agent, ring, at) => {
      if (agent >= AGENTS || !w.machine.sim.bus.nameOf(ring[at]!).startsWith("mmu_lock")) return undefined;
      const ipa = w.memory.a[w.at + agent]! - 1;
      if (ipa < 0) return undefined;
      w.memory.set(w.at + agent, 0);
      return refused(w, agent, ipa);
    },
  },
};
