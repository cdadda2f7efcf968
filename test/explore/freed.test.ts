/** Each way in which a page or table can be free and still in use, planted: the invariant that says so, and what it says. */
import { describe, expect, test } from "vitest";
import { TLBI_IPAS2E1, TlbiKind } from "../../src/arch/tlbi.js";
import type { Machine } from "../../src/machine.js";
import { STAGE1 } from "./mutants/scripts.js";
import { explored } from "./planted.js";

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
/** The thread that discards has reached the page itself. */
const REACHED = script("vmm { read64(mem)\n madvise(mem, 4K, MADV_DONTNEED) }", IDLE);
const FORK = script("vmm { fork()\n munmap(mem, 4K) }");
/** With stage 1 on: TLBs hold leaves of stage 2 by themselves. */
const APART = DISCARD.replace("par {", `${STAGE1}par {`);

/** No TLBI of this kind (its low four bits) is issued. */
function without({ pe: { maintenance } }: Machine, kind: number): void {
  const issue = maintenance.issue.bind(maintenance);
  maintenance.issue = (cpu, op, vmid, hi, lo) => ((op & 15) === kind ? undefined : issue(cpu, op, vmid, hi, lo));
}

/** What the page's invariant alone says of it. */
const freed = (source: string, plant: (m: Machine) => void): string => explored(source, plant, ["no-freed-page"]);
const WHILE = "no-freed-page: page 0x… was freed while ";

describe("a page that is freed while something leads to it", () => {
  test.each([DISCARD, REACHED, FORK, APART])("is all that is wrong: without a defect the script is clear", (source) => {
    expect(explored(source, () => undefined)).toBe("clear");
  });

  test("zap leaves the entry of a page that it drops", () => {
    const leave = ({ mm: { pt } }: Machine): void => {
      const set = pt.setEntry.bind(pt);
      pt.setEntry = (mm, addr, level, e, lo, hi) => ((lo | hi) === 0 ? undefined : set(mm, addr, level, e, lo, hi));
    };
    expect(explored(REACHED, leave)).toBe(`${WHILE}the host maps it at 0x…`);
  });

  test("the child of a fork maps the parent's page without a reference", () => {
    expect(explored(FORK, ({ mm: { frames } }) => (frames.addMapping = () => undefined))).toBe(`${WHILE}the host maps it at 0x…`);
  });

  test("the host's TLB is not flushed before the page goes", () => {
    expect(explored(REACHED, ({ mm: { pt } }) => (pt.tlb.flushRange = () => undefined))).toBe(
      `${WHILE}the TLB of CPU 0 holds it for the host`,
    );
  });

  test("KVM is not told, and stage 2 keeps the page", () => {
    expect(freed(DISCARD, ({ kvm }) => (kvm.stage2.unmapper.walkChunk = () => false))).toBe(`${WHILE}stage 2 maps it at IPA 0x…`);
  });

  test.each([
    ["translations", DISCARD, TlbiKind.Vmalle1],
    ["leaves of stage 2", APART, TLBI_IPAS2E1],
  ])("KVM leaves the TLB's %s", (_, source, kind) => {
    expect(freed(source, (m) => without(m, kind))).toBe(`${WHILE}the TLB of CPU 0 holds it`);
  });
});
