/** Each way in which a page or table can be free and still in use, planted: the invariant that says so, and what it says. */
import { describe, expect, test } from "vitest";
import { observer, stage } from "../../src/explore/explore.js";
import type { Wrong } from "../../src/explore/invariants/index.js";
import { Search } from "../../src/explore/search.js";
import { compile } from "../../src/guest/compile.js";
import { machineWorld } from "../../src/guest/machineworld.js";
import type { Machine } from "../../src/machine.js";

/** Every interleaving of a script on a machine with a defect. @param only invariants to ask; all if absent */
function explored(source: string, plant: (m: Machine) => void, only?: readonly string[]): string {
  const program = compile("freed.guest", source, machineWorld);
  const s = stage(program, program.variants[0]!, only)!;
  plant(s.machine);
  const last: { wrong: Wrong | undefined } = { wrong: undefined };
  const found = new Search(s.system, observer(s, last), {}).run();
  if (found.ending === "complete") return "clear";
  return `${last.wrong!.invariant.name}: ${last.wrong!.what}`;
}

const PREFIX = `variant v6.12
let RAM = 0x80000000
let mem = mmap(0, 64K)
write64(mem, 7)
write64(mem + 4K, 7)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=64K, userspace_addr=mem)
`;
const script = (vmm: string, guest = "mov x1, RAM; ldr x2, [x1]"): string => `${PREFIX}par {\n  guest { ${guest} }\n  ${vmm}\n}\n`;
/** A guest that touches nothing. */
const IDLE = "mov x1, 1";
const DISCARD = script("vmm { madvise(mem, 4K, MADV_DONTNEED) }");
const FORK = script("vmm { fork()\n munmap(mem, 4K) }");
const MERGE = script("kthread ksmd { ksm_merge(mem, mem + 4K) }");

const freed = (where: string): RegExp => new RegExp(`^no-freed-page: page 0x[0-9a-f]+ was freed while ${where}$`);

describe("a page is freed while it is in use", () => {
  test.each([DISCARD, FORK])("is all that is wrong: without a defect the script is clear", (source) => {
    expect(explored(source, () => undefined)).toBe("clear");
  });

  test("zap drops a page whose entry it leaves", () => {
    const said = explored(script("vmm { madvise(mem, 4K, MADV_DONTNEED) }", IDLE), ({ mm: { pt } }) => {
      const set = pt.setEntry.bind(pt);
      pt.setEntry = (mm, addr, level, e, lo, hi) => ((lo | hi) === 0 ? undefined : set(mm, addr, level, e, lo, hi));
    });
    expect(said).toMatch(freed("the host maps it at 0x[0-9a-f]+"));
  });

  test("the child of a fork maps the parent's page without a reference", () => {
    const said = explored(FORK, ({ mm: { frames } }) => (frames.addMapping = () => undefined));
    expect(said).toMatch(freed("the host maps it at 0x[0-9a-f]+"));
  });
});
