/** Pages of a huge page that KVM maps one by one: each is the one that was touched, also where the host's walk went to the huge page's head. */
import { expect, test } from "vitest";
import { failures, runAll } from "../guest/run.js";

const KERNELS = ["v5.4", "v5.14", "v6.1", "v6.12.117", "v7.2.12"].map((k) => `variant ${k}`).join("\n");
/** Memory of two huge pages behind a slot that does not lie as it does: no block fits. */
const script = (flags: string, size: string, before = ""): string => `${KERNELS}
${before}
let HOST = 0x7e0000000000
let RAM = 0xc0003000
mmap(HOST, ${size}, PROT_READ|PROT_WRITE, MAP_FIXED|MAP_PRIVATE|MAP_ANONYMOUS${flags})
madvise(HOST, ${size}, MADV_HUGEPAGE)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=${size}, userspace_addr=HOST)
guest { mov x0, RAM + 0x1b7000; ldr x4, [x0] }
guest { mov x0, RAM + 0x1ff000; mov x1, 1; str x1, [x0] }
guest { mov x0, RAM + 0x204000; mov x1, 2; str x1, [x0] }
guest { mov x0, RAM + 0x1b7000; mov x1, 3; str x1, [x0] }
let head = read64(HOST)
let read = read64(HOST + 0x1b7000)
let written = read64(HOST + 0x1ff000)
let second = read64(HOST + 0x204000)
expect head == 0
expect read == 3
expect written == 1
expect second == 2
`;

test.each([
  ["a transparent huge page", "", "4M", ""],
  ["hugetlb pages of 2 MiB", "|MAP_HUGETLB", "4M", ""],
  ["hugetlb pages of 64 KiB", "|MAP_HUGETLB|(16 << 26)", "4M", "nr_hugepages(64K, 64)"],
  ["a hugetlb page of 32 MiB", "|MAP_HUGETLB|(25 << 26)", "32M", "nr_hugepages(32M, 1)"],
])("%s", (_, flags, size, before) => {
  const results = runAll(script(flags, size, before));
  expect(results.map((r) => r.outcomes.length)).toEqual(results.map(() => 4));
  expect(failures(results)).toEqual([]);
});
