/** munmap tells the notifiers without frames where nobody listens: state, time and sequence are those of the other ways. */
import { describe, expect, it } from "vitest";
import { assemble } from "../../src/arch/assemble.js";
import { Machine, type Call, type CallResult } from "../../src/machine.js";

const KERNELS = ["v4.0", "v5.4", "v5.14", "v6.1", "v6.12"];
const CPUS = ["max", "cortex-a72"];
const PAGE = 4096;
const CODE = 0x1000_0000;
const MEMORY = 0x4000_0000;
const PAGES = 1024;
const MAP_FIXED = 0x32;

type How = "quiet" | "listened" | "stepped";

function play(kernel: string, cpu: string, seed: number, how: How): readonly unknown[] {
  const machine = new Machine({ kernel, cpu, ram: 2 ** 30, lockdep: seed === 2 });
  machine.sim.state.startRecording();
  if (how === "listened") machine.on("*", () => undefined);
  const call = (agent: number, c: Call): CallResult => {
    if (how !== "stepped") return machine.call(agent, c);
    machine.begin(agent, c);
    while (machine.busy(agent)) machine.step(agent);
    return machine.finish(agent);
  };
  const vmm = (c: Call): number => call(0, c).ret;
  let x = seed * 7919;
  const random = (n: number): number => ((x = (Math.imul(x, 1103515245) + 12345) & 0x7fffffff) >>> 8) % n;

  const hva = vmm({ call: "mmap", length: PAGES * PAGE, align: 0x200000 });
  const code = vmm({ call: "mmap", length: PAGE });
  ["str x1, [x0]", "str x1, [x9]"].forEach((text, i) => {
    vmm({ call: "write", addr: code + 4 * i, size: 4, value: BigInt(assemble(text)[0]! >>> 0) });
  });
  const vms = [0, 1].map(() => vmm({ call: "KVM_CREATE_VM" }));
  const slot = (vm: number, n: number, guestPhysAddr: number, pages: number, userspaceAddr: number): number =>
    vmm({ call: "KVM_SET_USER_MEMORY_REGION", vm, slot: n, flags: 0, guestPhysAddr, memorySize: pages * PAGE, userspaceAddr });
  for (const vm of vms) slot(vm, 0, CODE, 1, code);
  // The second VM has two slots, one of them over the same memory as the other's.
  slot(vms[0]!, 1, MEMORY, PAGES, hva);
  slot(vms[1]!, 1, MEMORY, 64, hva + 512 * PAGE);
  slot(vms[1]!, 2, MEMORY + 64 * PAGE, PAGES / 2, hva + 256 * PAGE);
  const vcpus = vms.map((vm) => vmm({ call: "KVM_CREATE_VCPU", vm }));

  const results: number[] = [];
  for (let i = 0; i < 120; i++) {
    const page = random(PAGES);
    const length = Math.min(PAGES - page, random(3) === 0 ? 1 + random(600) : 1 + random(3)) * PAGE;
    const addr = hva + page * PAGE;
    const kind = random(4);
    if (kind === 0) results.push(vmm({ call: "munmap", addr, length }));
    else if (kind === 1) results.push(vmm({ call: "mmap", addr, length, prot: random(2) === 0 ? 3 : 1, flags: MAP_FIXED }));
    else {
      const vcpu = vcpus[random(2)]!;
      machine.setRegister(vcpu, "x0", BigInt(MEMORY + page * PAGE));
      machine.setRegister(vcpu, "x9", 0x900_0000n);
      machine.cancelMmio(vcpu);
      machine.setRegister(vcpu, "pc", BigInt(CODE));
      const { ret } = call(machine.vcpuAgent(vcpu), { call: "KVM_RUN", vcpu, maxInstructions: 20 });
      results.push(ret);
    }
  }
  expect(results.filter((r) => r >= 0).length).toBeGreaterThan(40);
  return [machine.sim.state.hash(), machine.sim.bus.seq, machine.sim.agents.latest, results];
}

describe("munmap among mappings, slots of two VMs and faults ends alike, quiet, listened to and phase by phase", () => {
  for (const kernel of KERNELS)
    for (const cpu of CPUS)
      it(`${kernel} ${cpu}`, () => {
        for (let seed = 1; seed <= 3; seed++) {
          const want = play(kernel, cpu, seed, "listened");
          expect(play(kernel, cpu, seed, "quiet")).toEqual(want);
          expect(play(kernel, cpu, seed, "stepped")).toEqual(want);
        }
      });
});
