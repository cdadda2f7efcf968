/**
 * The order of table writes, TLBIs and barriers, as the architecture asks for it: seen on the instructions
 * themselves, so that a barrier which happens to be made up for by another one is missed all the same.
 *
 * memory, per agent: 1 when it has written a stage-2 entry that no DSB has completed; broadcast and local TLBIs of guests
 * that none has completed; 1 when one of those is of stage 2.
 */
import type { Invariant, OnEvent } from "./invariant.js";

const AGENTS = 32;
const WORDS = 4;
const WRITTEN = 0;
const BROADCAST = 1;
const LOCAL = 2;
const STAGE2 = 3;
/** CRm of a DSB: reads and writes; inner shareable or wider. */
const BOTH = 3;
const ISH = 8;

const open: OnEvent = (w, agent) => {
  if (agent >= AGENTS) return undefined;
  const p = w.at + agent * WORDS;
  const left = w.memory.a[p + BROADCAST]! + w.memory.a[p + LOCAL]!;
  return left > 0 ? `${w.machine.sim.agents.name(agent)} goes on with ${left} TLBI that no DSB has completed` : undefined;
};

export const tlbiOrder: Invariant = {
  name: "tlbi-order",
  statement:
    "A DSB stands between a table write and its TLBI, between a TLBI of stage 2 and the TLBI of stage 1 behind it, and before mmu_lock is dropped or a guest entered.",
  source: "Arm ARM D8.17.5 (ordering of TLB maintenance), B2.6.9 (DSB); arch/arm64/kvm/hyp/vhe/tlb.c __kvm_tlb_flush_vmid_ipa",
  words: AGENTS * WORDS,
  on: {
    stage2_entry: (w, agent) => {
      if (agent < AGENTS) w.memory.set(w.at + agent * WORDS + WRITTEN, 1);
      return undefined;
    },
    tlbi: (w, agent, ring, at) => {
      if (agent >= AGENTS) return undefined;
      const p = w.at + agent * WORDS;
      const a = w.memory.a;
      if (ring[at + 1]! < 0) return undefined;
      const name = w.machine.sim.bus.nameOf(ring[at]!);
      const who = w.machine.sim.agents.name(agent);
      if (a[p + WRITTEN] === 1) return `${who} issues ${name} before a DSB has completed its table write`;
      const ofStage2 = /ipas2/i.test(name);
      if (!ofStage2 && a[p + STAGE2] === 1) return `${who} issues ${name} while a TLBI of stage 2 waits for its DSB`;
      const kind = /is$/i.test(name) ? BROADCAST : LOCAL;
      w.memory.set(p + kind, a[p + kind]! + 1);
      if (ofStage2) w.memory.set(p + STAGE2, 1);
      return undefined;
    },
    dsb: (w, agent, ring, at) => {
      if (agent >= AGENTS) return undefined;
      const p = w.at + agent * WORDS;
      const type = ring[at]!;
      w.memory.set(p + WRITTEN, 0);
      if ((type & BOTH) !== BOTH) return undefined;
      w.memory.set(p + LOCAL, 0);
      if (type >= ISH) w.memory.set(p + BROADCAST, 0);
      if (w.memory.a[p + BROADCAST] === 0) w.memory.set(p + STAGE2, 0);
      return undefined;
    },
    lock_released: (w, agent, ring, at) =>
      w.machine.sim.bus.nameOf(ring[at]!).startsWith("mmu_lock") ? open(w, agent, ring, at) : undefined,
    kvm_entry: (w, agent, ring, at) => {
      if (agent >= AGENTS) return undefined;
      if (w.memory.a[w.at + agent * WORDS + WRITTEN] === 1)
        return `${w.machine.sim.agents.name(agent)} enters the guest before a DSB has completed its table write`;
      return open(w, agent, ring, at);
    },
  },
};
