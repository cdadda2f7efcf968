/** Decisions that show in system calls which recordings do not have: the same calls under an era, and with the decision as it was before. */
import { describe, expect, it } from "vitest";
import { Machine } from "../../src/machine.js";
import { MADV_COLLAPSE, MADV_NOHUGEPAGE } from "../../src/mmu/madvise.js";
import { MREMAP_DONTUNMAP, MREMAP_MAYMOVE } from "../../src/mmu/mremap.js";
import { MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE } from "../../src/mmu/vmflags.js";

const RW = PROT_READ | PROT_WRITE;
const ANON = MAP_PRIVATE | MAP_ANONYMOUS;
const MIB = 0x100000;
const UFFD_MINOR = 4;

type Calls = (m: Machine) => unknown;

const aging: Calls = (m) => {
  const { host } = m;
  const ram = host.mmap({ length: 4 * MIB, align: 2 * MIB, prot: RW, flags: ANON });
  host.madvise(ram, 4 * MIB, MADV_NOHUGEPAGE);
  const vm = m.createVm();
  vm.setUserMemoryRegion({ slot: 0, flags: 0, guestPhysAddr: 0x40000000, memorySize: 4 * MIB, userspaceAddr: ram });
  // str x1, [x0]; b .
  host.write(ram, 8, 0x14000000f9000001n);
  const vcpu = vm.createVcpu();
  for (const at of [0x40201000n, 0x40300000n]) {
    vcpu.set("pc", 0x40000000n);
    vcpu.set("x0", at);
    vcpu.run({ maxInstructions: 20 });
  }
  // The first page of the range is old, the other is young.
  m.call(0, { call: "age", addr: ram, length: 4 * MIB, kind: 0 });
  return undefined;
};

const large: Calls = ({ host }) => {
  host.mmap({ length: 0x1000, prot: RW, flags: ANON });
  return host.mmap({ length: 4 * MIB, prot: RW, flags: ANON }) % (2 * MIB) === 0;
};

const collapse: Calls = ({ host }) => {
  const at = host.mmap({ length: 2 * MIB, align: 2 * MIB, prot: RW, flags: ANON });
  host.madvise(at, 2 * MIB, MADV_NOHUGEPAGE);
  for (let p = 0; p < 2 * MIB; p += 0x1000) host.write(at + p, 8, 1n);
  host.madvise(at, 2 * MIB, 14);
  host.mprotect(at, 2 * MIB, PROT_READ);
  return host.madvise(at, 2 * MIB, MADV_COLLAPSE);
};

const dontunmap: Calls = ({ host }) => {
  const at = host.mmap({ length: 0x1000, prot: RW, flags: ANON });
  return host.mremap({ oldAddress: at, oldSize: 0x1000, newSize: 0x1000, flags: MREMAP_MAYMOVE | MREMAP_DONTUNMAP }) > 0;
};

const faultedJoins: Calls = ({ host }) => {
  const at = host.mmap({ length: 4 * MIB, align: 2 * MIB, prot: RW, flags: ANON });
  host.mprotect(at, MIB, PROT_READ);
  host.write(at + 3 * MIB, 8, 1n);
  host.mprotect(at + MIB, 3 * MIB, PROT_READ);
  return host.munmap(at + 2 * MIB, 0x1000);
};

const minor: Calls = ({ host }) => {
  const fd = host.memfdCreate(0x1000);
  const at = host.mmap({ length: 0x1000, prot: RW, flags: MAP_SHARED, fd });
  return host.userfaultfd().register(at, 0x1000, UFFD_MINOR);
};

const fileFault: Calls = ({ host }) => {
  const at = host.mmap({ length: 0x4000, prot: PROT_READ, flags: MAP_PRIVATE, fd: host.openReadOnlyFile(0x4000) });
  return String(host.read(at, 8).value);
};

const bar: Calls = (m) => {
  const device = m.vfio.open("0000:00:06.0");
  m.call(0, { call: "vfio_write", fd: device.fd, index: 2, offset: 0, size: 8, value: 0x1122334455667788n });
  device.configWrite(4, 2, 0);
  const read = m.call(0, { call: "vfio_read", fd: device.fd, index: 2, offset: 0, size: 8 });
  return [read.ret, String(read.value)];
};

const CASES: Readonly<Record<string, readonly [calls: Calls, era: string, before: string]>> = {
  agingRange: [aging, "v6.8", "first"],
  anonVmaMerge: [faultedJoins, "v6.17", "refused"],
  anonMmapThpAligned: [large, "v6.8", "never"],
  collapseNeedsWritable: [collapse, "v6.18.2", "true"],
  mremapDontunmap: [dontunmap, "v5.8", "false"],
  perVmaLockFiles: [fileFault, "v6.8", "false"],
  userfaultfdMinor: [minor, "v5.14", "false"],
  vfioRegionRw: [bar, "v5.8", "reachesHardware"],
  vfioRegionRwWidth: [bar, "v6.12", "4"],
};

/** What the calls give, and every event but the one that names the decision. */
function trace(calls: Calls, kernel: string, set: Readonly<Record<string, string>>): string {
  const m = new Machine({ kernel, set, devices: ["ivshmem"] });
  const events: string[] = [];
  m.on("*", (e) => {
    if (e.event !== "decision") events.push(JSON.stringify({ ...e, seq: 0, time: 0, cycles: 0, ts: 0 }));
  });
  return JSON.stringify([calls(m), events]);
}

describe("decisions that show in other system calls", () => {
  it.each(Object.entries(CASES))("%s", (name, [calls, era, before]) => {
    expect(trace(calls, era, { [name]: before }) === trace(calls, era, {})).toBe(false);
  });
});
