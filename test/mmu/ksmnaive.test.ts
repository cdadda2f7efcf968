/**
 * Random programs of processes whose equal pages are merged, compared with a naive list: of each process which page stands at each
 * address, whether KSM has it, and how it is mapped. Written from mm/ksm.c, mm/memory.c do_wp_page and mm/mremap.c move_vma. Beside
 * it, what the reverse mapping has to find: migration, swap and memory failure reach a page wherever fork, mremap and KSM have put it.
 * Two blocks of the memory are huge pages as long as the kernel leaves them so: whether a fault takes, keeps or copies one the list asks
 * the tables. What splits them, and what refuses to, it knows.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FOLL_WRITE } from "../../src/mmu/gup.js";
import { FRAME_ANON, FRAME_KSM } from "../../src/mmu/frames.js";
import * as M from "../../src/mmu/madvise.js";
import { MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE } from "../../src/mmu/mremap.js";
import { SWP_SWAP, swapEntryPfn, swapEntryType } from "../../src/mmu/pte.js";
import { HOST_SIGBUS_MCEERR_AR, HOST_SIGSEGV } from "../../src/mmu/useraccess.js";
import { MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE } from "../../src/mmu/vmflags.js";
import { EAGAIN, EBUSY, EFAULT, EINVAL, ENOENT } from "../../src/sim/errno.js";
import {
  Host,
  LONG,
  type NaiveFile,
  PAGE,
  PLACES,
  play,
  runsOr,
  SEED,
  stepsOr,
  type Process as Contents,
  type Words,
} from "./naivememory.js";

const AT = 0x40_0000_0000;
const FIRST = AT / PAGE;
/** The last ones are a private mapping of a file. */
const PAGES = 16;
const FILED = 10;

/** Two blocks of 2 MiB, and the pages of them that programs use. */
const HUGE = 1024;
const OFFSETS = [0, 1, 2, 16, 511, 512, 513, 1023];
const HUGE_PAGES = 1024;

/** A page of memory: what it holds, whether KSM has it, whether it was in the swap once. */
interface Frame {
  readonly words: Words;
  ksm: boolean;
  swapcache: boolean;
}
const POISON = "poison";
interface Slot {
  prot: number;
  mergeable: boolean;
  /** What the entry names; "zero": the zero page. */
  frame: Frame | "zero" | typeof POISON | undefined;
  /** It is a swap entry. */
  swapped: boolean;
  /** The file that is mapped privately, and the page of it. */
  readonly file: NaiveFile | undefined;
  readonly pgoff: number;
}
type Process = Map<number, Slot>;

const page = fc.nat(PAGES + OFFSETS.length - 1);
const pages = fc.constantFrom(1, 1, 2, 3, 5, PAGES, 512);
/** Where a page of a program is; beyond `small` ones in the blocks. */
const place = (page: number, small = PAGES): number => FIRST + (page < small ? page : HUGE + OFFSETS[page - small]!);
const who = fc.nat(2);
const step = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      op: fc.constantFrom("store" as const, "store" as const, "load" as const),
      who,
      page,
      place: fc.nat(1),
      value: fc.integer({ min: 1, max: 2 }),
    }),
  },
  { weight: 4, arbitrary: fc.record({ op: fc.constantFrom("gup" as const, "gupWrite" as const), who, page }) },
  { weight: 12, arbitrary: fc.record({ op: fc.constant("merge" as const), who, page, with: who, other: page, held: fc.nat(9) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constantFrom("mergeable" as const, "unmergeable" as const, "dontneed" as const, "munmap" as const, "mmap" as const),
      who,
      page,
      pages,
    }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("mprotect" as const), who, page, pages, prot: fc.constantFrom(0, 1, 3, 3) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant("mremap" as const),
      who,
      page,
      pages,
      to: fc.nat(2 * PAGES + OFFSETS.length - 1),
      keep: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constantFrom("fork" as const, "fork" as const, "exit" as const), who, page }) },
  { weight: 6, arbitrary: fc.record({ op: fc.constantFrom("migrate" as const, "reclaim" as const), who, page, held: fc.nat(9) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("split" as const), who, page, held: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("poison" as const), who, page, held: fc.constant(1) }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

class Program {
  readonly h: Host;
  private readonly processes = new Map<number, Process>([[0, new Map()]]);
  private readonly file: NaiveFile;
  private readonly frames0: number;
  private lost = 0;
  /** Where each frame was after the last step, and of those that were part of a huge page, of which. */
  private pfns = new Map<Frame, number>();
  private big = new Map<Frame, number>();
  /** The last step has moved no page. */
  private still = false;

  constructor(era: string) {
    const h = (this.h = new Host(era, "always"));
    this.frames0 = h.mm.frames.allocated;
    this.map(0, FIRST, PAGES);
    const size = 64 * PAGE;
    this.file = { file: h.mm.files.createMemfd(size), kind: "shmem", span: 1, size, pages: new Map() };
    expect(h.mmap(0, AT + FILED * PAGE, (PAGES - FILED) * PAGE, 3, MAP_PRIVATE | MAP_FIXED, this.file.file, 7 * PAGE)).toBe(
      AT + FILED * PAGE,
    );
    for (let p = FILED; p < PAGES; p++) this.processes.get(0)!.set(FIRST + p, this.blank(this.file, p - FILED + 7));
    this.map(0, FIRST + HUGE, HUGE_PAGES);
    this.advise(0, FIRST, PAGES, M.MADV_MERGEABLE);
    this.advise(0, FIRST + HUGE, HUGE_PAGES, M.MADV_MERGEABLE);
    for (const s of this.processes.get(0)!.values()) s.mergeable = true;
  }

  private map(mm: number, start: number, pages: number): void {
    const process = this.processes.get(mm)!;
    expect(this.h.mmap(mm, start * PAGE, pages * PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)).toBe(start * PAGE);
    for (let p = start; p < start + pages; p++) process.set(p, this.blank());
  }
  private blank(file?: NaiveFile, pgoff = 0): Slot {
    return { prot: 3, mergeable: false, frame: undefined, swapped: false, file, pgoff };
  }
  private advise(mm: number, start: number, pages: number, advice: number): number {
    return this.h.run(this.h.mm.syscalls.madvise, mm, start * PAGE, pages * PAGE, advice);
  }

  private whose(n: number): [number, Process] {
    const all = [...this.processes];
    return all[n % all.length]!;
  }
  private hasAnonVma(mm: number, page: number): boolean {
    return this.h.mm.vmas.anonVma(this.h.mm.vmas.covering(mm, page * PAGE)) !== 0;
  }
  private fresh(words: Words = [0, 0]): Frame {
    return { words, ksm: false, swapcache: false };
  }
  private naming(frame: Frame): Slot[] {
    return [...this.processes.values()].flatMap((p) => [...p.values()].filter((s) => s.frame === frame));
  }

  /** What the processor or GUP has done to be able to load or store. @returns the page, or what comes instead */
  private fault(mm: number, page: number, write: boolean): Frame | "zero" | "segv" | typeof POISON {
    const process = this.processes.get(mm)!;
    const s = process.get(page);
    if (s === undefined || (s.prot & (write ? PROT_WRITE : PROT_READ | PROT_WRITE)) === 0) return "segv";
    if (s.frame === POISON) return POISON;
    const huge = this.hugeEntry(mm, process, page);
    s.frame ??= "zero";
    s.swapped = false;
    if (!write || huge) return s.frame;
    const old = s.frame;
    if (old !== "zero" && this.big.has(old)) {
      if (this.h.mm.pt.walk(mm, page * PAGE) && this.h.mm.pt.leafPfn !== this.pfns.get(old)) s.frame = this.fresh([...old.words]);
    } else this.own(s);
    return s.frame;
  }

  /** The whole block that a fault has taken, kept or copied, if the tables have one entry for it. @returns true: a page of it is the slot's */
  private hugeEntry(mm: number, process: Process, page: number): boolean {
    const { pt, frames } = this.h.mm;
    if (!pt.walk(mm, page * PAGE) || pt.leafLevel !== 2) return false;
    const zero = frames.isHugeZeroPage(pt.leafPfn);
    const first = page - (page % 512);
    const at = process.get(page)!.frame;
    const copied = typeof at === "object" && this.pfns.get(at) !== pt.leafPfn;
    for (let p = first; p < first + 512; p++) {
      const q = process.get(p)!;
      if (typeof q.frame !== "object") {
        expect(typeof at, "a huge page where some pages are there already").not.toBe("object");
        q.frame = zero ? "zero" : this.fresh();
      } else if (copied) q.frame = this.fresh([...q.frame.words]);
    }
    return !zero;
  }

  /** do_wp_page: the page of the slot becomes its own. */
  private own(s: Slot): void {
    const old = s.frame as Frame | "zero";
    if (old === "zero") s.frame = this.fresh();
    else {
      const alone = this.naming(old).length === 1;
      const keeps = alone && (!old.ksm || (this.h.d.ksmReuse && !old.swapcache));
      if (keeps) old.ksm = false;
      else s.frame = this.fresh([...old.words]);
    }
  }

  /** unmerge_ksm_pages: what is in the swap stays. */
  private unmerge(s: Slot | undefined): void {
    if (s === undefined || typeof s.frame !== "object" || !s.frame.ksm || s.swapped) return;
    s.frame = this.fresh([...s.frame.words]);
  }

  do(s: Step): void {
    const { h } = this;
    const [mm, process] = this.whose(s.who);
    const number = place(s.page);
    const at = process.get(number);
    this.still = s.op === "merge" || s.op === "split";
    // A page of the file is never mapped: who reads one maps its neighbours too.
    if (at?.file !== undefined && at.frame === undefined && (s.op === "load" || s.op === "gup")) return;
    switch (s.op) {
      case "fork": {
        if (this.processes.size > 2) return;
        const child = h.run(h.mm.syscalls.fork, mm);
        h.hear(child);
        // Of a VMA that has had no page of its own nothing is copied.
        const copy = new Map([...process].map(([p, q]) => [p, { ...q, frame: this.hasAnonVma(mm, p) ? q.frame : undefined }]));
        this.processes.set(child, copy);
        return;
      }
      case "exit":
        if (mm === 0) return;
        h.run(h.mm.syscalls.exitMm, mm);
        this.processes.delete(mm);
        return;
      case "merge":
        return this.merge(mm, number, this.whose(s.with)[0], place(s.other), s.held);
      case "split":
        return this.split(mm, number, at, s.held);
      case "mremap":
        return this.mremap(mm, process, s);
      case "load":
      case "store": {
        const r = h.run(h.mm.hostAccess, mm, number * PAGE + PLACES[s.place]!, 4, s.op === "store" ? 1 : 0, s.value, 0);
        const want = this.fault(mm, number, s.op === "store");
        if (typeof want === "string" && want !== "zero") return expect(r).toBe(want === "segv" ? HOST_SIGSEGV : HOST_SIGBUS_MCEERR_AR);
        expect(r).toBe(0);
        if (s.op === "load") expect(h.sim.agents.result(0, 1)).toBe(want === "zero" ? 0 : want.words[s.place]);
        else (want as Frame).words[s.place] = s.value;
        return;
      }
      case "gup":
      case "gupWrite": {
        const write = s.op === "gupWrite" || (h.d.gupReadBreaksCow && at !== undefined && (at.prot & PROT_WRITE) !== 0);
        const readable = at !== undefined && (at.prot & (s.op === "gupWrite" ? PROT_WRITE : PROT_READ)) !== 0;
        const r = h.gupPage(mm, number, s.op === "gupWrite" ? FOLL_WRITE : 0);
        const want = readable ? this.fault(mm, number, write) : "segv";
        return expect(r).toBe(want === "segv" || want === POISON ? -EFAULT : 0);
      }
      case "migrate":
      case "reclaim":
      case "poison":
        return this.kernel(s.op, mm, process, number, s.held);
      default:
        return this.range(s, mm, process);
    }
  }

  private range(s: Extract<Step, { pages: number }>, mm: number, process: Process): void {
    const { h } = this;
    const start = place(s.page);
    const n = Math.min(s.pages, s.page < PAGES ? PAGES - s.page : HUGE_PAGES - OFFSETS[s.page - PAGES]!);
    const parts = Array.from({ length: n }, (_, i) => start + i);
    const slots = parts.map((p) => process.get(p));
    const all = !slots.includes(undefined);
    switch (s.op) {
      case "munmap":
        expect(h.run(h.mm.syscalls.munmap, mm, start * PAGE, n * PAGE)).toBe(0);
        for (const p of parts) process.delete(p);
        return;
      case "mmap":
        return this.map(mm, start, n);
      case "mprotect": {
        if (!all) return;
        expect(h.run(h.mm.syscalls.mprotect, mm, start * PAGE, n * PAGE, s.prot)).toBe(0);
        for (const q of slots) q!.prot = s.prot;
        return;
      }
      case "dontneed":
        this.advise(mm, start, n, M.MADV_DONTNEED);
        for (const q of slots) if (q !== undefined) Object.assign(q, { frame: undefined, swapped: false });
        return;
      case "mergeable":
      case "unmergeable":
        if (!all) return;
        expect(this.advise(mm, start, n, s.op === "mergeable" ? M.MADV_MERGEABLE : M.MADV_UNMERGEABLE)).toBe(0);
        for (const q of slots) {
          if (s.op === "unmergeable" && q!.mergeable) this.unmerge(q);
          q!.mergeable = s.op === "mergeable";
        }
    }
  }

  /** try_to_merge_two_pages. @param held 0: somebody holds the page that goes */
  private merge(mm: number, stays: number, mm2: number, goes: number, held: number): void {
    const { h } = this;
    const a = this.processes.get(mm)!.get(stays);
    const b = this.processes.get(mm2)!.get(goes);
    const there = (s: Slot | undefined): s is Slot & { frame: Frame } => typeof s?.frame === "object" && !s.swapped;
    const offered = (s: Slot | undefined, m: number, p: number): boolean => s !== undefined && s.mergeable && this.hasAnonVma(m, p);
    const errors = [
      [a, mm, stays],
      [b, mm2, goes],
    ].map(([s, m, p]) =>
      !offered(s as Slot | undefined, m as number, p as number) ? -EINVAL : there(s as Slot | undefined) ? 0 : -EFAULT,
    );
    // A page that only this process has is protected first, which shows who holds it; what is protected and clean is not asked.
    const pin = held === 0 && there(b) && b.prot !== 0 && a?.frame !== b.frame ? this.pin(mm2, goes, b) : -1;
    const r = h.run(h.mm.ksm.mergeTwo, mm, stays * PAGE, goes * PAGE, mm2);
    if (pin >= 0) h.mm.frames.put(pin);
    if (!there(a) || !there(b) || errors[0]! < 0 || errors[1]! < 0) return expect(r).toBe(errors[0]! < 0 ? errors[0] : errors[1]);
    if (a.frame === b.frame) return expect(r).toBe(0);
    const was = a.frame.ksm;
    const [bigA, bigB] = [this.big.has(a.frame), this.big.has(b.frame)];
    const together = bigA && this.big.get(a.frame) === this.big.get(b.frame);
    // The references of two pages of one huge page are one too many for its split, as another's is.
    if (together && (pin >= 0 || h.d.thpSplit === "freeze")) {
      expect(r, "of one huge page").toBe(-EAGAIN);
      return expect(this.isHuge(a.frame)).toBe(pin >= 0 || h.d.ksmSameHugePage === "left");
    }
    a.frame.ksm = true;
    if (bigB && pin >= 0) {
      expect(r, "a huge page that is held").toBe(-EAGAIN);
      expect(this.isHuge(b.frame)).toBe(true);
      if (!was) this.unmerge(a);
      return;
    }
    for (const f of [a.frame, b.frame]) expect(this.isHuge(f)).toBe(false);
    if (this.gaveWay(a.frame)) return expect(r, "the first page gave way").toBe(-EFAULT);
    if (this.gaveWay(b.frame)) {
      expect(r, "the second page gave way").toBe(-EFAULT);
      if (!was) this.unmerge(a);
      return;
    }
    const same = a.frame.words.every((w, i) => w === b.frame.words[i]);
    if (r === 0) {
      expect(same, "equal").toBe(true);
      b.frame = a.frame;
      return;
    }
    if (pin < 0) expect([r, same]).toEqual([-EBUSY, false]);
    if (!was) this.unmerge(a); // break_cow
  }

  /** A split has given its page of zeroes to the zero page (v6.12 on). */
  private gaveWay(frame: Frame): boolean {
    return this.h.d.splitZeroPages !== "none" && this.big.has(frame) && !this.isHuge(frame) && frame.words.every((w) => w === 0);
  }
  private afterSplits(): void {
    if (this.h.d.splitZeroPages === "none") return;
    for (const process of this.processes.values())
      for (const s of process.values()) if (typeof s.frame === "object" && this.gaveWay(s.frame)) s.frame = "zero";
  }

  /** It is part of a huge page now. */
  private isHuge(frame: Frame): boolean {
    return this.h.mm.frames.isThp(this.pfns.get(frame)!);
  }

  /** split_huge_page. */
  private split(mm: number, page: number, s: Slot | undefined, held: number): void {
    const { h } = this;
    const frame = typeof s?.frame === "object" && this.big.has(s.frame) ? s.frame : undefined;
    const pin = held === 0 && frame !== undefined ? this.pin(mm, page, s!) : -1;
    const r = h.run(h.mm.huge.splitHugePage, mm, page * PAGE);
    if (pin >= 0) h.mm.frames.put(pin);
    if (frame === undefined) return;
    expect(r).toBe(pin >= 0 ? -EBUSY : 0);
    expect(this.isHuge(frame)).toBe(pin >= 0);
  }

  /** A reference as GUP takes one, if the page may be read as it is. */
  private pin(mm: number, page: number, s: Slot): number {
    const { gup } = this.h.mm;
    return s.swapped ? -1 : gup.gupFast(mm, page * PAGE, false);
  }

  private mremap(mm: number, process: Process, s: Extract<Step, { op: "mremap" }>): void {
    const { h } = this;
    const from = place(s.page);
    const to = place(s.to, 2 * PAGES);
    let n = 0;
    const { vmas } = h.mm;
    const v = vmas.covering(mm, from * PAGE);
    while (n < s.pages && process.has(from + n) && (from + n) * PAGE < vmas.end(v)) n++;
    if (n === 0 || (from + n > to && to + n > from)) return;
    const keep = s.keep && h.d.mremapDontunmap && (process.get(from)!.file === undefined || h.d.mremapDontunmapFiles === "allowed");
    const flags = MREMAP_MAYMOVE | MREMAP_FIXED | (keep ? MREMAP_DONTUNMAP : 0);
    expect(h.run(h.mm.syscalls.mremap, mm, from * PAGE, n * PAGE, n * PAGE, flags, to * PAGE)).toBe(to * PAGE);
    for (let i = 0; i < n; i++) {
      const q = process.get(from + i)!;
      if (q.mergeable) this.unmerge(q);
      process.set(to + i, { ...q });
      if (keep) Object.assign(q, { frame: undefined, swapped: false });
      else process.delete(from + i);
    }
  }

  /** What kernel threads and broken memory do reaches a page wherever it is. */
  private kernel(op: "migrate" | "reclaim" | "poison", mm: number, process: Process, page: number, held: number): void {
    const { h } = this;
    const s = process.get(page);
    const present = s?.frame !== undefined && s.frame !== POISON && !s.swapped;
    if (op === "poison") {
      if (!present || s.frame === "zero" || (s.prot & PROT_READ) === 0) return;
      // Whether a huge page is copied is seen before its page is lost.
      if (this.big.has(s.frame as Frame)) h.gupPage(mm, page, 0);
      const frame = this.fault(mm, page, h.d.gupReadBreaksCow && (s.prot & PROT_WRITE) !== 0) as Frame;
      if (frame.ksm && h.d.hwpoisonKsm === "refused") return; // it stays where it is: shown below
      expect(this.advise(mm, page, 1, M.MADV_HWPOISON)).toBe(0);
      // What is in the swap is found to be broken when it comes back.
      for (const q of this.naming(frame)) q.frame = POISON;
      this.lost++;
      return;
    }
    const pin = held === 0 && present && s.frame !== "zero" ? h.mm.gup.gupFast(mm, page * PAGE, false) : -1;
    const r = op === "migrate" ? h.run(h.mm.migrate.migratePage, mm, page * PAGE) : h.run(h.mm.reclaim.reclaimPage, mm, page * PAGE, 1);
    if (!present) return expect(r, op).toBe(-ENOENT);
    if (s.frame === "zero") return expect(r, op).toBe(-EBUSY);
    if (pin >= 0) h.mm.frames.put(pin);
    // A huge page is not swapped out, and moves only as a whole.
    if (this.big.has(s.frame as Frame)) return expect(op === "reclaim" ? [-EBUSY] : [0, -EBUSY, -EAGAIN]).toContain(r);
    expect(r, op).toBe(pin >= 0 ? -EAGAIN : 0);
    if (op === "migrate" || r < 0) return;
    const frame = s.frame as Frame;
    frame.swapcache = true;
    for (const q of this.naming(frame)) q.swapped = true;
  }

  /** Which entries share a page, what KSM has, how they are mapped. */
  wrong(): string | undefined {
    this.afterSplits();
    const { pt, frames } = this.h.mm;
    const pfns = new Map<number, Frame>();
    const found = new Map<Frame, number>();
    for (const [mm, process] of this.processes)
      for (const [p, s] of process) {
        const where = `mm ${mm} page ${p - FIRST}`;
        pt.walk(mm, p * PAGE);
        if (pt.none !== (s.frame === undefined)) return `${where}: ${pt.none ? "no entry" : "an entry"}, ${typeof s.frame}`;
        if (s.frame === undefined) continue;
        const swap = pt.leafLevel < 0 && swapEntryType(pt.lo) === SWP_SWAP;
        if (s.frame === POISON) {
          if (pt.leafLevel >= 0) return `${where}: broken and mapped`;
          continue;
        }
        if (swap !== s.swapped) return `${where}: ${swap ? "swapped" : "mapped"}`;
        const pfn = swap ? swapEntryPfn(pt.lo, pt.hi) : pt.leafPfn;
        if ((s.frame === "zero") !== (frames.isZeroPage(pfn) || frames.isHugeZeroPage(pfn))) return `${where}: the zero page, or not`;
        if (s.frame === "zero") continue;
        const other = pfns.get(pfn) ?? s.frame;
        if (other !== s.frame || (found.get(s.frame) ?? pfn) !== pfn) return `${where}: shares its page with others than it should`;
        pfns.set(pfn, s.frame);
        found.set(s.frame, pfn);
        if (((frames.flags(pfn) & FRAME_KSM) !== 0) !== s.frame.ksm) return `${where}: ${s.frame.ksm ? "not " : ""}a page of KSM`;
        if (s.frame.ksm && pt.writable) return `${where}: a page of KSM is writable`;
        if ((frames.flags(pfn) & FRAME_ANON) === 0) return `${where}: not anonymous`;
        if (s.frame.ksm && frames.isThp(pfn)) return `${where}: a page of KSM is part of a huge page`;
        if (this.still && (this.pfns.get(s.frame) ?? pfn) !== pfn) return `${where}: its page is another`;
      }
    this.pfns = found;
    this.big = new Map([...found].filter(([, pfn]) => frames.isThp(pfn)).map(([frame, pfn]) => [frame, frames.head(pfn)]));
    return this.lost > 0 ? this.h.stale() : this.h.wrong(this.contents());
  }

  private contents(): Map<number, Contents> {
    const out = new Map<number, Contents>();
    for (const [mm, process] of this.processes) {
      const copy: Contents = new Map();
      for (const [p, s] of process) {
        const own = typeof s.frame === "object" ? s.frame.words : undefined;
        copy.set(p, { prot: s.prot, shared: false, file: s.file, pgoff: s.pgoff, own, dontcopy: false, wipe: false });
      }
      out.set(mm, copy);
    }
    return out;
  }

  end(): void {
    for (const mm of [...this.processes.keys()].reverse()) if (mm !== 0) this.h.run(this.h.mm.syscalls.exitMm, mm);
    expect(this.h.run(this.h.mm.syscalls.munmap, 0, 0, 2 ** 48)).toBe(0);
    this.h.mm.files.put(this.file.file);
    expect(this.h.mm.frames.allocated - this.frames0, "broken pages").toBe(this.lost);
  }
}

function check(era: string, steps: readonly Step[]): void {
  const p = new Program(era);
  play(
    steps,
    (s) => p.do(s),
    () => p.wrong(),
  );
  p.end();
}

describe("random programs whose pages are merged: contents, sharing and entries are what a naive list has", () => {
  for (const era of ["v4.0", "v4.10", "v5.4", "v5.8", "v6.1", "v7.2.12"]) {
    it(era, () => {
      fc.assert(
        fc.property(fc.array(step, { minLength: stepsOr(10), maxLength: 60 }), (steps) => check(era, steps)),
        { numRuns: runsOr(3), seed: SEED, endOnFailure: LONG },
      );
    });
  }
});

describe("short programs that random ones of this length seldom are", () => {
  const store = (page: number, who = 0) => ({ op: "store", who, page, place: 0, value: 2 }) as const;
  const move = (page: number, to: number) => ({ op: "mremap", who: 0, page, pages: 1, to, keep: false }) as const;
  const merge = { op: "merge", who: 0, page: 0, with: 0, other: 1, held: 1 } as const;
  const kernel = (op: "migrate" | "reclaim", page: number) => ({ op, who: 0, page, held: 1 }) as const;

  it("a page that one of two processes has moved is found in both; what is merged is found at both addresses, and does not move", () => {
    for (const era of ["v4.0", "v7.2.12"]) {
      check(era, [store(0), { op: "fork", who: 0, page: 0 }, move(0, 12), kernel("migrate", 12), kernel("reclaim", 12)]);
      check(era, [store(0), store(1), merge, kernel("migrate", 0), kernel("reclaim", 1)]);
      check(era, [store(0), store(1), merge, move(0, 20), store(1), kernel("migrate", 1)]);
    }
  });
});
