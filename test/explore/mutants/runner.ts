/** Explores the scripts below and prints, for each variant, the invariant that breaks: run on a bundle with one thing removed. */
import { exploreVariant } from "../../../src/explore/explore.js";
import { compile } from "../../../src/guest/compile.js";
import { machineWorld } from "../../../src/guest/machineworld.js";

const VARIANTS = `variant v5.4
variant v6.1
variant v6.12
variant v6.12-norange { kernel v6.12 cpu cortex-a76 }
`;
const MEMORY = `let RAM = 0x80000000
let mem = mmap(0, 2M, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, align=2M)
madvise(mem, 2M, MADV_NOHUGEPAGE)
`;
const SCRIPTS: Readonly<Record<string, string>> = {
  unmap: `${VARIANTS}${MEMORY}KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=2M, userspace_addr=mem)
par {
  guest vcpu0 { mov x1, RAM; str x1, [x1]; ldr x2, [x1] }
  vmm { madvise(mem, 4K, MADV_DONTNEED) }
}
`,
  dirty: `${VARIANTS}${MEMORY}KVM_SET_USER_MEMORY_REGION(slot=1, flags=1, guest_phys_addr=RAM, memory_size=2M, userspace_addr=mem)
guest { mov x1, RAM; str x1, [x1] }
par {
  guest vcpu0 { mov x1, RAM; str x1, [x1] }
  vmm { KVM_GET_DIRTY_LOG(slot=1) }
}
`,
};

const out: Record<string, string> = {};
for (const [name, source] of Object.entries(SCRIPTS)) {
  const program = compile(name, source, machineWorld);
  for (const variant of program.variants) {
    try {
      const e = await exploreVariant(program, variant, { minimise: false, maxSteps: 200_000 });
      if (e.violation !== undefined) out[`${name} ${variant.name}`] = e.violation.invariant;
      else if (e.found.ending !== "complete") out[`${name} ${variant.name}`] = `not complete: ${e.found.ending}`;
    } catch (error) {
      out[`${name} ${variant.name}`] = `error: ${(error as Error).message}`;
    }
  }
}
process.stdout.write(JSON.stringify(out));
