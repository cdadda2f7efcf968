/** References that are not given back, planted. */
import { expect, test } from "vitest";
import { leavesOf } from "../../src/explore/spec/tables.js";
import type { Machine } from "../../src/machine.js";
import { explored } from "./planted.js";

const script = (before: string, vmm: string): string => `variant v6.12
let RAM = 0x80000000
let mem = mmap(0, 64K)
${before}
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=64K, userspace_addr=mem)
par {
  guest { mov x1, RAM; ldr x2, [x1] }
  vmm { ${vmm} }
}
`;
const WRITTEN = script("write64(mem, 7)", "read64(mem + 4K)");
const FRESH = script("", "write64(mem, 7)");
const GONE = script("write64(mem, 7)", "read64(mem + 4K)\n munmap(mem, 4K)");

/** The guest's page of data is never put; that of its code is. */
function keep(m: Machine): void {
  const { frames, pt } = m.mm;
  const { memslots } = m.kvm;
  const hva = memslots.gfnToHva(memslots.find(0, 0x80000), 0x80000);
  const put = frames.put.bind(frames);
  frames.put = (pfn) => {
    const leaves = leavesOf({ words: m.tables.words.a, base: m.tables.base }, pt.root(0), 0);
    if (leaves.find((l) => l.page === pfn)?.at !== hva) put(pfn);
  };
}

test.each([
  ["was mapped before", WRITTEN],
  ["is touched for the first time", FRESH],
  ["is unmapped", GONE],
])("a fault that keeps its reference of a page that %s is convicted", (_, source) => {
  expect(explored(source, () => undefined)).toBe("clear");
  expect(explored(source, keep)).toBe("references-given-back: page 0x… has 1 references more than before");
});
