/**
 * Random programs that declare pages broken, compared with a naive list: of each process which page stands at each address, or that a
 * broken one stood there. Written from mm/memory-failure.c and mm/madvise.c madvise_inject_error.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FOLL_HWPOISON, FOLL_WRITE } from "../../src/mmu/gup.js";
import { MADV_DONTNEED, MADV_HWPOISON } from "../../src/mmu/madvise.js";
import { SWP_SWAP, swapEntryType } from "../../src/mmu/pte.js";
import { HOST_SIGBUS_MCEERR_AR, HOST_SIGSEGV } from "../../src/mmu/useraccess.js";
import { MAP_ANONYMOUS, MAP_FIXED, MAP_HUGE_SHIFT, MAP_HUGETLB, MAP_PRIVATE, MAP_SHARED } from "../../src/mmu/vmflags.js";
import { EBUSY, EFAULT, EHWPOISON, EINVAL } from "../../src/sim/errno.js";
import { Bench } from "./faultbench.js";
import { Host, LONG, PAGE, PLACES, play, runsOr, SEED, stepsOr, type Words } from "./naivememory.js";

const AT = 0x40_0000_0000;
const FIRST = AT / PAGE;
const FILE_PAGES = 48;

/** A page of memory; `big` where it is part of a 2 MiB page. */
interface Frame {
  words: Words;
  poison: boolean;
  big: boolean;
}
const POISON = "poison";
interface File {
  readonly file: number;
  readonly span: number;
  readonly kind: "shmem" | "regular" | "hugetlb";
  readonly pages: Map<number, Frame>;
}
interface Slot {
  readonly shared: boolean;
  readonly file: File | undefined;
  readonly pgoff: number;
  /** What the entry names; "zero" the zero page. */
  entry: Frame | typeof POISON | "zero" | undefined;
}
type Process = Map<number, Slot>;

const AREAS = [
  { kind: "anon", at: 0, pages: 512 },
  { kind: "shmem", at: 600, pages: FILE_PAGES },
  { kind: "shmem", at: 700, pages: FILE_PAGES },
  { kind: "shmemPrivate", at: 800, pages: FILE_PAGES },
  { kind: "regular", at: 900, pages: FILE_PAGES },
  { kind: "cont", at: 1024, pages: FILE_PAGES },
  { kind: "contShared", at: 1120, pages: FILE_PAGES },
  { kind: "contShared", at: 1200, pages: FILE_PAGES },
  { kind: "contPrivate", at: 1280, pages: FILE_PAGES },
  { kind: "anon", at: 1400, pages: 16 },
] as const;

const area = fc.nat(AREAS.length - 1);
const offset = fc.oneof({ weight: 4, arbitrary: fc.nat(4) }, { weight: 1, arbitrary: fc.constantFrom(15, 16, 17, 31, 47, 511) });
const who = fc.nat(1);
const step = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      op: fc.constantFrom("load" as const, "store" as const),
      who,
      area,
      offset,
      place: fc.nat(1),
      value: fc.integer({ min: 1, max: 3 }),
    }),
  },
  { weight: 4, arbitrary: fc.record({ op: fc.constantFrom("gup" as const, "gupWrite" as const), who, area, offset, kvm: fc.boolean() }) },
  {
    weight: 6,
    arbitrary: fc.record({ op: fc.constant("poison" as const), who, area, offset, pages: fc.constantFrom(1, 1, 2, 17), held: fc.nat(4) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constantFrom("dontneed" as const, "remap" as const),
      who,
      area,
      offset,
      pages: fc.constantFrom(1, 2, 16, 64),
    }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constantFrom("punch" as const, "truncate" as const), huge: fc.boolean(), offset }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constantFrom("fork" as const, "exit" as const) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constantFrom("migrate" as const, "reclaim" as const, "split" as const), who, area, offset }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

type At = Extract<Step, { who: number }>;

class Program {
  readonly h: Host;
  private readonly processes = new Map<number, Process>([[0, new Map()]]);
  private readonly shmem: File;
  private readonly huge: File;
  private readonly regular: File;
  private readonly frames0: number;
  /** Broken frames: none is ever used again. */
  private readonly lost = new Set<Frame>();
  private lostPages = 0;

  constructor(era: string, thp: "always" | "never") {
    const h = (this.h = new Host(era, thp));
    this.frames0 = h.mm.frames.allocated;
    const size = FILE_PAGES * PAGE;
    this.shmem = { file: h.mm.files.createMemfd(size), span: 1, kind: "shmem", pages: new Map() };
    this.huge = { file: h.mm.files.createHugetlb(size, 4), span: 16, kind: "hugetlb", pages: new Map() };
    this.regular = { file: h.mm.files.openReadOnly(size, 3), span: 1, kind: "regular", pages: new Map() };
    for (let i = 0; i < AREAS.length; i++) this.map(0, i);
  }

  private map(mm: number, i: number): void {
    const { kind, at, pages } = AREAS[i]!;
    const shared = kind === "shmem" || kind === "contShared";
    const named = kind.startsWith("shmem")
      ? this.shmem
      : kind === "regular"
        ? this.regular
        : kind === "contShared" || kind === "contPrivate"
          ? this.huge
          : undefined;
    let flags = (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED | (named === undefined ? MAP_ANONYMOUS : 0);
    if (kind === "cont") flags |= MAP_HUGETLB | (16 << MAP_HUGE_SHIFT);
    const start = FIRST + at;
    const own = this.h.mm.files.count;
    for (let k = 0; k < pages; k++) this.processes.get(mm)!.delete(start + k);
    if (this.h.mmap(mm, start * PAGE, pages * PAGE, 3, flags, named?.file ?? -1, 0) < 0) return; // no huge page is left
    const file = kind === "cont" ? ({ file: own, span: 16, kind: "hugetlb", pages: new Map() } as const) : named;
    for (let k = 0; k < pages; k++) this.processes.get(mm)!.set(start + k, { shared, file, pgoff: k, entry: undefined });
  }

  private whose(n: number): [number, Process] {
    const all = [...this.processes];
    return all[n % all.length]!;
  }
  private page(s: { area: number; offset: number }): number {
    const { at, pages } = AREAS[s.area]!;
    return FIRST + at + (s.offset % pages);
  }
  private areaOf(page: number): number {
    return AREAS.findIndex((a) => page - FIRST >= a.at && page - FIRST < a.at + a.pages);
  }
  private whole(process: Process, page: number): Slot[] {
    const span = process.get(page)!.file?.span ?? 1;
    const first = page - (page % span);
    return Array.from({ length: span }, (_, i) => process.get(first + i)!);
  }
  private fresh(words: Words = [0, 0]): Frame {
    return { words, poison: false, big: false };
  }
  private *slots(): Iterable<Slot> {
    for (const p of this.processes.values()) yield* p.values();
  }

  /** A fault at a page. @returns its page, or what comes instead */
  private fault(mm: number, process: Process, page: number, write: boolean): Frame | "zero" | "segv" | typeof POISON {
    const s = process.get(page);
    if (s === undefined) return "segv";
    if (s.entry === undefined) {
      const bad = this.populate(mm, process, page, s, write);
      if (bad) return POISON;
    }
    const e = s.entry!;
    if (e === POISON) return POISON;
    if (e !== "zero" && e.poison) return POISON;
    if (!write || s.shared) return e;
    // What others have too, and what is a file's, is copied.
    for (const q of this.whole(process, page)) {
      const from = q.entry as Frame | "zero";
      const others =
        [...this.slots()].some((o) => o !== q && o.entry === from) ||
        (from !== "zero" && [...(q.file?.pages.values() ?? [])].includes(from));
      if (from === "zero") q.entry = this.fresh();
      else if (others) q.entry = this.fresh([...from.words]);
    }
    return s.entry as Frame;
  }

  private populate(mm: number, process: Process, page: number, s: Slot, write: boolean): boolean {
    const { file } = s;
    if (file === undefined) {
      s.entry = write ? this.fresh() : "zero";
      return false;
    }
    if (file.span === 1 && !write) {
      const { vmas } = this.h.mm;
      const v = vmas.covering(mm, page * PAGE);
      const start = Math.max(page - (page % 16), vmas.start(v) / PAGE);
      for (let p = start; p < Math.min(start + 16, vmas.end(v) / PAGE); p++) {
        const q = process.get(p)!;
        const cached = file.pages.get(q.pgoff);
        if (q.entry === undefined && cached !== undefined && !cached.poison) q.entry = cached;
      }
      if (s.entry !== undefined) return false;
    }
    for (const q of this.whole(process, page)) {
      let cached = file.pages.get(q.pgoff);
      if (cached?.poison === true) return true;
      if (cached === undefined) {
        const disk =
          file.kind === "regular" ? (PLACES.map((at) => this.h.mm.files.contentWord(file.file, q.pgoff * PAGE + at)) as Words) : undefined;
        cached = this.fresh(disk);
        // A private mapping of hugetlb does not put into the file what it faults in.
        if (s.shared || file.span === 1) file.pages.set(q.pgoff, cached);
      }
      q.entry = cached;
    }
    return false;
  }

  /** The 2 MiB page that the kernel has taken, if it has. */
  private seeHuge(): void {
    const { pt, frames } = this.h.mm;
    for (const [mm, process] of this.processes) {
      const huge = pt.walk(mm, AT) && pt.leafLevel === 2;
      const zero = huge && frames.isHugeZeroPage(pt.leafPfn);
      for (let p = FIRST; p < FIRST + 512; p++) {
        const s = process.get(p);
        if (s === undefined) break;
        if (huge && s.entry === undefined) s.entry = zero ? "zero" : this.fresh();
        if (huge && s.entry === "zero" && !zero) s.entry = this.fresh();
        if (typeof s.entry === "object") s.entry.big = frames.isThp(pt.walk(mm, p * PAGE) ? pt.leafPfn : 0);
      }
    }
  }

  do(s: Step): void {
    const { h } = this;
    if (s.op === "fork") {
      if (this.processes.size > 1) return;
      const child = h.run(h.mm.syscalls.fork, 0);
      h.hear(child);
      const copy: Process = new Map();
      for (const [p, q] of this.processes.get(0)!) copy.set(p, { ...q });
      // What a fault brings back is not copied, of files: the list asks which entries the child has.
      for (const [p, q] of copy)
        if (h.mm.pt.walk(child, p * PAGE) || !h.mm.pt.none) continue;
        else q.entry = undefined;
      this.processes.set(child, copy);
    } else if (s.op === "exit") {
      const child = [...this.processes.keys()][1];
      if (child === undefined) return;
      h.run(h.mm.syscalls.exitMm, child);
      this.processes.delete(child);
    } else if (s.op === "punch" || s.op === "truncate") this.cut(s.huge ? this.huge : this.shmem, s.offset % FILE_PAGES, s.op === "punch");
    else this.at(s as At);
    this.seeHuge();
  }

  private at(s: At): void {
    const { h } = this;
    const [mm, process] = this.whose(s.who);
    const page = this.page(s);
    const what = `${s.op} of page ${page - FIRST}`;
    switch (s.op) {
      case "load":
      case "store": {
        const want = this.fault(mm, process, page, s.op === "store");
        const r = h.run(h.mm.hostAccess, mm, page * PAGE + PLACES[s.place]!, 4, s.op === "store" ? 1 : 0, s.value, 0);
        if (want === "segv" || want === POISON) return expect(r, what).toBe(want === "segv" ? HOST_SIGSEGV : HOST_SIGBUS_MCEERR_AR);
        expect(r, what).toBe(0);
        if (s.op === "load") expect(h.sim.agents.result(0, 1), what).toBe(want === "zero" ? 0 : want.words[s.place]);
        else (want as Frame).words[s.place] = s.value;
        return;
      }
      case "gup":
      case "gupWrite": {
        const breaks = h.d.gupReadBreaksCow && process.get(page)?.shared === false;
        const want = this.fault(mm, process, page, s.op === "gupWrite" || breaks);
        const r = h.gupPage(mm, page, (s.op === "gupWrite" ? FOLL_WRITE : 0) | (s.kvm ? FOLL_HWPOISON : 0));
        return expect(r, what).toBe(want === POISON && s.kvm ? -EHWPOISON : want === "segv" || want === POISON ? -EFAULT : 0);
      }
      case "poison":
        return this.poison(mm, process, page, s.pages, s.held);
      case "dontneed": {
        const hugetlb = process.get(page)?.file?.kind === "hugetlb";
        const span = hugetlb ? 16 : 1;
        const start = page - (page % span);
        const n = Math.min(Math.ceil(s.pages / span) * span, AREAS[s.area]!.pages - (start - FIRST - AREAS[s.area]!.at));
        const r = h.run(h.mm.syscalls.madvise, mm, start * PAGE, n * PAGE, MADV_DONTNEED);
        if (!process.has(page)) return;
        expect(r, what).toBe(hugetlb && !h.d.madviseDontneedHugetlb ? -EINVAL : 0);
        if (r === 0) for (let p = start; p < start + n; p++) process.get(p)!.entry = undefined;
        return;
      }
      case "remap":
        return this.map(mm, s.area);
      default: {
        const q = process.get(page);
        if (s.op === "migrate") h.run(h.mm.migrate.migratePage, mm, page * PAGE);
        else if (s.op === "split") h.run(h.mm.huge.splitHugePage, mm, page * PAGE);
        else if (h.run(h.mm.reclaim.reclaimPage, mm, page * PAGE, 1) === 0 && q?.file !== undefined && typeof q.entry === "object") {
          const { entry } = q;
          // A file's page is mapped nowhere any more.
          if (q.file.pages.get(q.pgoff) === entry) for (const o of this.slots()) if (o.entry === entry) o.entry = undefined;
        }
      }
    }
  }

  /** madvise_inject_error. @param held 0: somebody holds the first page, if it is part of a 2 MiB page */
  private poison(mm: number, process: Process, page: number, pages: number, held: number): void {
    const { h } = this;
    // The page is there before, so that it is seen whether it is part of a 2 MiB page.
    this.do({
      op: "load",
      who: [...this.processes.keys()].indexOf(mm),
      area: this.areaOf(page),
      offset: page - FIRST - AREAS[this.areaOf(page)]!.at,
      place: 0,
      value: 0,
    });
    let want = 0;
    const first = process.get(page)?.entry;
    const pin = held === 0 && typeof first === "object" && first.big ? h.mm.gup.gupFast(mm, page * PAGE, false) : -1;
    for (let p = page; p < page + pages;) {
      const s = process.get(p);
      const breaks = h.d.gupReadBreaksCow && s?.shared === false;
      const e = this.fault(mm, process, p, breaks);
      if (e === "segv" || e === POISON) {
        want = -EFAULT;
        break;
      }
      if (e === "zero") {
        if (h.d.hwpoisonErrors === "returned") {
          want = -EBUSY;
          break;
        }
        p++;
        continue;
      }
      // try_to_split_thp_page: whoever else holds it refuses that.
      if (pin >= 0) {
        want = -EBUSY;
        break;
      }
      const all = this.whole(process, p);
      const { big } = e;
      for (const q of all) {
        const frame = q.entry as Frame;
        frame.poison = true;
        const filed = q.file?.pages.get(q.pgoff) === frame;
        const clean = filed && q.file.kind === "regular";
        for (const o of this.slots()) if (o.entry === frame) o.entry = clean ? undefined : POISON;
        if (filed && (clean || h.d.hwpoisonFilePage === "removed")) q.file.pages.delete(q.pgoff);
        this.lost.add(frame);
      }
      this.lostPages += all.length;
      // What follows a 2 MiB page is next, as if it began here.
      p += big ? 512 : all.length;
    }
    const r = h.run(h.mm.syscalls.madvise, mm, page * PAGE, pages * PAGE, MADV_HWPOISON);
    if (pin >= 0) h.mm.frames.put(pin);
    expect(r, `poison of ${pages} from ${page - FIRST}`).toBe(want);
  }

  private cut(file: File, page: number, hole: boolean): void {
    const { h } = this;
    const span = file.span;
    const from = page - (page % span);
    const to = hole ? from + span : FILE_PAGES;
    // Before v5.18 a truncation passes over what is in the swap.
    const stays = new Set(h.d.truncatedPoison ? [] : this.inSwap());
    if (hole) expect(h.run(h.mm.syscalls.fallocate, file.file, 3, from * PAGE, span * PAGE)).toBe(0);
    else {
      expect(h.run(h.mm.syscalls.ftruncate, file.file, from * PAGE)).toBe(0);
      expect(h.run(h.mm.syscalls.ftruncate, file.file, FILE_PAGES * PAGE)).toBe(0);
    }
    for (const s of this.slots()) {
      if (s.file !== file || s.pgoff < from || s.pgoff >= to || s.entry === undefined || stays.has(s)) continue;
      if (s.entry === POISON) {
        if (file.kind === "hugetlb" || (hole ? h.d.holePoison : h.d.truncatedPoison)) s.entry = undefined;
      } else if (!hole || file.kind === "hugetlb" || file.pages.get(s.pgoff) === s.entry) s.entry = undefined;
    }
    for (const p of [...file.pages.keys()]) if (p >= from && p < to) file.pages.delete(p);
  }

  private *inSwap(): Iterable<Slot> {
    const { pt } = this.h.mm;
    for (const [mm, process] of this.processes)
      for (const [p, s] of process) if (!pt.walk(mm, p * PAGE) && !pt.none && swapEntryType(pt.lo) === SWP_SWAP) yield s;
  }

  wrong(): string | undefined {
    const { pt } = this.h.mm;
    for (const [mm, process] of this.processes)
      for (const [p, s] of process) {
        pt.walk(mm, p * PAGE);
        if (pt.none !== (s.entry === undefined))
          return `mm ${mm} page ${p - FIRST}: ${pt.none ? "no entry" : "an entry"}, ${typeof s.entry}`;
        if (s.entry === POISON && pt.leafLevel >= 0) return `mm ${mm} page ${p - FIRST}: broken and mapped`;
      }
    return this.h.stale();
  }

  end(): void {
    this.do({ op: "exit" });
    expect(this.h.run(this.h.mm.syscalls.munmap, 0, 0, 2 ** 48)).toBe(0);
    for (const f of [this.shmem, this.huge, this.regular]) this.h.mm.files.put(f.file);
    expect(this.h.mm.frames.allocated - this.frames0, "broken pages").toBe(this.lostPages);
  }
}

function check(era: string, thp: "always" | "never", steps: readonly Step[]): void {
  const p = new Program(era, thp);
  play(
    steps,
    (s) => p.do(s),
    () => p.wrong(),
  );
  p.end();
}

describe("random programs that break pages: who is told, what is lost and what later accesses find is what a naive list has", () => {
  for (const [era, thp] of [
    ["v4.10", "never"],
    ["v5.4", "always"],
    ["v5.8", "never"],
    ["v5.10.223", "always"],
    ["v5.14", "always"],
    ["v6.1.192", "never"],
    ["v6.12", "always"],
    ["v7.2.12", "never"],
  ] as const) {
    it(`${era}, transparent huge pages ${thp}`, () => {
      fc.assert(
        fc.property(fc.array(step, { minLength: stepsOr(10), maxLength: 50 }), (steps) => check(era, thp, steps)),
        { numRuns: runsOr(3), seed: SEED, endOnFailure: LONG },
      );
    });
  }
});

describe("short programs that random ones of this length seldom are", () => {
  /** Area 9 is anonymous and has small pages alone. */
  const at = (who: number) => ({ who, area: 9, offset: 0 });
  const load = (who: number) => ({ op: "load", ...at(who), place: 0, value: 1 }) as const;

  it("a page of the swap is found to be broken when it comes back", () => {
    for (const era of ["v5.14", "v7.2.12"])
      check(era, "never", [
        { op: "store", ...at(0), place: 0, value: 2 },
        { op: "fork" },
        { op: "reclaim", ...at(0) },
        load(0),
        { op: "poison", ...at(0), pages: 1, held: 1 },
        load(1),
      ]);
  });
});

describe("broken pages by release", () => {
  const RW = 3;
  const madvise = (b: Bench, advice: number) => b.run(b.mm.syscalls.madvise, 0, AT, PAGE, advice);
  const file = (era: string) => {
    const b = new Bench(era);
    const memfd = b.mm.files.createMemfd(PAGE);
    b.map(AT, PAGE, RW, MAP_SHARED | MAP_FIXED, memfd);
    b.write(AT, 7);
    expect(madvise(b, MADV_HWPOISON)).toBe(0);
    expect(b.read(AT)).toBe(HOST_SIGBUS_MCEERR_AR);
    return { b, memfd };
  };

  it("hwpoisonErrors: the zero page cannot be broken, and who asked is told so or not", () => {
    const zero = (era: string) => {
      const b = new Bench(era);
      b.map(AT, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED);
      b.read(AT);
      return madvise(b, MADV_HWPOISON);
    };
    expect([zero("v4.0"), zero("v4.10")]).toEqual([0, -EBUSY]);
  });

  it("hwpoisonFilePage: a later fault finds zeros, or the broken page", () => {
    const again = (era: string) => {
      const { b } = file(era);
      madvise(b, MADV_DONTNEED);
      return b.read(AT);
    };
    expect([again("v5.14"), again("v6.1")]).toEqual([0, HOST_SIGBUS_MCEERR_AR]);
  });

  it("truncatedPoison: a private page in the swap outlives the truncation of its file, or not", () => {
    const again = (era: string) => {
      const b = new Bench(era);
      const memfd = b.mm.files.createMemfd(PAGE);
      b.map(AT, PAGE, RW, MAP_PRIVATE | MAP_FIXED, memfd);
      b.write(AT, 7);
      expect(b.run(b.mm.reclaim.reclaimPage, 0, AT, 1)).toBe(0);
      b.run(b.mm.syscalls.ftruncate, memfd, 0);
      return b.read(AT) === 0 ? b.result(1) : "SIGBUS";
    };
    expect([again("v5.14"), again("v6.1")]).toEqual([7, "SIGBUS"]);
  });

  it("truncatedPoison: the entry of a broken page outlives the truncation of its file, or not", () => {
    const again = (era: string) => {
      const { b, memfd } = file(era);
      b.run(b.mm.syscalls.ftruncate, memfd, 0);
      b.run(b.mm.syscalls.ftruncate, memfd, PAGE);
      return b.read(AT);
    };
    expect([again("v5.14"), again("v6.1")]).toEqual([HOST_SIGBUS_MCEERR_AR, 0]);
  });

  it("holePoison: the entry of a broken page outlives a hole in its file, or not; a private page in the swap always does", () => {
    const again = (era: string) => {
      const { b, memfd } = file(era);
      expect(b.run(b.mm.syscalls.fallocate, memfd, 3, 0, PAGE)).toBe(0);
      return b.read(AT);
    };
    expect([again("v5.10"), again("v5.10.223"), again("v6.1")]).toEqual([HOST_SIGBUS_MCEERR_AR, 0, HOST_SIGBUS_MCEERR_AR]);
    const swapped = (era: string) => {
      const b = new Bench(era);
      const memfd = b.mm.files.createMemfd(PAGE);
      b.map(AT, PAGE, RW, MAP_PRIVATE | MAP_FIXED, memfd);
      b.write(AT, 7);
      expect(b.run(b.mm.reclaim.reclaimPage, 0, AT, 1)).toBe(0);
      expect(b.run(b.mm.syscalls.fallocate, memfd, 3, 0, PAGE)).toBe(0);
      return b.read(AT) === 0 ? b.result(1) : "SIGBUS";
    };
    expect([swapped("v5.10"), swapped("v5.10.223"), swapped("v6.1")]).toEqual([7, 7, 7]);
  });
});
