/** Merged pages by release. What random programs do with them is in ksmnaive.test.ts. */
import { describe, expect, it } from "vitest";
import * as M from "../../src/mmu/madvise.js";
import { HOST_SIGBUS_MCEERR_AR } from "../../src/mmu/useraccess.js";
import { MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE } from "../../src/mmu/vmflags.js";
import { EBUSY } from "../../src/sim/errno.js";
import { Bench } from "./faultbench.js";

const AT = 0x40_0000_0000;
const PAGE = 4096;

describe("merged pages by release", () => {
  /** Two pages that are one. */
  const merged = (era: string): Bench => {
    const b = new Bench(era, { thp: "never" });
    b.map(AT, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED);
    expect(b.run(b.mm.syscalls.madvise, 0, AT, 2 * PAGE, M.MADV_MERGEABLE)).toBe(0);
    for (const p of [0, 1]) b.write(AT + p * PAGE, 9);
    expect(b.run(b.mm.ksm.mergeTwo, 0, AT, AT + PAGE, 0)).toBe(0);
    return b;
  };
  const advise = (b: Bench, length: number, advice: number) => b.run(b.mm.syscalls.madvise, 0, AT, length, advice);

  it("ksmReuse: a page of KSM that nobody else maps is copied at a write, or kept", () => {
    const kept = (era: string) => {
      const b = merged(era);
      b.write(AT, 1);
      b.mm.pt.walk(0, AT + PAGE);
      const pfn = b.mm.pt.leafPfn;
      b.write(AT + PAGE, 2);
      b.mm.pt.walk(0, AT + PAGE);
      return b.mm.pt.leafPfn === pfn;
    };
    expect(["v4.20", "v5.4", "v5.8", "v5.11"].map(kept)).toEqual([false, true, true, false]);
  });

  it("ksmBreak: the entries that MADV_UNMERGEABLE leaves may be written, or the next write asks again", () => {
    const entries = (era: string) => {
      const b = merged(era);
      expect(advise(b, 2 * PAGE, M.MADV_UNMERGEABLE)).toBe(0);
      const after = b.leaves().map((l) => l.slice(-1));
      b.told();
      b.write(AT, 1);
      return [after.join(""), b.told().length]; // the page is its own already: nobody is told
    };
    expect([entries("v6.1"), entries("v6.4")]).toEqual([
      ["ww", 0],
      ["rr", 0],
    ]);
  });

  it("hwpoisonKsm: a broken page of KSM is left where it is mapped, or taken out everywhere", () => {
    const broken = (era: string) => {
      const b = merged(era);
      const r = advise(b, PAGE, M.MADV_HWPOISON);
      return [r, b.read(AT), b.read(AT + PAGE)];
    };
    expect([broken("v6.1"), broken("v6.4")]).toEqual([
      [-EBUSY, 0, 0],
      [0, HOST_SIGBUS_MCEERR_AR, HOST_SIGBUS_MCEERR_AR],
    ]);
  });

  it("a merge that fails half way leaves the first page as the process's own", () => {
    const b = merged("v6.1");
    for (const p of [0, 1]) b.write(AT + p * PAGE, 3 + p);
    expect(b.run(b.mm.ksm.mergeTwo, 0, AT, AT + PAGE, 0)).toBe(-EBUSY);
    b.told();
    b.write(AT, 5);
    expect(b.told()).toEqual([]);
  });
});
