import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { faultline } from "../cli/command.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-explore-"));
const script = join(folder, "race.guest");
writeFileSync(
  script,
  `variant v6.1
variant v6.8
let RAM = 0x80000000
let mem = mmap(0, 2M, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_HUGETLB, align=2M)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=2M, userspace_addr=mem)
par {
  guest vcpu0 { ldr x0, [RAM] }
  vmm { munmap(mem, 2M) mmap(mem, 4K, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED) }
}
`,
);
