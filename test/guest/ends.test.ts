/** Several VMs, and the ends of things: VMs, the VMM's process, VMIDs; ioeventfds. */
import { describe, expect, test } from "vitest";
import { failures, runAll } from "./run.js";

const met = (source: string) => expect(failures(runAll(source))).toEqual([]);
/** A VM with a page of memory that holds a number. */
const vm = (name: string, number: number): string => `let ${name} = KVM_CREATE_VM(vcpus=1)
let ${name}ram = mmap(0, 2M, align=2M)
madvise(${name}ram, 2M, MADV_NOHUGEPAGE)
write64(${name}ram, ${number})
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x80000000, memory_size=2M, userspace_addr=${name}ram)
`;
const LOAD = "mov x1, 0x80000000; ldr x2, [x1]";
const ERAS = "variant v4.0\nvariant v5.4\nvariant v6.12\n";

describe("two VMs", () => {
  test("have memory of their own, vCPUs numbered through, and go on alone", () => {
    met(`${ERAS}${vm("a", 7)}${vm("b", 8)}guest vcpu0 { ${LOAD} }
guest vcpu1 { ${LOAD} }
expect x2 == 7 && vcpu1.x2 == 8
kvm_destroy_vm(a)
munmap(aram, 2M)
write64(bram, 9)
guest vcpu1 { ${LOAD} }
expect vcpu1.x2 == 9`);
  });
  test("a vCPU that no KVM_CREATE_VM made does not run", () => {
    expect(failures(runAll(`${vm("a", 7)}guest vcpu1 { nop }`))[0]).toMatch(/no KVM_CREATE_VM has created vcpu1/);
  });
  test("a VM that has ended answers EBADF to all", () => {
    met(`${vm("a", 7)}kvm_destroy_vm()
expect event vm_destroyed
for n in 0..1 { kvm_destroy_vm(a) }
expect errno EBADF
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x80000000, memory_size=0, userspace_addr=0)
expect errno EBADF
guest { nop }
expect errno EBADF`);
  });
});

describe("VMIDs that run out", () => {
  test("are given again behind a flush of everything: 255 VMs of a CPU with 8 bits", () => {
    met(`variant v5.4 { cpu cortex-a72 }\nvariant v6.12 { cpu cortex-a72 }\n${vm("a", 7)}guest { ${LOAD} }
expect event vmid_allocated vmid=1
other_vms(254)
expect no event vmid_rollover
guest { ${LOAD} }
expect no event vmid_allocated
other_vms(1)
expect event vmid_rollover
expect event tlbi op=alle1is
guest { ${LOAD} }
expect event vmid_allocated vmid>=1
expect x2 == 7`);
  });
});

describe("the end of the VMM's process", () => {
  test("ends its memory, then its VMs and devices, and nobody calls any more", () => {
    met(`machine { devices ivshmem }\n${ERAS}${vm("a", 7)}let dev = vfio_open(0000:00:06.0)
let bar = mmap(0, 4K, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar2)
guest { ${LOAD} }
expect x2 == 7
exit_group()
expect event mmu_notifier_release
expect event vm_destroyed
expect event vfio_close
write64(aram, 1)
expect errno ESRCH`);
  });
  test("does not come while a vCPU runs", () => {
    met(`${vm("a", 7)}par {\n guest vcpu0 { ${LOAD} }\n vmm { exit_group() }\n}\nexpect errno EBUSY`);
  });
});

describe("ioeventfds", () => {
  test("write to the BAR until they are taken away", () => {
    met(`machine { devices ivshmem }\nlet dev = vfio_open(0000:00:06.0)
VFIO_DEVICE_IOEVENTFD(dev, bar2 + 0x10, 4, 0x55, 9)
eventfd_signal(9)
let now = pread(dev, 4, bar2 + 0x10)
expect now == 0x55
VFIO_DEVICE_IOEVENTFD(dev, bar2 + 0x10, 4, 0x55, -1)
pwrite(dev, 0, 4, bar2 + 0x10)
eventfd_signal(9)
let then = pread(dev, 4, bar2 + 0x10)
expect then == 0`);
  });
});
