/**
 * A guest whose pages are merged, compared with a naive list: of each page what it holds, which others share it, and how stage 2 has it:
 * not, read-only, or writable. Written from mm/ksm.c and mm/memory.c (who is told, by range and by change_pte) and from what KVM does
 * with both: a range empties stage 2, change_pte maps the new page read-only, and a guest's store to a merged page gets a copy.
 *
 * Six of the pages lie in two huge ones, and a child may share all. Whether a store takes a huge page apart, copies or keeps it, the
 * list asks the host's tables; what KSM splits, and what stage 2 has then, it knows.
 */
import fc from "fast-check";
import { describe, expect } from "vitest";
import { eraRow } from "../../src/eras.js";
import { Machine } from "../../src/machine.js";
import { MADV_HUGEPAGE, MADV_MERGEABLE, MADV_UNMERGEABLE } from "../../src/mmu/madvise.js";
import { FRAME_EXCLUSIVE } from "../../src/mmu/frames.js";
import { pteDirty } from "../../src/mmu/pte.js";
import { MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE } from "../../src/mmu/vmflags.js";
import { EAGAIN, EBUSY, EFAULT, EINVAL, ENOENT } from "../../src/sim/errno.js";
import { comparePrograms } from "../mmu/naivememory.js";
import { accessGuest, guestCode, setCode } from "./guestaccess.js";

const PAGE = 4096;
const RAM = 0x4000_0000;
/** The last page keeps the table of stage 2 alive: change_pte maps nothing where there is none, as in a block that no other page is mapped of. */
const PAGES = 9;
const LAST = PAGES - 1;
/** Two huge pages, and the pages of them that programs use: numbers LAST to LAST + 5 of a program. */
const BLOCK = 0x200000;
const HUGE_RAM = 0x8000_0000;
const HUGE_HVA = 0x10_0000_0000;
const OFFSETS = [0, 1, 511, 512, 515, 1023];

interface Frame {
  value: number;
  ksm: boolean;
  swapcache: boolean;
  /** The child has it too. */
  shared: boolean;
  /** PageAnonExclusive. */
  exclusive: boolean;
}
interface Page {
  readonly hva: number;
  readonly ipa: number;
  /** Which huge page it was a part of; -1: none. */
  readonly block: number;
  /** What the host's entry was after the last step: the page, its level, and the head of the huge page that it is part of or -1. */
  pfn: number;
  level: number;
  head: number;
  frame: Frame;
  mergeable: boolean;
  /** The host's entry: of the swap; it may be written. */
  swapped: boolean;
  writable: boolean;
  stage2: "none" | "ro" | "rw";
}

const page = fc.nat(LAST - 1 + OFFSETS.length);
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
  { weight: 2, arbitrary: fc.record({ op: fc.constantFrom("fork" as const, "kill" as const, "split" as const), page }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

class Program {
  private readonly m: Machine;
  private readonly mm;
  /** change_pte: called by the host, and heard by KVM. */
  private readonly told: boolean;
  private readonly vm;
  private readonly vcpu;
  private readonly pages: Page[] = [];
  private child = 0;

  constructor(kernel: string) {
    const m = (this.m = new Machine({ kernel, ram: 2 ** 27 }));
    const row = eraRow(kernel);
    this.mm = row.mm;
    this.told = row.mm.notifierChangePte && row.kvm.changePte;
    const anon = { prot: 3, flags: MAP_PRIVATE | MAP_ANONYMOUS };
    const code = guestCode(m);
    const hva = m.host.mmap({ length: PAGES * PAGE, ...anon });
    m.host.madvise(hva, PAGES * PAGE, MADV_MERGEABLE);
    m.host.mmap({ addr: HUGE_HVA, length: 2 * BLOCK, ...anon, flags: anon.flags | MAP_FIXED });
    for (const advice of [MADV_HUGEPAGE, MADV_MERGEABLE]) m.host.madvise(HUGE_HVA, 2 * BLOCK, advice);
    this.vm = m.createVm();
    setCode(this.vm, code);
    this.vm.setUserMemoryRegion({ slot: 1, flags: 0, guestPhysAddr: RAM, memorySize: PAGES * PAGE, userspaceAddr: hva });
    this.vm.setUserMemoryRegion({ slot: 2, flags: 0, guestPhysAddr: HUGE_RAM, memorySize: 2 * BLOCK, userspaceAddr: HUGE_HVA });
    this.vcpu = this.vm.createVcpu();
    const places = [
      ...Array.from({ length: LAST }, (_, p) => [hva, RAM, p, -1] as const),
      ...OFFSETS.map((p) => [HUGE_HVA, HUGE_RAM, p, Math.floor(p / 512)] as const),
      [hva, RAM, LAST, -1] as const,
    ];
    for (const [i, [from, ipa, p, block]] of places.entries()) {
      const rest = { pfn: -1, level: 3, head: -1, mergeable: true, swapped: false, writable: true, stage2: "rw" } as const;
      this.pages.push({ hva: from + p * PAGE, ipa: ipa + p * PAGE, block, frame: this.fresh(1), ...rest });
      this.access(i, true, 1);
    }
    this.look();
    expect(this.pages.map((p) => p.level)).toEqual(places.map(([, , , block]) => (block < 0 ? 3 : 2)));
  }

  private look(): void {
    const { pt, frames } = this.m.mm;
    for (const p of this.pages) {
      p.pfn = pt.walk(0, p.hva) ? pt.leafPfn : -1;
      p.level = pt.leafLevel;
      p.head = p.pfn >= 0 && frames.isThp(p.pfn) ? frames.head(p.pfn) : -1;
    }
  }

  private fresh(value: number): Frame {
    return { value, ksm: false, swapcache: false, shared: false, exclusive: true };
  }
  private alone(frame: Frame): boolean {
    return !frame.shared && this.pages.filter((q) => q.frame === frame).length === 1;
  }

  private access(page: number, store: boolean, value: number): number {
    const { vcpu } = this;
    const { ret, exit } = accessGuest(vcpu, this.pages[page]!.ipa + 8, store, value);
    expect([ret, exit.reason]).toEqual([0, "MMIO"]);
    return Number(vcpu.get("x1"));
  }

  /** An entry of the page was replaced: a range, and change_pte in it. */
  private replaced(p: Page): void {
    const table = p.block < 0 || this.blockOf(p).some((q) => q !== p && q.stage2 !== "none");
    p.stage2 = this.told && table ? "ro" : "none";
  }
  private copy(p: Page, writable: boolean): void {
    p.frame = this.fresh(p.frame.value);
    p.writable = writable;
    this.replaced(p);
  }

  /** The other pages of its block, and itself. */
  private blockOf(p: Page): Page[] {
    return p.block < 0 ? [p] : this.pages.filter((q) => q.block === p.block);
  }
  /** A range over the whole block. */
  private emptied(p: Page): void {
    for (const q of this.blockOf(p)) q.stage2 = "none";
  }

  /** A load or store of the host's, or GUP, that is over, of a page of a huge one. */
  private faultedHuge(p: Page, write: boolean): void {
    const { pt } = this.m.mm;
    pt.walk(0, p.hva);
    const { leafLevel, leafPfn, writable } = pt;
    if (p.level === 2 && leafLevel === 3) this.emptied(p);
    const whole = leafLevel === 2 ? this.blockOf(p) : [p];
    if (leafPfn !== p.pfn) {
      if (leafLevel === 2) this.emptied(p);
      for (const q of whole) this.copy(q, true);
      if (leafLevel === 2) this.emptied(p);
    } else if (write && !p.writable) {
      expect(p.frame.shared, "kept and the child's").toBe(false);
      for (const q of whole) q.writable = true;
    }
    expect(writable).toBe(p.writable);
  }

  /** A load or store of the host's, or GUP. */
  private fault(p: Page, write: boolean): void {
    if (p.head >= 0) return this.faultedHuge(p, write);
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
    const addr = p.hva;
    switch (s.op) {
      case "load":
      case "store": {
        const got = this.access(s.page, s.op === "store", s.value);
        if (p.stage2 === "none" || (s.op === "store" && p.stage2 === "ro")) {
          this.fault(p, s.op === "store" || this.mm.gupReadBreaksCow);
          // A copy that change_pte has mapped already is loaded from.
          if (s.op === "store" || p.stage2 === "none")
            for (const q of this.m.mm.zap.isHugePmd(0, addr) ? this.blockOf(p) : [p]) q.stage2 = p.writable ? "rw" : "ro";
        }
        if (s.op === "load") expect(got).toBe(p.frame.value);
        else p.frame.value = s.value;
        return;
      }
      case "hostLoad":
        expect(Number(this.m.host.read(addr + 8, 4).value)).toBe(p.frame.value);
        return this.fault(p, false);
      case "hostStore":
        this.m.host.write(addr + 8, 4, BigInt(s.value));
        this.fault(p, true);
        p.frame.value = s.value;
        return;
      case "fork":
        if (this.child !== 0) return;
        this.child = this.m.host.fork();
        for (const q of this.pages) {
          Object.assign(q, { writable: false, stage2: "none" });
          Object.assign(q.frame, { shared: true, exclusive: false });
        }
        return this.do({ op: "store", page: this.pages.length - 1, value: 1 });
      case "kill":
        if (this.child !== 0) this.m.host.kill(this.child);
        this.child = 0;
        for (const q of this.pages) q.frame.shared = false;
        return;
      case "split":
        if (p.head < 0) return;
        expect(this.m.call(0, { call: "split_huge_page", addr }).ret).toBe(0);
        return this.emptied(p);
      case "merge":
        return this.merge(s.page, s.other);
      case "mergeable":
      case "unmergeable": {
        // Both blocks together: a part of one would be a VMA of its own.
        const some = p.block >= 0 ? this.pages.filter((q) => q.block >= 0) : this.pages.slice(s.page, Math.min(s.page + s.pages, LAST));
        const [start, length] = p.block >= 0 ? [HUGE_HVA, 2 * BLOCK] : [addr, some.length * PAGE];
        expect(this.m.host.madvise(start, length, s.op === "mergeable" ? MADV_MERGEABLE : MADV_UNMERGEABLE)).toBe(0);
        for (const q of some) {
          if (s.op === "unmergeable" && q.mergeable) this.unmerge(q);
          q.mergeable = s.op === "mergeable";
        }
        return;
      }
      default: {
        const call =
          s.op === "migrate" ? ({ call: "migrate_pages", addr } as const) : ({ call: "shrink_folio_list", addr, force: true } as const);
        const r = this.m.call(0, call).ret;
        // A huge page is not swapped out, and moves where one entry maps it.
        if (p.head >= 0) {
          expect(r).toBe(s.op === "migrate" && p.level === 2 ? 0 : -EBUSY);
          return r === 0 ? this.emptied(p) : undefined;
        }
        expect(r).toBe(p.swapped ? -ENOENT : 0);
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
  private protect(p: Page, dirty: boolean, exclusive: boolean): void {
    const changes = p.writable || dirty || (this.mm.cowReuse === "exclusive" && exclusive);
    p.stage2 = "none";
    if (changes) this.replaced(p);
    p.writable = false;
    p.frame.exclusive = false;
  }

  /** Whether the entry is dirty; of a huge one's, when it has been split. */
  private dirty(p: Page): boolean {
    const { pt } = this.m.mm;
    pt.walk(0, p.hva);
    return p.level === 2 && this.mm.thpSplitDirty === "writable" ? p.writable : pteDirty(pt.lo, pt.hi);
  }

  private merge(stays: number, goes: number): void {
    const { frames } = this.m.mm;
    const [a, b] = [this.pages[stays]!, this.pages[goes]!];
    const dirty = [a, b].map((p) => this.dirty(p));
    // The mark of a huge page is the one of all its pages here.
    const exclusive = [a, b].map((p) => (p.head >= 0 ? (frames.flags(p.pfn) & FRAME_EXCLUSIVE) !== 0 : p.frame.exclusive));
    const r = this.m.call(0, { call: "try_to_merge_two_pages", addr: a.hva, other: b.hva }).ret;
    const [first, second] = [a, b].map((p) => (!p.mergeable ? -EINVAL : p.swapped ? -EFAULT : 0));
    if (first! < 0 || second! < 0) return expect(r).toBe(first! < 0 ? first : second);
    if (a.frame === b.frame) return expect(r).toBe(0);
    const together = a.head >= 0 && a.head === b.head;
    if (together && this.mm.thpSplit === "freeze") {
      expect(r).toBe(-EAGAIN);
      if (this.mm.ksmSameHugePage === "split") this.emptied(a);
      return;
    }
    const was = a.frame.ksm;
    if (a.head >= 0) this.emptied(a);
    if (!was) this.protect(a, dirty[0]!, exclusive[0]!);
    a.frame.ksm = true;
    if (b.head >= 0 && !together) this.emptied(b);
    this.protect(b, dirty[1]!, exclusive[1]!);
    expect(r).toBe(a.frame.value === b.frame.value ? 0 : -EBUSY);
    if (r === 0) {
      b.frame = a.frame;
      this.replaced(b);
    } else if (!was) this.unmerge(a);
  }

  wrong(): string | undefined {
    const leaves = new Map(this.vm.stage2Leaves().map((l) => [l.ipa, l]));
    const { pt, frames } = this.m.mm;
    this.look();
    for (const [i, p] of this.pages.entries()) {
      const whole = leaves.get(p.ipa - (p.ipa % BLOCK));
      const l = whole !== undefined && whole.size === BLOCK ? whole : leaves.get(p.ipa);
      const have = l === undefined ? "none" : (l.s2ap & 2) !== 0 ? "rw" : "ro";
      if (have !== p.stage2) return `page ${i}: stage 2 has ${have}, ${p.stage2} in the list`;
      const pa = l === undefined ? -1 : l.pa + (p.ipa - l.ipa);
      if (l !== undefined && p.pfn * PAGE !== pa) return `page ${i}: not the host's page`;
      if (l !== undefined && l.size === BLOCK && p.level !== 2) return `page ${i}: a block of what the host has in pages`;
      if (p.pfn >= 0 && pt.walk(0, p.hva) && pt.writable !== p.writable) return `page ${i}: ${pt.writable ? "" : "not "}writable`;
      if (p.pfn >= 0 && frames.isKsm(p.pfn) !== p.frame.ksm) return `page ${i}: KSM has it, or not`;
      for (const [k, q] of this.pages.entries()) {
        if (k <= i || p.swapped || q.swapped) continue;
        if ((p.pfn === q.pfn) !== (q.frame === p.frame)) return `pages ${i} and ${k} ${p.pfn === q.pfn ? "" : "do not "}share a page`;
      }
    }
    return undefined;
  }
}

describe("a guest whose pages KSM merges: contents, sharing and stage 2 are what a naive list has", () => {
  comparePrograms(["v4.0", "v5.4", "v5.8", "v5.14", "v6.4", "v6.12"], step, { longest: 50, runs: 3 }, (era) => new Program(era));
});
