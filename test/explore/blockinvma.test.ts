/** A block of a device's mapping that reaches beyond its VMA, as the kernels make it that compute block sizes from the VMA alone. */
import { expect, test } from "vitest";
import { explored } from "./planted.js";

/** The block's second half is another VMA of the same slot. */
const source = (kernel: string, length: string, touched: string): string => `machine { devices ivshmem }
variant ${kernel}
let BAR = 0x80000000
let HOST = 0x10000000000
let dev = vfio_open(0000:00:06.0)
mmap(HOST, 2M, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)
mmap(HOST, ${length}, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, dev, bar2)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=BAR, memory_size=2M, userspace_addr=HOST)
par {
  guest { mov x1, BAR; ldr x0, [x1, #${touched}] }
  vmm { read32(HOST) }
}
`;
const asked = (kernel: string, length = "1M", touched = "0"): string =>
  explored(source(kernel, length, touched), () => undefined, ["block-inside-vma"]);

test.each(["v5.14", "v6.1", "v6.12"])("%s rounds the first address of a block up to itself, and maps beyond the VMA's end", (kernel) => {
  expect(asked(kernel)).toBe("block-inside-vma: a block of 2 MiB at IPA 0x… reaches beyond the VMA 0x…-0x…");
});

test.each(["v5.14", "v6.1", "v6.12"])(
  "%s sees the end of the VMA from any other address of the block, and a VMA that is long enough",
  (kernel) => {
    expect(asked(kernel, "1M", "0x1000")).toBe("clear");
    expect(asked(kernel, "2M")).toBe("clear");
  },
);

test.each(["v5.5", "v6.1.192", "v6.12.117", "v7.2.12"])("%s maps pages, or what the host's leaf has", (kernel) => {
  expect(asked(kernel)).toBe("clear");
});
