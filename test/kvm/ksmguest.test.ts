/**
 * A guest whose pages are merged, compared with a naive list: of each page what it holds, which others share it, and how stage 2 has it:
 * not, read-only, or writable. Written from mm/ksm.c and mm/memory.c (who is told, by range and by change_pte) and from what KVM does
 * with both: a range empties stage 2, change_pte maps the new page read-only, and a guest's store to a merged page gets a copy.
 */
import fc from "fast-check";
import { describe, expect } from "vitest";
import { eraRow } from "../../src/eras.js";
import { Machine } from "../../src/machine.js";
import { MADV_MERGEABLE, MADV_UNMERGEABLE } from "../../src/mmu/madvise.js";
import { MAP_ANONYMOUS, MAP_PRIVATE } from "../../src/mmu/vmflags.js";
import { EBUSY, EFAULT, EINVAL, ENOENT } from "../../src/sim/errno.js";
import { comparePrograms } from "../mmu/naivememory.js";
import { accessGuest, guestCode, setCode } from "./guestaccess.js";

const PAGE = 4096;
const RAM = 0x4000_0000;
/** The last page keeps the table of stage 2 alive: change_pte maps nothing where there is none. */
const PAGES = 9;
const LAST = PAGES - 1;

interface Frame {
  value: number;
  ksm: boolean;
  swapcache: boolean;
  /** PageAnonExclusive. */
  exclusive: boolean;
}
interface Page {
  frame: Frame;
  mergeable: boolean;
  /** The host's entry: of the swap; it may be written. */
  swapped: boolean;
  writable: boolean;
  stage2: "none" | "ro" | "rw";
}

const page = fc.nat(LAST - 1);
const value = fc.integer({ min: 1, max: 2 });
const step = fc.oneof(
  { weight: 10, arbitrary: fc.record({ op: fc.constantFrom("load" as const, "store" as const, "store" as const), page, value }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constantFrom("hostLoad" as const, "hostStore" as const), page, value }) },
  { weight: 10, arbitrary: fc.record({ op: fc.constant("merge" as const), page, other: page }) },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constantFrom("unmergeable" as const, "mergeable" as const),
      page,
      pages: fc.integer({ min: 1, max: 4 }),
    }),
  },
  { weight: 4, arbitrary: fc.record({ op: fc.constantFrom("migrate" as const, "reclaim" as const), page }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

class Program {
  private readonly m: Machine;
  private readonly mm;
  /** change_pte: called by the host, and heard by KVM. */
  private readonly told: boolean;
  private readonly vm;
  private readonly vcpu;
  private readonly hva: number;
  private readonly pages: Page[] = [];

  constructor(kernel: string) {
    const m = (this.m = new Machine({ kernel, ram: 2 ** 27 }));
    const row = eraRow(kernel);
    this.mm = row.mm;
    this.told = row.mm.notifierChangePte && row.kvm.changePte;
    const anon = { prot: 3, flags: MAP_PRIVATE | MAP_ANONYMOUS };
    const code = guestCode(m);
    this.hva = m.host.mmap({ length: PAGES * PAGE, ...anon });
    m.host.madvise(this.hva, PAGES * PAGE, MADV_MERGEABLE);
    this.vm = m.createVm();
    setCode(this.vm, code);
    this.vm.setUserMemoryRegion({ slot: 1, flags: 0, guestPhysAddr: RAM, memorySize: PAGES * PAGE, userspaceAddr: this.hva });
    this.vcpu = this.vm.createVcpu();
    for (let p = 0; p < PAGES; p++) {
      this.pages.push({ frame: this.fresh(1), mergeable: true, swapped: false, writable: true, stage2: "rw" });
      this.access(p, true, 1);
    }
  }

  private fresh(value: number): Frame {
    return { value, ksm: false, swapcache: false, exclusive: true };
  }
  private alone(frame: Frame): boolean {
    return this.pages.filter((q) => q.frame === frame).length === 1;
  }

  private access(page: number, store: boolean, value: number): number {
    const { vcpu } = this;
    const { ret, exit } = accessGuest(vcpu, RAM + page * PAGE + 8, store, value);
    expect([ret, exit.reason]).toEqual([0, "MMIO"]);
    return Number(vcpu.get("x1"));
  }

  /** An entry of the page was replaced: a range, and change_pte in it. */
  private replaced(p: Page): void {
    p.stage2 = this.told ? "ro" : "none";
  }
  private copy(p: Page, writable: boolean): void {
    p.frame = this.fresh(p.frame.value);
    p.writable = writable;
    this.replaced(p);
  }

  /** A load or store of the host's, or GUP. */
  private fault(p: Page, write: boolean): void {
    if (p.swapped) {
      p.swapped = false;
      const mine = this.alone(p.frame) && !p.frame.ksm;
      if (mine) p.frame.exclusive = true;
      p.writable = write && mine;
    }
    if (!write || p.writable) return;
    const { frame } = p;
    if (this.alone(frame) && (!frame.ksm || (this.mm.ksmReuse && !frame.swapcache))) {
      Object.assign(frame, { ksm: false, exclusive: true });
      p.writable = true;
    } else this.copy(p, true);
  }

  /** unmerge_ksm_pages. */
  private unmerge(p: Page): void {
    if (p.frame.ksm && !p.swapped) this.copy(p, this.mm.ksmBreak === "write");
  }

  do(s: Step): void {
    const p = this.pages[s.page]!;
    const addr = this.hva + s.page * PAGE;
    switch (s.op) {
      case "load":
      case "store": {
        if (p.stage2 === "none" || (s.op === "store" && p.stage2 === "ro")) {
          this.fault(p, s.op === "store" || this.mm.gupReadBreaksCow);
          // A copy that change_pte has mapped already is loaded from.
          if (s.op === "store" || p.stage2 === "none") p.stage2 = p.writable ? "rw" : "ro";
        }
        const got = this.access(s.page, s.op === "store", s.value);
        if (s.op === "load") expect(got).toBe(p.frame.value);
        else p.frame.value = s.value;
        return;
      }
      case "hostLoad":
        this.fault(p, false);
        return expect(Number(this.m.host.read(addr + 8, 4).value)).toBe(p.frame.value);
      case "hostStore":
        this.fault(p, true);
        this.m.host.write(addr + 8, 4, BigInt(s.value));
        p.frame.value = s.value;
        return;
      case "merge":
        return this.merge(s.page, s.other);
      case "mergeable":
      case "unmergeable": {
        const n = Math.min(s.pages, LAST - s.page);
        expect(this.m.host.madvise(addr, n * PAGE, s.op === "mergeable" ? MADV_MERGEABLE : MADV_UNMERGEABLE)).toBe(0);
        for (const q of this.pages.slice(s.page, s.page + n)) {
          if (s.op === "unmergeable" && q.mergeable) this.unmerge(q);
          q.mergeable = s.op === "mergeable";
        }
        return;
      }
      default: {
        const call =
          s.op === "migrate" ? ({ call: "migrate_pages", addr } as const) : ({ call: "shrink_folio_list", addr, force: true } as const);
        expect(this.m.call(0, call).ret).toBe(p.swapped ? -ENOENT : 0);
        if (p.swapped) return;
        for (const q of this.pages) {
          if (q.frame !== p.frame || q.swapped) continue;
          q.stage2 = "none";
          if (s.op === "reclaim") Object.assign(q, { swapped: true, writable: false });
        }
        if (s.op === "reclaim") p.frame.swapcache = true;
      }
    }
  }

  /** write_protect_page: what is read-only, clean and not marked as this process's alone stays, and only the range is told. */
  private protect(p: Page): void {
    const changes = p.writable || (this.mm.cowReuse === "exclusive" && p.frame.exclusive);
    p.stage2 = "none";
    if (changes) this.replaced(p);
    p.writable = false;
    p.frame.exclusive = false;
  }

  private merge(stays: number, goes: number): void {
    const [a, b] = [this.pages[stays]!, this.pages[goes]!];
    const r = this.m.call(0, { call: "try_to_merge_two_pages", addr: this.hva + stays * PAGE, other: this.hva + goes * PAGE }).ret;
    const [first, second] = [a, b].map((p) => (!p.mergeable ? -EINVAL : p.swapped ? -EFAULT : 0));
    if (first! < 0 || second! < 0) return expect(r).toBe(first! < 0 ? first : second);
    if (a.frame === b.frame) return expect(r).toBe(0);
    const was = a.frame.ksm;
    if (!was) this.protect(a);
    a.frame.ksm = true;
    this.protect(b);
    expect(r).toBe(a.frame.value === b.frame.value ? 0 : -EBUSY);
    if (r === 0) {
      b.frame = a.frame;
      this.replaced(b);
    } else if (!was) this.unmerge(a);
  }

  wrong(): string | undefined {
    const leaves = new Map(this.vm.stage2Leaves().map((l) => [(l.ipa - RAM) / PAGE, l]));
    const { pt } = this.m.mm;
    for (const [i, p] of this.pages.entries()) {
      const l = leaves.get(i);
      const have = l === undefined ? "none" : (l.s2ap & 2) !== 0 ? "rw" : "ro";
      if (have !== p.stage2) return `page ${i}: stage 2 has ${have}, ${p.stage2} in the list`;
      if (l !== undefined && (!pt.walk(0, this.hva + i * PAGE) || pt.leafPfn * PAGE !== l.pa)) return `page ${i}: not the host's page`;
      const [at, frame] = [pt.walk(0, this.hva + i * PAGE) ? pt.leafPfn : -1, p.frame];
      for (const [k, q] of this.pages.entries()) {
        if (k <= i || p.swapped || q.swapped) continue;
        const same = pt.walk(0, this.hva + k * PAGE) && pt.leafPfn === at;
        if (same !== (q.frame === frame)) return `pages ${i} and ${k} ${same ? "" : "do not "}share a page`;
      }
    }
    return undefined;
  }
}

describe("a guest whose pages KSM merges: contents, sharing and stage 2 are what a naive list has", () => {
  comparePrograms(["v4.0", "v5.4", "v5.8", "v5.14", "v6.4", "v6.12"], step, { longest: 50, runs: 3 }, (era) => new Program(era));
});
