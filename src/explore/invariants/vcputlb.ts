/**
 * vCPUs of a VM share its VMID, and not their stage-1 tables: what a CPU keeps of one vCPU's is wrong for another.
 *
 * memory, per CPU and VM: the vCPU that entered its guest there last + 1. Last: 1 when the running step has invalidated
 * its CPU's stage-1 translations.
 */
import type { Invariant } from "./invariant.js";

const CPUS = 16;
const VMS = 8;
const FLUSHED = CPUS * VMS;

export const ownStage1: Invariant = {
  name: "no-other-vcpus-translation",
  statement:
    "A vCPU enters its guest on a CPU where another one of its VM ran last only with the CPU's stage-1 and combined translations invalidated.",
  source:
    'arch/arm64/kvm/arm.c kvm_arch_vcpu_load, last_vcpu_ran; "arm/arm64: KVM: Perform local TLB invalidation when multiplexing vcpus on a single CPU" (v4.9)',
  words: FLUSHED + 1,
  on: {
    tlbi: (w, _agent, ring, at) => {
      if (w.machine.sim.bus.nameOf(ring[at]!) === "vmalle1") w.memory.set(w.at + FLUSHED, 1);
      return undefined;
    },
    kvm_entry: (w, agent) => {
      const { vcpus } = w.machine.kvm;
      const cpu = w.machine.sim.agents.cpuOfAgent(agent);
      for (let v = 0; v < vcpus.count; v++) {
        if (vcpus.agent(v) !== agent) continue;
        if (cpu >= CPUS || vcpus.vm(v) >= VMS) return undefined;
        const at = w.at + cpu * VMS + vcpus.vm(v);
        const last = w.memory.a[at]!;
        w.memory.set(at, v + 1);
        if (last === 0 || last === v + 1 || w.memory.a[w.at + FLUSHED] === 1) return undefined;
        return `vcpu${v} enters its guest on CPU ${cpu}, whose TLB may hold translations of vcpu${last - 1}`;
      }
      return undefined;
    },
  },
  after: (w) => {
    w.memory.set(w.at + FLUSHED, 0);
    return undefined;
  },
};
