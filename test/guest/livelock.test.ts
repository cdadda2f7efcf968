/** A guest that cannot get on is told from one that is slow. */
import { describe, expect, it } from "vitest";
import { failures, runAll } from "./run.js";

const ON = `let TABLES = 0x48000000
let tables = mmap(0, 64K)
write64(tables + 8, 0x40000705)
KVM_SET_USER_MEMORY_REGION(slot=2, guest_phys_addr=TABLES, memory_size=64K, userspace_addr=tables)
KVM_SET_ONE_REG(mair_el1, 0xff04)
KVM_SET_ONE_REG(tcr_el1, 0x803519)
KVM_SET_ONE_REG(ttbr0_el1, TABLES)
KVM_SET_ONE_REG(sctlr_el1, 0x30d0199d)
`;

describe("an abort that is taken for ever", () => {
  it("is a livelock where the guest's own handler comes back to it", () => {
    const source = `variant v6.12\n${ON}on exception { eret }\nguest { mov x1, 0x80000000; ldr x0, [x1] }\nexpect livelock`;
    expect(failures(runAll(source))).toEqual([]);
  });
  it("is a livelock where a synchronous external abort becomes a virtual SError that the guest has masked", () => {
    const source = `machine { devices nic  kernel v6.9  buffers modelled  set vfioMemoryLock = none  failed_read sea }
let BAR = 0x80000000
let dev = vfio_open(0000:01:00.0)
let bar = mmap(0, 64K, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar2)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=BAR, memory_size=64K, userspace_addr=bar)
guest { mov x1, BAR; ldr w3, [x1, #0x1000] }
pci_memory_enable(dev, 0)
guest { ldr w3, [x1, #0x2000] }
expect livelock
expect at least 1 inject serror`;
    expect(failures(runAll(source))).toEqual([]);
  });
  it("is none where the handler counts and gives up, however late", () => {
    const source = `variant v6.12
${ON}on exception { add x20, x20, 1; cmp x20, x21; b.ne again; mov x22, 7; mrs x23, elr_el1; add x23, x23, 4; msr elr_el1, x23; again: eret }
guest { mov x21, 0x38000; mov x1, 0x80000000; ldr x0, [x1] }
expect x22 == 7`;
    expect(failures(runAll(source))).toEqual([]);
  });
});
