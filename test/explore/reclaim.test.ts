/** The conditions under which a device may be given away, each broken by a guest that still stores while the device is reset. */
import { expect, test } from "vitest";
import { explored } from "./planted.js";

/** @param attr descriptor of the guest's stage-1 block @param kvm deviceType @param before what comes before the race @param guest what the guest does in it */
const race = (attr: string, kvm: string, before: string, guest: string): string => `machine { devices nic  kernel v6.9  buffers modelled }
variant race { set deviceType = ${kvm} }
let BAR = 0x80000000
let RAM = 0x50000000
let HOST = 0x10000000000
let fd = open("/dev/vgpu", 16M)
mmap(HOST, 64K, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, fd, 0)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=BAR, memory_size=64K, userspace_addr=HOST)
let ram = mmap(0, 64K)
KVM_SET_USER_MEMORY_REGION(slot=2, guest_phys_addr=RAM, memory_size=64K, userspace_addr=ram)
write64(ram + 8, 0x40000705)
write64(ram + 16, ${attr})
KVM_SET_ONE_REG(mair_el1, 0x4404ff00)
KVM_SET_ONE_REG(tcr_el1, 0x200803519)
KVM_SET_ONE_REG(ttbr0_el1, RAM)
KVM_SET_ONE_REG(sctlr_el1, 0x30d0199d)
sched_setaffinity(vcpu0, 1)
guest { mov x1, BAR; ldr w2, [x1] }
${before}
par {
  guest { ${guest} }
  vmm { VFIO_DEVICE_RESET(fd) }
}
`;
const STORE = "mov x1, BAR; mov x2, #0x77; str w2, [x1, #0x20]";
/** When the guest stores: while the device is reset, before; unmapped: its mapping has gone since, with a TLBI whose DSB waits for the store's answer. */
const WHEN = {
  stores: ["", STORE],
  stored: [`guest { ${STORE} }`, "mov x1, 1"],
  unmapped: [`guest { ${STORE} }\nmunmap(HOST, 64K)`, "mov x1, 1"],
} as const;
/** AttrIndx of the guest's block, and what KVM gives the device. */
const TYPES = { nGnRnE: ["0x80000701", "nGnRE"], nGnRE: ["0x80000709", "nGnRE"], NC: ["0x8000070d", "nc-for-all"] } as const;

const RESET = "vgpu was reset for another user, and ";
const LATE = "4 bytes that CPU 1 wrote before the reset of platform device arrived after it";
test.each([
  // Only Normal-NC may wait in the CPU's own buffer.
  ["no-buffered-write", `${RESET}a CPU still has a write for it in a buffer`, ["NC stores", "NC stored"]],
  // The answer to nGnRnE comes from the device, that to the others from on the way.
  [
    "no-transaction-in-flight",
    `${RESET}a write is still on its way to it`,
    ["nGnRnE stores", "nGnRnE stored", "nGnRE stores", "nGnRE stored", "nGnRE unmapped", "NC stores", "NC stored", "NC unmapped"],
  ],
  [
    "clean-post-reset-state",
    LATE,
    ["nGnRnE stores", "nGnRnE stored", "nGnRE stores", "nGnRE stored", "nGnRE unmapped", "NC stores", "NC stored", "NC unmapped"],
  ],
  [
    "no-page-table-reference",
    `${RESET}a descriptor still points into its memory`,
    ["nGnRnE stores", "nGnRnE stored", "nGnRE stores", "nGnRE stored", "NC stores", "NC stored"],
  ],
])("%s is broken by a device's reset beside its user's store, and by no type and order that cannot", (invariant, said, broken) => {
  const all = Object.entries(TYPES).flatMap(([type, [attr, kvm]]) =>
    Object.entries(WHEN).map(([when, [before, guest]]) => {
      const found = explored(race(attr, kvm, before, guest), () => undefined, [invariant]);
      return [`${type} ${when}`, found] as const;
    }),
  );
  expect(Object.fromEntries(all.filter(([, found]) => found !== "clear"))).toEqual(
    Object.fromEntries(broken.map((name) => [name, `${invariant}: ${said}`])),
  );
});
